"""A service: each data object that arrives is a message to it, and is answered once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.people import settings_of
from support.reading import ENOUGH
from support.site import ALICE, BASE_IMAGE, HOME, TrialSite, wait_until

import compute_to_data as c2d
from compute_to_data.agent import policy
from compute_to_data.cli.main import main
from compute_to_data.client import processes, services, workloads
from compute_to_data.errors import InvalidRequest, NotFound, Refused
from compute_to_data.model import Avu, Entity, EntityKind
from compute_to_data.zones.embedded.agent import Callback, RuleExecutionInfo

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("docker_answers")]

MESSAGES = f"{HOME}/messages"
UPPER = {
    "exec": "tr",
    "application": BASE_IMAGE,
    "process_type": "service",
    "argv": ["a-z", "A-Z"],
    "input_adapter": {"input_type": "file", "input_params": {"file_type": "stream", "stream_name": "STDIN"}},
    "output_adapter": {"output_type": "file", "output_params": {"file_type": "stream", "stream_name": "STDOUT"}},
}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrialSite:
    site = TrialSite(tmp_path, {"name": "docker"}, BASE_IMAGE)
    (tmp_path / "config.json").write_text(json.dumps(settings_of(site, "alice")), encoding="utf-8")
    monkeypatch.setenv("C2D_CONFIG_FILE", str(tmp_path / "config.json"))
    monkeypatch.setenv("C2D_SESSION_FILE", str(tmp_path / "session.json"))
    monkeypatch.delenv("C2D_PROJECT", raising=False)
    return site


@pytest.fixture
def session(site: TrialSite) -> Iterator[c2d.Session]:
    with site.working(), c2d.connect() as opened:
        yield opened


class Uploads:
    """alice's uploads into the collection of messages, and the policy that the server calls after each."""

    def __init__(self, site: TrialSite) -> None:
        self._site = site
        self._rei = RuleExecutionInfo(site.zone, ALICE, site.configuration)
        self.log: list[str] = []

    def put(self, name: str, content: bytes) -> None:
        self._site.alice.write(f"{MESSAGES}/{name}", content)
        assert policy.arrived(Callback(lambda _, text: self.log.append(text)), self._rei, f"{MESSAGES}/{name}", False)


def answers(session: c2d.Session, service: services.Service) -> dict[str, list[bytes]]:
    """The answers by the names of their messages."""
    found: dict[str, list[bytes]] = {}
    for task in workloads.find(session, service.workload).tasks():
        if task.state == "COMPLETED":
            for child in session.catalog.children(task.collection):
                name = child.logical_path.rpartition("/")[2]
                if name.startswith("m"):
                    found.setdefault(name, []).append(session.catalog.read(child.logical_path, ENOUGH))
    return found


def test_two_hundred_messages_are_answered_once_each(session: c2d.Session, site: TrialSite) -> None:
    processes.create(session, UPPER, "upper")
    service = services.start(session, "upper", MESSAGES, instances=2)
    uploads = Uploads(site)
    for number in range(200):
        uploads.put(f"m{number:03}", f"message {number}\n".encode())
    handle = workloads.find(session, service.workload)
    wait_until(lambda: handle.describe().tasks.get("COMPLETED", 0) >= 200, "200 answers", patience=300)
    assert answers(session, service) == {f"m{n:03}": [f"MESSAGE {n}\n".encode()] for n in range(200)}
    assert handle.describe().tasks == {"COMPLETED": 200}
    assert uploads.log == []
    recorded = handle.tasks()[0].collection
    document = json.loads(session.catalog.read(f"{recorded}/task.json", ENOUGH))
    assert document["definition"]["name"] == "upper"
    services.stop(session, service.workload)


def test_a_stopped_service_answers_no_more(session: c2d.Session, site: TrialSite) -> None:
    processes.create(session, UPPER, "upper")
    service = services.start(session, "upper", MESSAGES)
    assert services.stop(session, service.workload) == service
    assert session.catalog.avus(Entity(EntityKind.COLLECTION, MESSAGES)) == ()
    Uploads(site).put("m1", b"late")
    assert workloads.find(session, service.workload).tasks() == []
    again = services.start(session, "upper", MESSAGES)
    assert again.workload != service.workload
    services.stop(session, again.workload)


def test_a_service_keeps_the_definition_it_was_started_with(session: c2d.Session, site: TrialSite) -> None:
    processes.create(session, UPPER, "upper")
    service = services.start(session, "upper", MESSAGES)
    processes.update(session, "upper", {**UPPER, "argv": ["a-z", "b"]})
    Uploads(site).put("m1", b"abc")
    handle = workloads.find(session, service.workload)
    wait_until(lambda: handle.describe().tasks.get("COMPLETED", 0) == 1, "the answer")
    assert answers(session, service) == {"m1": [b"ABC"]}
    (task,) = handle.tasks()
    assert "definition" not in json.loads(session.catalog.read(f"{task.collection}/task.json", ENOUGH))
    services.stop(session, service.workload)


def test_what_cannot_be_a_service_is_not_started(session: c2d.Session) -> None:
    processes.create(session, {**UPPER, "process_type": "single"}, "once")
    processes.create(session, UPPER, "upper")
    with pytest.raises(InvalidRequest, match="is not of the type service"):
        services.start(session, "once", MESSAGES)
    with pytest.raises(InvalidRequest, match="c2d process start"):
        session.submit({"role": "CONTAINER", "inputs": [], "process": "upper"})
    with pytest.raises(InvalidRequest, match="/parameters/x"):
        services.start(session, "upper", MESSAGES, values={"x": 1})
    service = services.start(session, "upper", MESSAGES)
    with pytest.raises(Refused, match="another service listens already"):
        services.start(session, "upper", MESSAGES)
    services.stop(session, service.workload)
    ordinary = session.start_workload(BASE_IMAGE)
    with pytest.raises(NotFound, match="is no service"):
        services.stop(session, ordinary.id)


def test_another_users_tag_starts_nothing_for_alice(session: c2d.Session, site: TrialSite) -> None:
    """bob may tag what he can write to, but a template counts only for the user whose it is."""
    processes.create(session, UPPER, "upper")
    service = services.start(session, "upper", MESSAGES)
    template = f"{service.answers}/service.json"
    rights = {str(row.user): row.access.name for row in session.catalog.permissions(template)}
    assert rights == {str(ALICE): "OWN"}
    assert session.catalog.avus(Entity(EntityKind.COLLECTION, MESSAGES)) == (
        Avu("irods::compute_to_data::trigger", template),
    )
    services.stop(session, service.workload)


def test_on_the_command_line(session: c2d.Session, site: TrialSite, capsys: pytest.CaptureFixture[str]) -> None:
    parameters = {"properties": {"to": {"type": "string", "pattern": "^.-.$", "default": "A-Z"}}}
    processes.create(session, {**UPPER, "argv": ["a-z", "${to}"], "parameters": parameters}, "upper")
    assert main(["process", "start", "upper", "messages", "-p", "to=AZ"]) == 3
    assert "/parameters/to" in capsys.readouterr().err
    assert main(["process", "start", "upper", "messages", "-p", "to=B-Z", "--instances", "1"]) == 0
    workload = capsys.readouterr().out.strip()
    Uploads(site).put("m1", b"abc")
    handle = session.workload(workload)
    wait_until(lambda: handle.describe().tasks.get("COMPLETED", 0) == 1, "the answer")
    assert answers(session, services.describe(session, handle)) == {"m1": [b"BCD"]}
    assert main(["process", "stop", workload]) == 0
    assert "no message any more" in capsys.readouterr().err


def test_a_service_with_a_port_gets_a_container_for_each_message(session: c2d.Session, site: TrialSite) -> None:
    server: dict[str, Any] = {
        "exec": "python3",
        "application": BASE_IMAGE,
        "process_type": "service",
        "argv": ["-c", "import socket as s; c = s.create_server(('', 9000)).accept()[0]; c.sendall(c.recv(99)[::-1])"],
        "input_adapter": {"input_type": "tcp", "input_parameters": {"tcp_port": 9000}},
        "output_adapter": {"output_type": "tcp", "output_parameters": {"tcp_port": 9000}},
    }
    processes.create(session, server, "reverse")
    service = services.start(session, "reverse", MESSAGES)
    uploads = Uploads(site)
    for name in ("m1", "m2"):
        uploads.put(name, name.encode())
    handle = session.workload(service.workload)
    wait_until(lambda: handle.describe().tasks.get("COMPLETED", 0) == 2, "the answers")
    assert answers(session, service) == {"m1": [b"1m"], "m2": [b"2m"]}
    services.stop(session, service.workload)
