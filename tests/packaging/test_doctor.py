"""The doctor: break each link once, with real files and the embedded zone."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from installer import core_block
from support.site import COMPUTE, TrialSite

import compute_to_data
from compute_to_data import rulebase, site_file
from compute_to_data.configuration import EngineSettings, ImageRule
from compute_to_data.doctor import __main__ as doctor
from compute_to_data.doctor import engine, examination, roles, rules, vaults, workers
from compute_to_data.doctor.findings import Finding, Verdict
from compute_to_data.doctor.installation import Account, Installation, Server
from compute_to_data.engines import open_engine
from compute_to_data.model import Resource
from compute_to_data.site_file import parse

from .conftest import ADMIN_CORE, CHECKOUT

BASE_IMAGE = "compute-to-data/base:bookworm"


def _of(findings: object, link: str) -> Finding:
    found = [one for one in findings if one.link == link]  # type: ignore[attr-defined]
    assert found, f"no finding about {link}: {findings}"
    return found[-1]


def _check_problem(finding: Finding, seen: str, remedy: str) -> None:
    assert finding.verdict is Verdict.PROBLEM
    assert seen in finding.seen
    assert remedy in finding.remedy


# An embedded zone, whole and broken


def _examine(site: TrialSite) -> list[Finding]:
    return list(examination.examine(Server(), str(site.configuration_file)))


def test_a_healthy_embedded_site_has_no_problem(site: TrialSite) -> None:
    with site.working():
        findings = _examine(site)
    assert [one for one in findings if one.verdict is Verdict.PROBLEM] == []
    assert _of(findings, f"worker of {COMPUTE}").verdict is Verdict.OK
    assert _of(findings, f"vault of {COMPUTE}").verdict is Verdict.OK
    for link in ("rule engines", "core.py", "versions", "service environment", "delay server"):
        finding = _of(findings, link)
        assert finding.verdict is Verdict.SKIPPED
        assert "embedded zone" in finding.seen


def test_exit_status_and_json(site: TrialSite, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--configuration", str(site.configuration_file), "--json"]
    assert doctor.main(arguments) == 0
    assert {one["link"] for one in json.loads(capsys.readouterr().out)} >= {"zone", "engine", f"role of {COMPUTE}"}
    site.take_role(COMPUTE, "CONTAINER")
    assert doctor.main(arguments) == 1
    found = [one for one in json.loads(capsys.readouterr().out) if one["verdict"] == "problem"]
    assert [one["link"] for one in found] == ["roles"]
    assert doctor.main(arguments[:2]) == 1
    assert (
        f"-> Give a resource a role: imeta add -R <resource> {site.configuration.attributes.role}"
        in capsys.readouterr().out
    )


def test_an_invalid_configuration_is_the_only_finding(tmp_path: Path) -> None:
    path = tmp_path / "compute_to_data.json"
    path.write_text('{"zone": {"kind": "irods"}, "image": []}')
    first, second = examination.examine(Server(), str(path))
    _check_problem(first, "/image", "docs/configuration.md")
    assert second.verdict is Verdict.SKIPPED


def test_a_missing_zone(site: TrialSite) -> None:
    site.configure(zone={"directory": "/nonexistent/zone"})
    assert _of(_examine(site), "zone").verdict is Verdict.PROBLEM


def test_roles_that_no_task_can_use(site: TrialSite) -> None:
    site.give_role("demoResc", "UNHEARD_OF")
    site.zone.add_resource("repl", "replication")
    site.give_role("repl", "CONTAINER")
    site.zone.set_resource_status(COMPUTE, "down")
    findings = _examine(site)
    assert _of(findings, "role of demoResc").verdict is Verdict.SKIPPED
    _check_problem(_of(findings, "role of repl"), "coordinating", "imeta rm -R repl")
    _check_problem(_of(findings, f"role of {COMPUTE}"), "down", f"iadmin modresc {COMPUTE} status up")


OWN_ROLES = {
    "none": ("", "cannot be loaded (No module named 'site_roles')"),
    "exits": (
        "import sys; print('no licence'); sys.exit(0)",
        "cannot be loaded (it raised SystemExit: 0 (site_roles.py",
    ),
    "ends": ("import os; os._exit(0)", "its class ends the process that loads it (0)"),
    "other": ("Own = dict", "is not a Role"),
}


@pytest.mark.parametrize("name", OWN_ROLES)
def test_a_role_that_workers_cannot_load(
    site: TrialSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    content, seen = OWN_ROLES[name]
    if content:
        (tmp_path / "site_roles.py").write_text(content)
    load = roles._LOAD_ROLE
    monkeypatch.setattr(roles, "_LOAD_ROLE", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{load}")
    site.configure(roles={"OWN": {"implementation": "site_roles:Own"}}, engine=_engine_of(site))
    site.give_role(COMPUTE, "OWN")
    _check_problem(_of(_examine(site), "role OWN"), seen, "install it where the worker runs")


def test_what_a_role_needs(site: TrialSite) -> None:
    signal = {"image": "filter", "results_to": "ARCHIVE"}
    site.configure(roles={"SIGNAL_PROCESSING": signal}, engine=_engine_of(site))
    site.give_role(COMPUTE, "SIGNAL_PROCESSING")
    link = "role SIGNAL_PROCESSING"
    image, receiver = (one for one in _examine(site) if one.link == link)
    _check_problem(image, "its image filter is not in `images`", "Add the image")
    _check_problem(receiver, "with the role ARCHIVE, and none that is up has it", "COMPUTE_RESOURCE_ROLE ARCHIVE")
    site.configure(images=["tools", "filter"], roles={"SIGNAL_PROCESSING": signal}, engine=_engine_of(site))
    site.give_role("demoResc", "ARCHIVE")
    assert [one for one in _examine(site) if one.link == link] == []


def _engine_of(site: TrialSite) -> dict[str, Any]:
    return {"name": site.configuration.engine.name, **site.configuration.engine.settings}


def test_a_worker_that_does_not_run(site: TrialSite) -> None:
    link = f"worker of {COMPUTE}"
    assert "on demand" in _of(_examine(site), link).seen
    site.configure(worker={"on_demand": False})
    _check_problem(_of(_examine(site), link), "does not run", f"--resource {COMPUTE}")


def test_a_worker_that_lost_the_zone(site: TrialSite) -> None:
    from compute_to_data.coordination.lock import ResourceLock

    lock = ResourceLock(site.configuration, "tempZone", COMPUTE)
    lock.acquire()
    try:
        _check_problem(_of(_examine(site), f"worker of {COMPUTE}"), "heartbeat in the catalog is old", "log")
    finally:
        lock.release()


def test_a_worker_on_another_host_is_checked_by_its_heartbeat(site: TrialSite) -> None:
    site.zone.add_resource("far_resc", host="far.example.org")
    site.give_role("far_resc", "CONTAINER")
    findings = _examine(site)
    _check_problem(_of(findings, "worker of far_resc"), "heartbeat", "On far.example.org")
    assert _of(findings, "vault of far_resc").verdict is Verdict.SKIPPED


def test_no_image_and_a_missing_one(site: TrialSite) -> None:
    assert _of(_examine(site), "image tools").verdict is Verdict.OK
    site.configure(images=["absent"])
    assert _of(_examine(site), "image absent").verdict is Verdict.PROBLEM
    site.configure(images=[])
    _check_problem(_of(_examine(site), "images"), "allows no image", "images")


def test_the_image_of_a_role_that_only_a_pattern_allows(site: TrialSite) -> None:
    roles = {"SIGNAL_PROCESSING": {"image": "absent"}}
    site.configure(images=[{"pattern": "[a-z]+"}], roles=roles, engine=_engine_of(site))
    _check_problem(_of(_examine(site), "image absent of the role SIGNAL_PROCESSING"), "", "")


def test_a_configuration_that_every_account_can_write(site: TrialSite) -> None:
    for place in (site.configuration_file, site.configuration_file.parent):
        mode = place.stat().st_mode
        place.chmod(mode | 0o002)
        _check_problem(_of(_examine(site), "configuration"), f"may write {place}, and so choose", f"chmod o-w {place}")
        place.chmod(mode)
    assert _of(_examine(site), "configuration").verdict is Verdict.OK


def test_certificates_for_urls_that_cannot_be_read(site: TrialSite) -> None:
    absent = str(site.folder / "absent.pem")
    site.configure(urls={"hosts": ["example.org"], "ca_file": absent})
    _check_problem(_of(_examine(site), "urls"), f"{absent}: holds no certificates", "urls.ca_file")
    site.configure(urls={"hosts": ["example.org"]})
    assert "urls" not in {one.link for one in _examine(site)}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run programs as another account")
def test_folders_that_the_workers_account_cannot_write(site: TrialSite, tmp_path: Path) -> None:
    nobody = Account.named("nobody")
    installation = Installation(Server(), site.configuration, nobody)
    vault = tmp_path / "vault"
    vault.mkdir(mode=0o755)
    resource = Resource("r", "unixfilesystem", "localhost", str(vault))
    _check_problem(vaults.access(installation, resource), "Permission denied", "ReadWritePaths")
    absent = replace(resource, vault=str(vault / "absent"))
    _check_problem(vaults.access(installation, absent), "does not exist", "install -d -m 750 -o nobody")
    state = Path(site.configuration.worker.state_directory)
    state.mkdir(exist_ok=True)
    _check_problem(workers.state_directory(installation), "does not belong to nobody", "chown nobody")


def test_files_that_a_task_cannot_read(site: TrialSite, tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    vault.mkdir()
    (vault / "private").write_text("")
    (vault / "private").chmod(0o600)
    resource = Resource("r", "unixfilesystem", "localhost", str(vault))
    current = Account.current()

    def found(settings: dict[str, Any]) -> Finding:
        configuration = replace(site.configuration, engine=EngineSettings("docker", settings))
        return vaults.access(Installation(Server(), configuration, current), resource)

    assert found({}).verdict is Verdict.OK, "the worker lets each job read its inputs"
    if current.uid == 0:
        _check_problem(found({"job_uids": None}), f"tasks cannot read {vault}/private", "owner")
        os.chown(vault / "private", 1, 1)
        current = Account.named("nobody")
        installation = Installation(Server(), replace(site.configuration, engine=EngineSettings("docker", {})), current)
        assert vaults._unreadable(str(vault), installation) == f"{vault}/private", "only an owner can let others read"


def test_a_state_directory_that_others_can_write(site: TrialSite) -> None:
    state = Path(site.configuration.worker.state_directory)
    state.mkdir(exist_ok=True)
    state.chmod(0o777)
    _check_problem(_of(_examine(site), "state directory"), "other accounts may write", "chmod 700")


# The engine


@pytest.mark.docker
def test_docker_its_limits_and_images(docker_answers: None) -> None:
    opened = open_engine(EngineSettings("docker", {}), "/nonexistent")
    document = {"zone": {"kind": "irods"}, "images": [BASE_IMAGE, "compute-to-data/absent:1"]}
    configuration = parse(document, "test")
    held = opened.identify(BASE_IMAGE)
    other = ImageRule(name=BASE_IMAGE, digest="sha256:" + "0" * 64)
    same = ImageRule(name=BASE_IMAGE, digest=held.digest)
    configuration = replace(configuration, images=(*configuration.images, other, same))
    installation = Installation(Server(), configuration, Account.current())
    assert next(iter(engine.answers(installation, opened))).verdict is Verdict.OK
    named, absent, digest, right = engine.images(configuration, opened)
    assert named.verdict is right.verdict is Verdict.OK
    _check_problem(absent, "does not hold it", "docker pull")
    _check_problem(digest, "not the one in the configuration", "sha256:000000000000")


def test_podman_is_asked_as_the_workers_account(tmp_path: Path) -> None:
    """Each account has a Podman of its own, and root's is none of theirs."""
    account = Account.named("nobody") if os.geteuid() == 0 else Account.current()
    document = {"zone": {"kind": "irods"}, "engine": {"name": "podman", "socket": str(tmp_path / "s")}}
    installation = Installation(Server(), parse(document, "test"), account)
    before = os.geteuid(), os.getegid()
    answers, images = examination._engine(installation)
    assert answers.verdict is Verdict.PROBLEM and images.verdict is Verdict.SKIPPED
    assert "runs as root" not in answers.seen
    assert (os.geteuid(), os.getegid()) == before
    with account.acting():
        assert (os.geteuid(), os.getegid()) == (account.uid, account.gid)


def test_docker_that_does_not_answer() -> None:
    configuration = parse({"zone": {"kind": "irods"}, "engine": {"name": "docker", "socket": "/nonexistent"}}, "test")
    opened = open_engine(configuration.engine, "/nonexistent")
    found = list(engine.answers(Installation(Server(), configuration, Account.current()), opened))
    assert [one.verdict for one in found] == [Verdict.PROBLEM]
    assert found[0].remedy


def test_a_socket_that_the_account_may_not_use(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    path.chmod(0o660)
    status = path.stat()
    stranger = Account("stranger", 4_000_001, 4_000_001)
    assert not stranger.may(0o002, status)
    assert replace(stranger, groups=(status.st_gid,)).may(0o002, status)
    assert replace(stranger, uid=status.st_uid or 4_000_001, groups=(status.st_gid,)).may(0o002, status)


# The agent's side


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """A scratch server whose agents have this package, with the account of this process."""
    folder = tmp_path / "irods"
    folder.mkdir()
    block = core_block.make((CHECKOUT / "core.py").read_text(), str(Path(compute_to_data.__file__).parents[1]))
    (folder / "core.py").write_text(core_block.add(ADMIN_CORE.decode(), block))
    engines = [{"plugin_name": rules.PYTHON_ENGINE}, {"plugin_name": rules.NATIVE_ENGINE}]
    document = {"plugin_configuration": {"rule_engines": engines}, "advanced_settings": {}}
    (folder / "server_config.json").write_text(json.dumps(document))
    server = Server(irods_configuration=str(folder), prefix=str(tmp_path / "opt"), python=sys.executable)
    return Installation(server, parse({"zone": {"kind": "irods"}}, "test"), Account.current())


def _core(installation: Installation) -> Finding:
    loaded = rules.load_core(installation, tuple(rulebase.__all__))
    return list(rules.core(installation, loaded))[-1]


def _edit(installation: Installation, name: str, change: Callable[[str], str]) -> None:
    path = Path(installation.server.irods_configuration, name)
    path.write_text(change(path.read_text()))


def test_a_healthy_agents_side(installation: Installation) -> None:
    assert rules.rule_engines(installation).verdict is Verdict.OK
    loaded = rules.load_core(installation, tuple(rulebase.__all__))
    findings = [*rules.core(installation, loaded), *rules.versions(installation, loaded)]
    assert [one for one in findings if one.verdict is not Verdict.OK and "compiled" not in one.seen] == []


def test_rule_engines_missing_or_in_the_wrong_order(installation: Installation) -> None:
    for engines, seen in {
        (): "Python rule engine has no entry",
        (rules.PYTHON_ENGINE,): "native rule engine",
        (rules.NATIVE_ENGINE, rules.PYTHON_ENGINE): "after the native one",
    }.items():
        document = {"plugin_configuration": {"rule_engines": [{"plugin_name": name} for name in engines]}}
        _edit(installation, "server_config.json", lambda _, document=document: json.dumps(document))  # type: ignore[misc]
        finding = rules.rule_engines(installation)
        assert finding.verdict is Verdict.PROBLEM
        assert seen in finding.seen
    _edit(installation, "server_config.json", lambda _: "{")
    assert rules.rule_engines(installation).verdict is Verdict.PROBLEM


@pytest.mark.parametrize(
    "document",
    [{}, {"plugin_configuration": []}, {"plugin_configuration": {"rule_engines": ["x"]}}, {"advanced_settings": 5}],
)
def test_a_server_configuration_of_another_shape(installation: Installation, document: Any) -> None:
    _edit(installation, "server_config.json", lambda _: json.dumps(document))
    _check_problem(rules.rule_engines(installation), "no list plugin_configuration.rule_engines", "Restore")
    assert rules.delay_server(installation).verdict is not Verdict.PROBLEM


def test_a_core_that_prints_when_it_is_left(installation: Installation) -> None:
    _edit(installation, "core.py", lambda text: f"{text}\nimport atexit; atexit.register(print, 'bye')\n")
    assert _core(installation).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("import sys; sys.exit(0)", "it does not load: it ends the process"),
        ("import no_such_module", "no_such_module"),
    ],
)
def test_a_core_that_does_not_load(installation: Installation, line: str, seen: str) -> None:
    _edit(installation, "core.py", lambda text: f"{text}\n{line}\n")
    _check_problem(_core(installation), seen, "no client can use the zone")


def test_a_core_that_never_ends(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compute_to_data.doctor.installation.LONGEST_SECONDS", 0.5)
    _edit(installation, "core.py", lambda text: f"{text}\nwhile True: pass\n")
    _check_problem(_core(installation), "it did not end within 0.5 s", "no client can use the zone")


def test_a_core_without_our_rules(installation: Installation) -> None:
    _edit(installation, "core.py", lambda _: ADMIN_CORE.decode())
    _check_problem(_core(installation), "does not have our block", "packaging/install install")


def test_a_core_that_imports_modules_of_agents(installation: Installation) -> None:
    _edit(installation, "core.py", lambda text: f"import genquery\nfrom irods_types import KeyValPair\n{text}")
    assert _core(installation).verdict is Verdict.OK


def test_a_core_that_hides_our_rules(installation: Installation) -> None:
    _edit(installation, "core.py", lambda text: f"{text}\n__all__ = ['acPostProcForPut']\n")
    _check_problem(_core(installation), "lacks container_dispatch", "__all__ above our block")


def test_a_package_that_cannot_be_loaded(installation: Installation, tmp_path: Path) -> None:
    broken = tmp_path / "agent" / "compute_to_data"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise RuntimeError('half installed')\n")
    block = core_block.make((CHECKOUT / "core.py").read_text(), str(broken.parent))
    _edit(installation, "core.py", lambda text: core_block.add(text, block))
    _check_problem(_core(installation), "half installed", "--force")


def test_two_versions(installation: Installation, tmp_path: Path) -> None:
    other = tmp_path / "compute_to_data"
    other.mkdir()
    (other / "__init__.py").write_text("")
    loaded = rules.Loaded(package=str(other), compiled=False)
    first, second = rules.versions(installation, loaded)
    _check_problem(first, f"{other}, differs from the workers'", "restart the workers")
    _check_problem(second, "not compiled", "--force")


def test_a_delay_server_without_executors(installation: Installation) -> None:
    settings = {"advanced_settings": {"number_of_concurrent_delay_rule_executors": 0}}
    _edit(installation, "server_config.json", lambda _: json.dumps(settings))
    _check_problem(rules.delay_server(installation), "0 executors", "at least 1")


def test_a_service_environment_that_is_missing(installation: Installation, tmp_path: Path) -> None:
    zone = replace(installation.configuration.zone, settings={"environment_file": str(tmp_path / "absent.json")})
    finding = workers.service_environment(
        replace(installation, configuration=replace(installation.configuration, zone=zone))
    )
    _check_problem(finding, "absent.json", "iinit")


def test_an_unreachable_zone_is_reported_and_the_other_checks_run(installation: Installation, tmp_path: Path) -> None:
    folder = installation.server.irods_configuration
    (Path(folder) / "service_account.config").write_text(f"IRODS_SERVICE_ACCOUNT_NAME={getpass.getuser()}\n")
    path = Path(folder, "compute_to_data.json")
    document = {
        "zone": {"kind": "irods", "environment_file": str(tmp_path / "absent.json")},
        "engine": {"name": "process"},
        "worker": {"state_directory": str(tmp_path)},
    }
    path.write_text(json.dumps(document))
    assert site_file.load(str(path)).zone.kind == "irods"
    findings = list(examination.examine(installation.server, str(path)))
    assert _of(findings, "zone").verdict is Verdict.PROBLEM
    assert _of(findings, "core.py").verdict is Verdict.OK
    assert _of(findings, "engine").verdict is Verdict.OK
