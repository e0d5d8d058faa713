"""Install, install again, upgrade and uninstall, in scratch roots."""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from installer import layout, server_config

import compute_to_data

from .conftest import ADMIN_CORE, CHECKOUT, SERVER_CONFIG, Installed, ScratchServer, agents_python

CORE = "/etc/irods/core.py"
CONFIGURATION = "/etc/irods/compute_to_data.json"
AGENT = "/opt/compute-to-data/agent"
VENV = "/opt/compute-to-data/venv"
UNIT = "/etc/systemd/system/compute-to-data-worker@.service"


def _light(server: ScratchServer, *arguments: str) -> str:
    """Install without the virtual environment, which takes long."""
    return server.must("install", "--no-venv", *arguments)


def _copy(installed: Installed, folder: Path) -> ScratchServer:
    copy = ScratchServer(folder / "root", installed.server.checkout)
    shutil.copytree(installed.server.root, copy.root, symlinks=True)
    return copy


def test_a_dry_run_lists_all_changes_and_makes_none(server: ScratchServer, wheels: Path) -> None:
    before = server.contents()
    output = server.must("install", "--dry-run", "--edit-server-config", "--wheels", str(wheels))
    assert server.contents() == before
    done = server.must("install", "--no-venv", "--edit-server-config")
    would = {line[len("would ") :] for line in output.splitlines() if line.startswith("would ")}
    did = {line for line in done.splitlines() if line.split(" ")[0] in ("write", "replace", "make", "add", "edit")}
    assert did
    assert would - did == {line for line in would if line.startswith(f"make {VENV}")}
    assert did <= would


def test_a_missing_root_is_refused(checkout: Path, tmp_path: Path) -> None:
    done = ScratchServer(tmp_path / "no-such", checkout).run("install", "--no-venv")
    assert done.returncode == 1
    assert "the folder does not exist" in done.stderr


def test_the_agents_python_finds_the_package(installed: Installed) -> None:
    server = installed.server
    text = server.path(CORE).read_text(encoding="utf-8")
    assert text.startswith(ADMIN_CORE.decode())
    inside = text.replace(AGENT, str(server.path(AGENT)))
    program = "import compute_to_data; print(compute_to_data.__file__); print(compute_to_data.__spec__.cached)"
    command = [agents_python(), "-I", "-B", "-c", f"exec({inside!r}); {program}; print(container_dispatch.__module__)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    where, compiled, module = done.stdout.split()
    assert where == str(server.path(f"{AGENT}/compute_to_data/__init__.py"))
    assert Path(compiled).is_file(), "agents cannot write there, and would compile at every connection"
    assert module.startswith("compute_to_data")


def test_the_worker_has_its_own_environment(installed: Installed) -> None:
    python = installed.server.path(f"{VENV}/bin/python")
    program = "import docker, irods, compute_to_data.worker as w; print(w.__file__)"
    done = subprocess.run([str(python), "-I", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(installed.server.path(VENV)))
    assert (installed.server.path(f"{VENV}/bin/pip").read_text().splitlines()[0]).startswith(f"#!{VENV}/bin/python")


def test_installed_pages_find_the_pages_that_they_link_to(installed: Installed) -> None:
    folder = installed.server.path("/opt/compute-to-data/share/doc")
    pages = list(folder.rglob("*.md"))
    assert folder / "reference" / "commands.md" in pages
    missing = [
        f"{page.relative_to(folder)}: {link}"
        for page in pages
        for link in re.findall(r"\]\(([^):#]+\.(?:md|svg|png))", page.read_text(encoding="utf-8"))
        if folder in (page.parent / link).resolve().parents and not (page.parent / link).exists()
    ]
    assert missing == []


def test_the_default_configuration_is_valid_and_allows_nothing(installed: Installed) -> None:
    from compute_to_data import site_file

    loaded = site_file.load(str(installed.server.path(CONFIGURATION)))
    assert loaded.zone.kind == "irods"
    assert loaded.images == ()
    assert loaded.worker.command == (f"{VENV}/bin/python", "-m", "compute_to_data.worker")


def test_a_second_installation_changes_nothing(installed: Installed, wheels: Path) -> None:
    before = installed.server.contents()
    assert "nothing to do" in installed.server.must("install", "--wheels", str(wheels))
    assert installed.server.contents() == before


def test_uninstalling_leaves_no_trace(installed: Installed, tmp_path: Path) -> None:
    copy = _copy(installed, tmp_path)
    copy.path(f"{AGENT}/compute_to_data/__pycache__/later.cpython-399.pyc").write_bytes(b"")
    before = copy.contents()
    copy.must("uninstall", "--dry-run")
    assert copy.contents() == before
    output = copy.must("uninstall")
    assert "left" not in output
    assert copy.contents() == installed.before
    assert "nothing to do" in copy.must("uninstall")


def test_files_that_a_site_added_to_the_environment_stay_and_are_named(installed: Installed, tmp_path: Path) -> None:
    copy = _copy(installed, tmp_path)
    own = next(copy.path(VENV).glob("lib/python*/site-packages")) / "example_site.py"
    own.write_text("")
    assert "1 files that are not ours" in copy.must("uninstall")
    assert own.exists()


def test_uninstalling_from_a_folder_that_others_use_removes_nothing_of_theirs(server: ScratchServer) -> None:
    for name in ("usr/local/src", "usr/local/lib/other/__pycache__", "srv/shared/empty"):
        (server.root / name).mkdir(parents=True)
    for name in ("usr/local/lib/other/__pycache__/a.pyc", "srv/shared/other.lock", "srv/shared/other.log"):
        (server.root / name).write_text("theirs")
    before = server.contents()
    places = ("--prefix", "/usr/local", "--state-directory", "/srv/shared")
    _light(server, *places)
    assert "left: /srv/shared: it was there before the installation" in server.must("uninstall", "--force", *places)
    assert server.contents() == before


@pytest.mark.parametrize("written", ['{"files": 5}', '{"block": 5}', '{"directories": null}', "[]", '{"nope": 1}'])
@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_a_record_that_is_damaged_is_named(server: ScratchServer, verb: str, written: str) -> None:
    record = server.path("/opt/compute-to-data/manifest.json")
    record.parent.mkdir(parents=True)
    record.write_text(written)
    before = server.contents()
    done = server.run(verb, "--no-venv")
    assert done.returncode == 1
    assert f"install: {record}: the record of the installation cannot be read" in done.stderr
    assert "remove it and run install --force" in done.stderr
    assert server.contents() == before


def test_a_file_that_cannot_be_written_is_named_and_leaves_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(layout.os, "fchmod", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/wanted'"):
        layout.replace_file(tmp_path / "wanted", b"content")
    assert [*tmp_path.iterdir()] == []


def test_an_edit_that_is_impossible_fails_before_anything_is_changed(server: ScratchServer) -> None:
    server.path("/etc/irods/server_config.json").write_text("{}")
    before = server.contents()
    done = server.run("install", "--no-venv", "--edit-server-config")
    assert (done.returncode, "has no native rule engine. Restore its entry" in done.stderr) == (1, True)
    assert server.contents() == before


def test_a_folder_that_is_in_the_way_is_named_with_a_remedy(server: ScratchServer) -> None:
    core = server.path(CORE)
    core.unlink()
    core.mkdir()
    done = server.run("install", "--no-venv")
    assert done.returncode == 1
    assert done.stderr == f"install: {core}: Is a directory. Mend that, and run this again: it goes on from there\n"


def test_what_an_interrupted_upgrade_left_is_removed(server: ScratchServer) -> None:
    before = server.contents()
    _light(server)
    unfinished = server.path("/opt/compute-to-data/.agent.new/compute_to_data")
    unfinished.mkdir(parents=True)
    (unfinished / "__init__.py").write_text("")
    server.must("uninstall")
    assert server.contents() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("install", "--prefix", "/"), "--prefix '/': expected where to install"),
        (("install", "--account", ""), "--account '': expected the iRODS service account"),
        (("install", "--worker", "r=/a", "--worker", "r=/b"), "--worker r=/b: r has the vault /a already"),
        (("configure",), "is not installed in /opt/compute-to-data. Install its package first"),
    ],
)
def test_what_names_no_place_of_its_own_is_refused(
    server: ScratchServer, arguments: tuple[str, ...], words: str
) -> None:
    before = server.contents()
    done = server.run(*arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert server.contents() == before


def test_a_core_that_we_wrote_is_removed(server: ScratchServer) -> None:
    server.path(CORE).unlink()
    before = server.contents()
    _light(server)
    compile(server.path(CORE).read_text(), CORE, "exec")
    server.must("uninstall")
    assert server.contents() == before


def test_a_core_that_we_wrote_stays_when_rules_were_added(server: ScratchServer) -> None:
    server.path(CORE).unlink()
    _light(server)
    with server.path(CORE).open("a") as file:
        file.write("def acPostProcForPut(rule_args, callback, rei):\n    return 0\n")
    server.must("uninstall")
    assert "acPostProcForPut" in server.path(CORE).read_text()
    assert "compute_to_data" not in server.path(CORE).read_text()


def test_core_keeps_its_mode_behind_a_link(server: ScratchServer) -> None:
    real = server.path("/etc/irods/rules.py")
    server.path(CORE).rename(real)
    real.chmod(0o640)
    server.path(CORE).symlink_to("rules.py")
    _light(server)
    assert server.path(CORE).is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    server.must("uninstall")
    assert real.read_bytes() == ADMIN_CORE


def test_a_core_that_leads_out_of_the_root_stops_us(server: ScratchServer, tmp_path: Path) -> None:
    outside = tmp_path / "core.py"
    server.path(CORE).rename(outside)
    server.path(CORE).symlink_to(outside)
    done = server.run("install", "--no-venv")
    assert done.returncode == 1
    assert "is a link to" in done.stderr
    assert outside.read_bytes() == ADMIN_CORE


@pytest.mark.parametrize("text", [b"def (:\n", b"\xff\xfe"])
def test_a_core_that_does_not_parse_stops_us(server: ScratchServer, text: bytes) -> None:
    server.path(CORE).write_bytes(text)
    before = server.contents()
    done = server.run("install", "--no-venv")
    assert done.returncode == 1
    assert f"STOP: our block cannot be added to {CORE}" in done.stderr
    assert server.contents() == before


def test_an_edited_configuration_is_never_overwritten(server: ScratchServer) -> None:
    _light(server)
    server.path(CONFIGURATION).write_text('{"zone": {"kind": "irods"}}')
    assert "compute_to_data.json.new" not in _light(server), "the default has not changed"
    output = _light(server, "--state-directory", "/var/lib/irods/elsewhere")
    assert f"write {CONFIGURATION}.new" in output
    assert server.path(CONFIGURATION).read_text() == '{"zone": {"kind": "irods"}}'
    assert "/var/lib/irods/elsewhere" in server.path(f"{CONFIGURATION}.new").read_text()
    output = server.must("uninstall")
    assert f"left: {CONFIGURATION}: it was changed" in output
    assert server.path(CONFIGURATION).exists()
    assert not server.path(f"{CONFIGURATION}.new").exists()


def test_a_configuration_that_was_there_before_stays(server: ScratchServer) -> None:
    server.path(CONFIGURATION).write_text("{}")
    before = server.contents()
    _light(server)
    assert server.path(CONFIGURATION).read_text() == "{}"
    server.must("uninstall")
    assert server.contents() == before


def test_changed_files_are_named_and_kept(server: ScratchServer) -> None:
    _light(server)
    for path in (UNIT, f"{AGENT}/compute_to_data/worker/service.py"):
        with server.path(path).open("a") as file:
            file.write("# mine\n")
    done = server.run("install", "--no-venv")
    assert done.returncode == 1
    assert UNIT in done.stderr
    assert "worker/service.py" in done.stderr
    output = server.must("uninstall")
    assert f"left: {UNIT}: it was changed" in output
    assert server.path(UNIT).read_text().endswith("# mine\n")
    assert server.path(f"{AGENT}/compute_to_data/worker/service.py").exists()
    assert not server.path(f"{AGENT}/compute_to_data/model.py").exists()


def test_force_writes_changed_files_anew(server: ScratchServer) -> None:
    _light(server)
    server.path(UNIT).write_text("# mine\n")
    _light(server, "--force")
    assert "NoNewPrivileges=true" in server.path(UNIT).read_text()


def test_an_edited_block_is_kept_and_named(server: ScratchServer) -> None:
    _light(server)
    text = server.path(CORE).read_text().replace("try:\n", "try:\n    pass  # mine\n")
    server.path(CORE).write_text(text)
    assert "our block in /etc/irods/core.py was edited" in server.run("install", "--no-venv").stderr
    assert f"left: {CORE}" in server.must("uninstall")
    assert server.path(CORE).read_text() == text


def test_an_upgrade_replaces_and_drops_files(server: ScratchServer, tmp_path: Path) -> None:
    older = ScratchServer(server.root, tmp_path / "checkout")
    shutil.copytree(server.checkout, older.checkout)
    (older.checkout / "rules" / "older.r").write_text("main {}\n")
    (older.checkout / "compute_to_data" / "older.py").write_text("")
    _light(older)
    assert server.path("/opt/compute-to-data/share/rules/older.r").exists()
    _light(server)
    assert not server.path("/opt/compute-to-data/share/rules/older.r").exists()
    assert not server.path(f"{AGENT}/compute_to_data/older.py").exists()
    assert "nothing to do" in _light(server)


def test_the_installed_installer_can_uninstall(server: ScratchServer) -> None:
    before = server.contents()
    _light(server)
    program = server.path("/opt/compute-to-data/packaging/install")
    subprocess.run([sys.executable, str(program), "uninstall", "--root", str(server.root)], check=True)
    assert server.contents() == before


def test_uninstalling_disables_units(server: ScratchServer) -> None:
    wants = server.path("/etc/systemd/system/multi-user.target.wants")
    wants.mkdir()
    (wants / "other.service").symlink_to("/etc/systemd/system/other.service")
    before = server.contents()
    _light(server)
    (wants / "compute-to-data-worker@dsp_resc.service").symlink_to(UNIT)
    server.must("uninstall")
    assert server.contents() == before


def test_uninstalling_is_refused_while_a_worker_runs(server: ScratchServer) -> None:
    _light(server)
    before = server.contents()
    with server.path("/var/lib/irods/compute_to_data/tempZone-dsp_resc.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = server.run("uninstall")
    assert done.returncode == 1
    assert "a worker is running" in done.stderr
    assert set(before) < set(server.contents())
    server.must("uninstall")


def test_a_state_directory_that_was_used_goes_unless_tasks_are_unfinished(server: ScratchServer) -> None:
    before = server.contents()
    state = server.path("/var/lib/irods/compute_to_data")
    for note in ([], ["tasks/zone/unfinished"]):
        _light(server)
        (state / "tasks" / "zone").mkdir(parents=True)
        for name in ("zone-dsp_resc.lock", "dsp_resc.log", *note):
            (state / name).write_text("")
        output = server.must("uninstall")
        assert ("left: /var/lib/irods/compute_to_data" in output) == bool(note)
        assert (server.contents() == before) == (not note)
    assert [path.name for path in state.rglob("*") if path.is_file()] == ["unfinished"]


def test_the_server_configuration_is_edited_only_when_asked_for(server: ScratchServer) -> None:
    before = server.contents()
    place = server.path("/etc/irods/server_config.json")
    output = _light(server)
    assert place.read_text() == SERVER_CONFIG
    assert "missing: the Python rule engine has no entry" in output
    _light(server, "--edit-server-config")
    engines = json.loads(place.read_text())["plugin_configuration"]["rule_engines"]
    assert [one["plugin_name"] for one in engines] == [server_config.PYTHON, server_config.NATIVE]
    assert place.stat().st_mode & 0o777 == 0o600
    assert (place.parent / "server_config.json.before-compute-to-data").read_text() == SERVER_CONFIG
    server.must("uninstall")
    assert server.contents() == before


def test_a_server_configuration_edited_since_stays(server: ScratchServer) -> None:
    _light(server, "--edit-server-config")
    place = server.path("/etc/irods/server_config.json")
    document = json.loads(place.read_text())
    place.write_text(json.dumps(document))
    assert "left: /etc/irods/server_config.json" in server.must("uninstall")
    assert json.loads(place.read_text()) == document


def test_a_failing_pip_is_reported_and_leaves_no_trace(installed: Installed, tmp_path: Path, wheels: Path) -> None:
    copy = _copy(installed, tmp_path)
    copy.path(CORE).write_bytes(ADMIN_CORE)
    record = copy.path("/opt/compute-to-data/manifest.json")
    record.write_text(record.read_text().replace('"fingerprint": "', '"fingerprint": "another'))
    folder = tmp_path / "wheels"
    shutil.copytree(wheels, folder)
    next(folder.glob("docker-*")).unlink()
    for path in copy.path(VENV).glob("lib/python*/site-packages/docker*"):
        shutil.rmtree(path)
    done = copy.run("install", "--wheels", str(folder))
    assert done.returncode == 1
    assert f"update {VENV}" in done.stdout
    assert "cannot install the packages of the workers" in done.stderr
    assert "docker" in done.stderr and "--wheels" in done.stderr
    assert copy.path(CORE).read_bytes() == ADMIN_CORE, "files that agents read are changed last"
    copy.must("uninstall")
    assert copy.contents() == installed.before


def test_an_unfinished_environment_is_removed(server: ScratchServer) -> None:
    before = server.contents()
    half = server.path(f"{VENV}/lib")
    half.mkdir(parents=True)
    (half / "half.py").write_text("")
    server.path("/opt/compute-to-data/manifest.json").write_text('{"venv": {"python": "unfinished"}}')
    server.must("uninstall")
    assert server.contents() == before


def test_missing_parts_are_reported_with_a_remedy(server: ScratchServer) -> None:
    server.path("/var/lib/irods/version.json").write_text('{"irods_version": "4.2.11"}')
    server.path("/etc/irods/server_config.json").unlink()
    output = server.must("check")
    assert "runs iRODS 4.2.11" in output
    assert "setup_irods.py" in output
    assert "irods-rule-engine-plugin-python" in output
    assert "the account irods, under which workers run, does not exist" in output


def test_a_missing_python_stops_the_installation(server: ScratchServer) -> None:
    done = subprocess.run(
        [sys.executable, str(CHECKOUT / "packaging/install"), "install", "--root", str(server.root), "--python", "/no"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "STOP: /no does not run" in done.stderr


def test_a_worker_may_write_only_its_own_vault(server: ScratchServer) -> None:
    before = server.contents()
    _light(server, "--worker", "dsp_resc=/data/dsp_vault")
    drop_in = server.path("/etc/systemd/system/compute-to-data-worker@dsp_resc.service.d/vault.conf")
    assert "ReadWritePaths=/data/dsp_vault\n" in drop_in.read_text()
    assert "nothing to do" in _light(server)
    assert drop_in.exists()
    server.must("uninstall")
    assert server.contents() == before


@pytest.mark.parametrize("named", ["dsp_resc", "dsp_resc=relative", "a/b=/vault", "dsp=/va ult", "dsp=/v\nUser=root"])
def test_a_malformed_worker_option_is_refused(server: ScratchServer, named: str) -> None:
    done = server.run("install", "--no-venv", "--worker", named)
    assert done.returncode == 1
    assert "expected a resource and its vault" in done.stderr


def test_the_doctor_knows_the_same_markers_and_engines() -> None:
    from installer import core_block

    from compute_to_data.doctor import rules

    assert core_block.BEGIN.startswith(rules.BEGIN)
    assert core_block.END == rules.END
    assert (rules.PYTHON_ENGINE, rules.NATIVE_ENGINE) == (server_config.PYTHON, server_config.NATIVE)


def test_the_version_is_the_packages(installed: Installed) -> None:
    record = json.loads(installed.server.path("/opt/compute-to-data/manifest.json").read_text())
    assert record["version"] == compute_to_data.__version__
    assert importlib.util.find_spec("compute_to_data") is not None
