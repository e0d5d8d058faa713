"""What all commands have in common: help, forms of output, errors, exit codes."""

from __future__ import annotations

import argparse
import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.new_interpreter import run_python
from support.site import HOME, TrialSite

import compute_to_data
from compute_to_data.cli import main as main_module
from compute_to_data.cli.exits import MEANINGS, ExitCode
from compute_to_data.cli.main import main, parser
from compute_to_data.cli.output import Output

C2D = [sys.executable, "-m", "compute_to_data.cli.main"]


@pytest.fixture(autouse=True)
def _own(own_files: Path) -> None:
    pass


def commands(top: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command's words."""
    below = [action for action in top._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield words
    for action in below:
        for name, found in action.choices.items():
            yield from commands(found, (*words, name))


@pytest.mark.parametrize("words", list(commands(parser())), ids=" ".join)
def test_each_command_has_help_with_an_example(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"example:\n  c2d {' '.join(words)}" in said
    for option in ("--format", "--debug", "--config-file", "--session-file"):
        assert option in said


def test_help_imports_few_modules() -> None:
    """It counts modules, because times depend on the host. The benchmark measures times."""
    program = "import sys, compute_to_data.cli.main as m\ntry: m.main(['--help'])\nfinally: print(*sys.modules)"
    done = run_python(program)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "compute_to_data.cli.projects" in loaded
    assert not loaded & {"irods", "docker", "sqlite3", "subprocess", "socket", "asyncio", "concurrent.futures"}


@pytest.mark.parametrize("module", ["compute_to_data.cli.main", "compute_to_data.plain_text"])
def test_ctrl_c_while_it_loads_ends_it_quietly(module: str) -> None:
    program = f"""
import os, signal, sys
class Presses:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Presses())
from compute_to_data.cli.start import main
sys.exit(main())
"""
    done = run_python(program, "version")
    assert (done.returncode, done.stdout, done.stderr) == (ExitCode.INTERRUPTED, "", "c2d: interrupted\n")


def test_an_incomplete_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["project"], ["--debug", "workload"]):
        assert main(words) == ExitCode.USAGE
        said = capsys.readouterr()
        assert said.out == ""
        assert "list" in said.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "image"], "as in: -- wc -l FILE"),
        (["run", "image", "--"], "as in: -- wc -l FILE"),
        (["run", "image", "wc", "-l"], "no program is given: write it after --, before wc -l"),
        (["task", "create", "w-1", "wc"], "no program is given: write it after --, before wc"),
        (["run", "image", "x", "--", "wc"], "unrecognized arguments: x"),
        (["list", "x"], "unrecognized arguments: x"),
    ],
)
def test_a_program_must_follow_two_dashes(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == ExitCode.USAGE
    assert expected in capsys.readouterr().err


def test_closed_streams_count_as_empty(site: TrialSite) -> None:
    def closed(number: int, *words: str) -> tuple[int, bytes]:
        command = [sys.executable, "-m", "compute_to_data.cli.main", *words]
        script = f'exec "$@" {number}{"<" if number == 0 else ">"}&-'
        done = subprocess.run(["sh", "-c", script, "sh", *command], capture_output=True, timeout=60, check=False)
        return done.returncode, done.stderr

    code, said = closed(0, "submit", "-")
    assert (code, b"standard input: is empty" in said) == (ExitCode.REFUSED, True)
    assert closed(0, "dataset", "remove", "d-000000000000")[0] == ExitCode.REFUSED
    assert closed(1, "project", "show") == (0, b"")
    assert closed(2, "project", "set", "nowhere")[0] == ExitCode.NOT_FOUND


def test_after_ctrl_c_at_any_instant_the_exit_code_is_the_commands(tmp_path: Path) -> None:
    """Also when it arrives while Python runs code from a text: then ``python -m`` would end by the signal."""
    (tmp_path / "sitecustomize.py").write_text(
        "import argparse\n"
        "def interrupted(*words): exec('raise KeyboardInterrupt')\n"
        "argparse.ArgumentParser.parse_known_args = interrupted\n"
    )
    command = [sys.executable, "-m", "compute_to_data.cli.main", "list"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (ExitCode.INTERRUPTED, "c2d: interrupted\n")


def test_a_failing_write_of_results_is_reported_in_a_sentence(site: TrialSite) -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "compute_to_data.cli.main", "project", "show"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (ExitCode.UNREACHABLE, "c2d: standard output: No space left on device.\n")


def test_an_invalid_path_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["project", "set", f"{HOME}/../bob"]) == ExitCode.REFUSED
    assert "'..' in the path" in capsys.readouterr().err
    assert main(["project", "show", "--project", "nowhere"]) == ExitCode.NOT_FOUND
    assert main(["list", "--project", "nowhere"]) == ExitCode.NOT_FOUND
    assert f"project {HOME}/nowhere: does not exist" in capsys.readouterr().err


def test_a_program_is_refused_by_commands_that_run_none() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["project", "list", "--", "x"])
    assert ended.value.code == ExitCode.USAGE


def test_common_options_work_before_and_after_the_command(site: TrialSite, capsys: pytest.CaptureFixture[str]) -> None:
    for line in (["--output", "json", "project", "show"], ["project", "show", "--output", "json"]):
        assert main(line) == 0
        assert json.loads(capsys.readouterr().out) == {"project": HOME, "results": f"{HOME}/c2d_results"}


@pytest.mark.parametrize("words", [["y", "*.csv", "--output", "d"], ["y", "--output", "d", "*.csv"], ["--output", "d"]])
def test_options_may_stand_between_the_other_words(words: list[str]) -> None:
    options = parser().parse_args(["fetch", "3f2a", *words])
    given = [one for one in words if one in ("y", "*.csv")]
    assert (options.task, options.words, options.output) == ("3f2a", given, "d")


def test_the_form_comes_from_the_option_the_variable_or_the_settings(
    own_files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own_files.write_text(json.dumps({**json.loads(own_files.read_text()), "output": "raw"}))
    main(["project", "show"])
    assert capsys.readouterr().out == f"project\t{HOME}\nresults\t{HOME}/c2d_results\n"
    monkeypatch.setenv("C2D_OUTPUT", "json")
    main(["project", "show"])
    assert capsys.readouterr().out.startswith("{")
    monkeypatch.setenv("C2D_OUTPUT", "html")
    assert main(["project", "show"]) == ExitCode.USAGE
    assert "expected one of pretty, raw, json" in capsys.readouterr().err


def test_an_error_is_one_sentence_on_stderr_with_its_code(
    own_files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["project", "set", "nowhere"]) == ExitCode.NOT_FOUND
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"c2d: project {HOME}/nowhere: does not exist")
    assert said.err.count("\n") == 1
    assert main(["project", "set", "nowhere", "--debug"]) == ExitCode.NOT_FOUND
    assert "Traceback" in capsys.readouterr().err
    assert main(["project", "show", "--config-file", str(own_files.parent / "none")]) == ExitCode.USAGE


def test_an_internal_error_is_reported_in_a_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(options: argparse.Namespace) -> str:
        raise ZeroDivisionError("x")

    monkeypatch.setattr(main_module, "_form", broken)
    assert main(["project", "show"]) == ExitCode.UNREACHABLE
    assert "internal error (ZeroDivisionError: x). Run it again with --debug" in capsys.readouterr().err


def test_a_closed_pipe_is_not_an_error(site: TrialSite) -> None:
    """The output is larger than a pipe's buffer, and its reader has closed the pipe."""
    for number in range(1200):
        site.alice.create_collection(f"{HOME}/{'long' * 20}-{number}")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*C2D, "project", "list"], stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_names_cannot_control_the_terminal(site: TrialSite, capsys: pytest.CaptureFixture[str]) -> None:
    site.alice.create_collection(f"{HOME}/x\x1b[31mred")
    main(["project", "list"])
    assert "\x1b" not in capsys.readouterr().out


def test_every_exit_code_has_a_meaning() -> None:
    assert set(MEANINGS) == set(ExitCode)


def on_irods(folder: Path, **environment: object) -> dict[str, str]:
    """The environment of a person whose zone is iRODS, with this content of ``irods_environment.json``."""
    file = folder / "irods" / "irods_environment.json"
    file.parent.mkdir()
    if environment:
        file.write_text(json.dumps(environment))
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("C2D_", "IRODS_"))}
    return {**plain, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "IRODS_ENVIRONMENT_FILE": str(file)}


def typed(environment: dict[str, str], *words: str, without: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command in a new process, if asked without one package."""
    program = (
        f"import sys; sys.modules[{without!r}] = None; from compute_to_data.cli.main import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", program, *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_without_a_login_access_is_denied(tmp_path: Path) -> None:
    done = typed(on_irods(tmp_path), "list")
    assert done.returncode == ExitCode.REFUSED
    assert done.stderr.startswith("c2d: not logged in: ")
    assert done.stderr.endswith("Log in with: iinit.\n")


def test_without_settings_and_login_the_error_names_both_ways(tmp_path: Path) -> None:
    environment = on_irods(tmp_path)
    del environment["IRODS_ENVIRONMENT_FILE"]
    done = typed(environment, "list", without="irods")
    assert (done.returncode, done.stdout) == (ExitCode.REFUSED, "")
    assert "Log in with: iinit. If you have no iRODS zone, make a private one: c2d zone create DIR." in done.stderr


def test_the_zone_is_down(tmp_path: Path) -> None:
    from irods import password_obfuscation as password

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        (tmp_path / ".irodsA").write_text(password.encode("secret"))
        environment = on_irods(
            tmp_path,
            irods_host="127.0.0.1",
            irods_port=unused.getsockname()[1],
            irods_user_name="alice",
            irods_zone_name="tempZone",
            irods_authentication_file=str(tmp_path / ".irodsA"),
        )
        done = typed(environment, "list")
    assert (done.returncode, done.stdout) == (ExitCode.UNREACHABLE, "")
    assert "Check whether the iRODS server runs" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_package_is_named_with_a_remedy(tmp_path: Path) -> None:
    done = typed(on_irods(tmp_path), "list", without="irods")
    assert done.returncode == ExitCode.USAGE
    assert "pip install '.[irods]'" in done.stderr
    made = typed(on_irods_again(tmp_path), "zone", "create", str(tmp_path / "zone"), without="docker")
    assert made.returncode == 0
    assert "pip install '.[docker]'" in made.stderr


def on_irods_again(folder: Path) -> dict[str, str]:
    below = folder / "again"
    below.mkdir()
    return on_irods(below)


def test_json_escapes_control_characters_and_keeps_the_content() -> None:
    said = io.StringIO()
    document = {"name": "\x9b2J\x1b[2J\u202e\udc80 \u00e9 \U000e0001\n"}
    Output("json", said).result(document)
    assert said.getvalue().replace("\n", "").isprintable()
    assert "\u00e9" in said.getvalue()
    assert json.loads(said.getvalue()) == document


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["lst"], "there is no command 'lst'. Did you mean list?"),
        (["upload"], "Did you mean dataset upload?"),
        (["dataset", "uplod"], "Did you mean upload?"),
        (["zone", "creat"], "Did you mean create?"),
        (["frobnicate"], "there is no command 'frobnicate'. See: c2d --help"),
        (["list", "--stat", "FAILED"], "unrecognized arguments: --stat FAILED. Did you mean --state?"),
        (["list", "--nmae=x"], "Did you mean --name?"),
        (["list", "--zzz"], "unrecognized arguments: --zzz.\n"),
        (["help", "dataset", "uplod"], "Did you mean upload?"),
    ],
)
def test_a_misspelling_is_answered_with_the_nearest_word(
    words: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(words)
    except SystemExit as ended:
        code = int(ended.code or 0)
    assert code == ExitCode.USAGE
    assert meant in capsys.readouterr().err


def test_help_and_version_are_commands_that_need_no_settings(
    own_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own_files.write_text("{")
    assert main(["help"]) == 0
    assert "list your tasks" in capsys.readouterr().out
    assert main(["help", "dataset", "upload"]) == 0
    assert "usage: c2d dataset upload" in capsys.readouterr().out
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"c2d {compute_to_data.__version__}\n"


def test_an_error_shows_the_ends_of_a_very_long_path(site: TrialSite, capsys: pytest.CaptureFixture[str]) -> None:
    path = "/tempZone/home/alice/" + "d" * 900 + "/end"
    assert main(["status", path]) == ExitCode.NOT_FOUND
    said = capsys.readouterr().err
    assert len(said) < 600 and "/tempZone/home/alice/ddd" in said and "ddd/end" in said


def test_an_interruption_while_the_commands_are_loaded_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> argparse.ArgumentParser:
        raise KeyboardInterrupt

    monkeypatch.setattr("compute_to_data.cli.main.parser", interrupted)
    assert main(["list"]) == ExitCode.INTERRUPTED
    assert capsys.readouterr().err == "c2d: interrupted\n"


@pytest.mark.parametrize(
    "command", ["run i", "map i --input d", "notebook n.ipynb", "workload start i", "task create w"]
)
def test_every_walltime_takes_units(command: str) -> None:
    options, _ = parser().parse_known_args([*command.split(), "--walltime", "1h30m"])
    assert options.walltime == 5400
