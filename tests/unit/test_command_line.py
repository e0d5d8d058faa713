"""Several commands as one: the script is run for real, by every POSIX shell of this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compute_to_data.errors import InvalidRequest
from compute_to_data.pipeline.hooks import Program, Step
from compute_to_data.pipeline.running import command_line

SHELLS = {"dash": ("dash",), "bash": ("bash", "--posix"), "busybox": ("busybox", "sh"), "mksh": ("mksh",)}
INSTALLED = [name for name, words in SHELLS.items() if shutil.which(words[0])]
TELL = (sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]), flush=True)")
TRICKS = (
    "", " ", "a b", "a\nb", "\n", "'", '"', "\\", "\\n", "a\\\nb", "$HOME", "$(touch hit)", "`touch hit`",
    "${1}", "$1", "*", "~", "-", "--", "-n", "-c", ";", "&&", "|", ">hit", "<hit", "#", "!", "{a,b}", "%s",
    "a=b", "exec", "\t", "é", "\u2028", "\x01", "x" * 100_000,
)  # fmt: skip


@pytest.fixture(params=INSTALLED)
def shell(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def under(shell: str, vector: tuple[str, ...]) -> list[str]:
    """The same command with the shell under test in the place of the sandbox's /bin/sh."""
    assert vector[:2] == ("/bin/sh", "-c")
    return [*SHELLS[shell], *vector[1:]]


def run(shell: str, vector: tuple[str, ...], **more: Any) -> subprocess.CompletedProcess[str]:
    done: subprocess.CompletedProcess[str] = subprocess.run(
        under(shell, vector), capture_output=True, text=True, check=False, timeout=60, **more
    )
    return done


def python(code: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code, *arguments)


def test_one_vector_needs_no_shell() -> None:
    assert command_line.command([["cp", "-r", "a b", ""]]) == ("cp", "-r", "a b", "")


def test_nothing_of_the_users_is_in_the_script() -> None:
    one = command_line.command([["a"], ["b", "c"]], frozenset({0}), "/inputs/x", "/outputs/y")
    other = command_line.command([["q'"], ["$(r)"], ["s"]], stdout="/outputs/`z`")
    assert one[:4] == other[:4]
    assert one[4:] == ("/inputs/x", "/outputs/y", "2", "1", "1", "a", "0", "2", "b", "c")


def test_arguments_arrive_as_written(shell: str, tmp_path: Path) -> None:
    done = run(shell, command_line.command([TELL + TRICKS, TELL]), cwd=tmp_path)
    first, second = done.stdout.splitlines()
    assert (json.loads(first), json.loads(second)) == (list(TRICKS), [])
    assert (done.returncode, done.stderr, list(tmp_path.iterdir())) == (0, "", [])


WORDS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30), max_size=12)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(WORDS, min_size=2, max_size=3))
def test_any_argument_round_trips(shell: str, tmp_path: Path, words: list[list[str]]) -> None:
    vector = command_line.command([["printf", r"[%s]\0", *each] for each in words])
    done = subprocess.run(under(shell, vector), capture_output=True, check=False, timeout=60, cwd=tmp_path)
    # printf repeats its format for each argument and prints it once, empty, for none.
    assert done.stdout.decode() == "".join(f"[{word}]\0" for each in words for word in each or [""])
    assert (done.returncode, done.stderr, list(tmp_path.iterdir())) == (0, b"", [])


def test_two_hundred_vectors_run_in_order(shell: str) -> None:
    done = run(shell, command_line.command([["echo", str(index)] for index in range(200)]))
    assert done.stdout.split() == [str(index) for index in range(200)]
    assert done.returncode == 0


def test_a_long_vector_keeps_its_order(shell: str) -> None:
    words = [str(index) for index in range(1500)]
    done = run(shell, command_line.command([["true"], ["printf", r"%s\n", *words]]))
    assert done.stdout.split() == words


@pytest.mark.parametrize("name", ["cd", "exit", "export", "eval", ".", "set", "return", "trap", "shift", "a=b"])
def test_a_builtin_of_the_shell_is_no_program(shell: str, name: str, tmp_path: Path) -> None:
    done = run(
        shell, command_line.command([[name, "0"], ["touch", "next"]]), cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}
    )
    assert done.returncode in (126, 127)
    assert f"command 1 of 2 ({name}) exited {done.returncode}" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_echo_is_the_images_own(shell: str) -> None:
    assert run(shell, command_line.command([["echo", r"a\nb"], ["true"]])).stdout == "a\\nb\n"


def test_the_environment_arrives_unchanged(shell: str) -> None:
    mine = {name: f"my {name}" for name in ("index", "total", "status", "child", "words", "i", "x")}
    code = "import os, json; print(json.dumps(dict(os.environ)))"
    done = run(shell, command_line.command([["true"], python(code)]), env={**mine, "PATH": os.environ["PATH"]})
    seen = json.loads(done.stdout)
    assert {name: seen.get(name) for name in mine} == mine
    assert not [name for name in seen if name.startswith("c2d")]


def test_the_first_failure_ends_it_and_is_named(shell: str) -> None:
    done = run(shell, command_line.command([["echo", "one"], python("raise SystemExit(7)"), ["echo", "three"]]))
    assert (done.returncode, done.stdout) == (7, "one\n")
    assert done.stderr == f"command 2 of 3 ({sys.executable}) exited 7\n"


def test_an_allowed_failure_does_not_end_it(shell: str) -> None:
    done = run(shell, command_line.command([python("raise SystemExit(7)"), ["echo", "two"]], frozenset({0})))
    assert (done.returncode, done.stdout, done.stderr) == (0, "two\n", "")


@pytest.mark.parametrize("vectors", [[["false"]], [["true"], ["false"]]])
def test_an_allowed_failure_of_the_last_is_success(shell: str, vectors: list[list[str]]) -> None:
    assert run(shell, command_line.command(vectors, frozenset({len(vectors) - 1}))).returncode == 0


def test_a_signal_counts_as_in_a_shell(shell: str) -> None:
    done = run(shell, command_line.command([python("import os; os.kill(os.getpid(), 9)"), ["echo", "two"]]))
    assert (done.returncode, done.stdout) == (137, "")


@pytest.mark.parametrize(("program", "status"), [("no-such-program", 127), ("./no-program", 126)])
def test_what_cannot_run_is_reported(shell: str, tmp_path: Path, program: str, status: int) -> None:
    (tmp_path / "no-program").touch(mode=0o600)
    done = run(shell, command_line.command([["true"], [program, "x"]]), cwd=tmp_path)
    assert done.returncode == status
    assert f"command 2 of 2 ({program}) exited {status}" in done.stderr


def test_streams_of_the_first_and_the_last(shell: str, tmp_path: Path) -> None:
    source, target = tmp_path / "in $(x) '\n", tmp_path / '-out "`y`'
    source.write_bytes(b"axbx\n\0\xff")
    one = command_line.command([["tr", "-d", "x"]], stdin=str(source), stdout=str(target))
    assert run(shell, one).stdout == ""
    assert target.read_bytes() == b"ab\n\0\xff"
    two = command_line.command([["cat"], ["wc", "-c"], ["cat"]], stdin=str(source), stdout=str(target))
    source.write_text("seen")
    assert run(shell, two, input="never read").stdout.split() == ["seen0"]
    assert target.read_bytes() == b""


def test_a_missing_stream_is_a_failure_of_its_command(shell: str, tmp_path: Path) -> None:
    done = run(shell, command_line.command([["cat"], ["echo", "next"]], stdin=str(tmp_path / "missing")))
    assert done.returncode != 0
    assert done.stdout == ""
    assert "missing" in done.stderr
    assert "command 1 of 2 (cat) exited" in done.stderr


@contextmanager
def running(shell: str, vector: tuple[str, ...]) -> Iterator[subprocess.Popen[str]]:
    """The launcher, once its running command has said that it is ready; never left behind."""
    with subprocess.Popen(under(shell, vector), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


GRACEFUL = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("ready", flush=True)
signal.sigwait({signal.SIGTERM})
print("told", flush=True)
sys.exit(int(sys.argv[1]))
"""


@pytest.mark.parametrize("status", [0, 3])
def test_sigterm_reaches_the_running_command(shell: str, status: int) -> None:
    """Ten times: the command may end before, while or after the shell looks at the signal."""
    for _ in range(10):
        with running(shell, command_line.command([["true"], python(GRACEFUL, str(status))])) as process:
            process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=20)
        assert (out, process.returncode) == ("told\n", status)


@pytest.mark.parametrize("status", [0, 3])
def test_nothing_is_started_after_sigterm(shell: str, status: int) -> None:
    vectors = [python(GRACEFUL, str(status)), ["echo", "next"]]
    with running(shell, command_line.command(vectors, frozenset({0, 1}))) as process:
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
    assert (out, process.returncode) == ("told\n", status or 128 + signal.SIGTERM)


def test_a_command_without_a_handler_dies_of_sigterm(shell: str) -> None:
    code = "import signal; print('ready', flush=True); signal.pause()"
    with running(shell, command_line.command([["true"], python(code)])) as process:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM


def test_a_command_that_ignores_sigterm_is_waited_for(shell: str) -> None:
    code = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
print("ready", os.getpid(), sep="\\n", flush=True)
while signal.sigwait({signal.SIGTERM, signal.SIGUSR1}) == signal.SIGTERM:
    print("told", flush=True)
sys.exit(5)
"""
    with running(shell, command_line.command([["true"], python(code)])) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        for _ in range(3):
            process.send_signal(signal.SIGTERM)
            assert process.stdout.readline() == "told\n"
        assert process.poll() is None
        os.kill(pid, signal.SIGUSR1)
        assert process.wait(timeout=20) == 5


@pytest.mark.parametrize(
    ("vectors", "stdin"),
    [([], ""), ([[]], ""), ([["a"], []], ""), ([[""]], ""), ([["-c", "x"]], ""), ([["a", "\0"]], ""), ([["a"]], "\0")],
)
def test_what_cannot_be_run_is_refused(vectors: list[list[str]], stdin: str) -> None:
    with pytest.raises(InvalidRequest):
        command_line.command(vectors, stdin=stdin)


# Programs made of steps


def test_the_commands_of_one_image_are_one_vector() -> None:
    program = Program.of(
        "i",
        [["a"], ["b", "c"]],
        allowed_nonzero={0},
        stdin="/inputs/x",
        stdout="/outputs/y",
        environment={"A": "1"},
        working_directory="/opt",
    )
    assert [(step.stdin, step.stdout, step.may_fail) for step in program.steps] == [
        ("/inputs/x", "", True),
        ("", "/outputs/y", False),
    ]
    vector = command_line.command([["a"], ["b", "c"]], frozenset({0}), "/inputs/x", "/outputs/y")
    assert command_line.in_one_container(program) == command_line.OneContainer("i", vector, {"A": "1"}, "/opt")


@pytest.mark.parametrize(
    ("steps", "subject", "words"),
    [
        ([Step("i", ("a",)), Step("j", ("b",))], "step 2 of 2", "runs in the image j, but the first step in i"),
        ([Step("i", ("a",)), Step("i", ("b",), working_directory="/opt")], "step 2 of 2", "starts in /opt"),
        ([Step("i", ("a",), environment={"A": "1"}), Step("i", ("b",))], "step 2 of 2", "another environment"),
        ([Step("i", ("a",)), Step("i", ("b",), stdin="/inputs/x")], "step 2 of 2", "only the first step can"),
        ([Step("i", ("a",), stdout="/outputs/x"), Step("i", ("b",))], "step 1 of 2", "only the last step can"),
        ([Step("i", ("a",), stderr="/outputs/x"), Step("i", ("b",))], "step 1 of 2", "standard error"),
    ],
)
def test_steps_that_need_a_container_each_are_refused(steps: list[Step], subject: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match="one container") as caught:
        command_line.in_one_container(Program(tuple(steps)))
    assert caught.value.subject == subject
    assert words in caught.value.cause


def test_a_program_has_at_least_one_step() -> None:
    with pytest.raises(InvalidRequest, match="there is no command"):
        command_line.in_one_container(Program(()))
