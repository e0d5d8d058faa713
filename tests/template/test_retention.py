"""Results that go to long-term storage: replicated, read back, and only then trimmed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.faults import StorageWithTroubledSessions, Troubled, broken
from support.site import COMPUTE, HOME, TrialSite, wait_until

from compute_to_data.configuration import Attributes
from compute_to_data.errors import Code, EngineError, Refused
from compute_to_data.model import DataObject, Resource
from compute_to_data.pipeline.results import retain
from compute_to_data.records.state import State
from compute_to_data.roles.container import Container
from compute_to_data.submission.submit import Submitted
from compute_to_data.zones.embedded.audit import audit

LTS, ROLE = "lts_resc", "LONG_TERM_STORAGE"
WRITES = (
    "/bin/sh",
    "-c",
    "cat /inputs/*; mkdir -p /outputs/sub/empty; echo 1 > /outputs/one; echo 2 > /outputs/sub/two",
)
RESULTS = ["STDOUT.txt", "one", "ro-crate-metadata.json", "sub/two"]


def _site(folder: Path, **settings: Any) -> TrialSite:
    """CONTAINER sends its results to LONG_TERM_STORAGE, the role of lts_resc, and trims its inputs."""
    (folder / "tools").mkdir()
    engine = {"name": "process", "images": {"tools": str(folder / "tools")}}
    roles = {"CONTAINER": {"results_to": ROLE, "staged_inputs": "trim", **settings}}
    site = TrialSite(folder, engine, "tools", roles=roles)
    site.zone.add_resource(LTS)
    site.give_role(LTS, ROLE)
    site.alice.create_collection(f"{HOME}/in")
    site.alice.write(f"{HOME}/in/a.txt", b"some input\n", resource="demoResc")
    return site


@pytest.fixture
def keeping(tmp_path: Path) -> TrialSite:
    return _site(tmp_path)


def _request(site: TrialSite, *argv: str, **more: Any) -> Any:
    return site.request(*(argv or WRITES), inputs=[f"{HOME}/in/a.txt"], **more)


def _places(site: TrialSite, logical_path: str) -> list[str]:
    found = site.alice.stat(logical_path)
    assert isinstance(found, DataObject), logical_path
    return [replica.hierarchy for replica in found.replicas]


def _results(site: TrialSite, facts: dict[str, str]) -> dict[str, list[str]]:
    names = sorted(set(site.contents(facts["collection"])) - {"task.json"})
    return {name: _places(site, f"{facts['collection']}/{name}") for name in names}


def _directories(site: TrialSite, collection: str, resource: str = COMPUTE) -> list[str]:
    """What is left of a task's directory in a vault."""
    below = site.folder / "zone" / "vaults" / resource / collection[len("/tempZone/") :]
    return [str(one.relative_to(below)) for one in below.rglob("*")] if below.exists() else []


def test_results_move_with_their_checksums_and_leave_nothing_behind(keeping: TrialSite) -> None:
    facts = keeping.run(_request(keeping))
    assert facts["state"] == "COMPLETED", facts
    assert facts["moved_to"] == LTS
    assert "moving_to" not in facts
    assert _results(keeping, facts) == {name: [LTS] for name in RESULTS}
    assert keeping.contents(facts["collection"])["sub/two"] == b"2\n"
    for name in RESULTS:
        found = keeping.alice.stat(f"{facts['collection']}/{name}")
        assert isinstance(found, DataObject)
        (replica,) = found.replicas
        assert replica.checksum == keeping.storage.verify(found.logical_path, replica.number)
        assert found.owner == keeping.alice.user
    assert not (keeping.folder / "zone" / "vaults" / COMPUTE / facts["collection"][len("/tempZone/") :]).exists()
    assert audit(str(keeping.folder / "zone")) == []


def test_the_input_that_staging_made_is_trimmed_and_no_other(keeping: TrialSite) -> None:
    keeping.alice.write(f"{HOME}/in/b.txt", b"here", resource="demoResc")
    keeping.alice.replicate(f"{HOME}/in/b.txt", COMPUTE)
    facts = keeping.run(keeping.request("/bin/true", inputs=[{"collection": f"{HOME}/in"}]))
    assert facts["state"] == "COMPLETED", facts
    assert _places(keeping, f"{HOME}/in/a.txt") == ["demoResc"]
    assert _places(keeping, f"{HOME}/in/b.txt") == ["demoResc", COMPUTE]


def test_what_the_request_does_not_name_is_not_trimmed(keeping: TrialSite) -> None:
    """An owner may write AVUs on the task's record, and has no right to trim all that they can read."""
    keeping.alice.write(f"{HOME}/b.txt", b"here", resource="demoResc")
    keeping.alice.replicate(f"{HOME}/b.txt", COMPUTE)
    submitted = keeping.submit(_request(keeping))
    keeping.record(submitted).remember("staged", f"{HOME}/b.txt")
    with keeping.working():
        assert keeping.ended(submitted)["state"] == "COMPLETED"
    assert _places(keeping, f"{HOME}/b.txt") == ["demoResc", COMPUTE]


def test_staged_inputs_stay_unless_the_site_says_trim(tmp_path: Path) -> None:
    site = _site(tmp_path, staged_inputs="keep")
    facts = site.run(_request(site))
    assert _results(site, facts) == {name: [LTS] for name in RESULTS}
    assert _places(site, f"{HOME}/in/a.txt") == ["demoResc", COMPUTE]


def test_of_several_the_first_by_name_that_is_up_receives(keeping: TrialSite) -> None:
    for name, status in (("archive_a", "down"), ("archive_b", ""), ("archive_c", "up")):
        keeping.zone.add_resource(name)
        keeping.give_role(name, ROLE)
        keeping.zone.set_resource_status(name, status)
    facts = keeping.run(_request(keeping))
    assert _results(keeping, facts) == {name: ["archive_b"] for name in RESULTS}


def test_every_leaf_of_a_coordinating_resource_receives(keeping: TrialSite) -> None:
    keeping.zone.add_resource("archive", "replication")
    for name in ("tape", "disk"):
        keeping.zone.add_resource(name, parent="archive")
    keeping.give_role("tape", ROLE)  # a child has the role, and the worker names its root to iRODS
    keeping.take_role(LTS, ROLE)
    facts = keeping.run(_request(keeping))
    assert facts["moved_to"] == "archive", facts
    for places in _results(keeping, facts).values():
        assert sorted(places) == ["archive;disk", "archive;tape"]


def test_a_coordinating_resource_may_bear_the_role(keeping: TrialSite) -> None:
    keeping.zone.add_resource("archive", "passthru")
    keeping.zone.add_resource("tape", parent="archive")
    keeping.give_role("archive", ROLE)
    facts = keeping.run(_request(keeping))
    assert _results(keeping, facts) == {name: ["archive;tape"] for name in RESULTS}


@pytest.mark.parametrize(("bearers", "receives"), [(["other"], None), (["other", "z"], "z"), (["pair", "z"], "")])
def test_a_sibling_of_the_compute_resource_cannot_receive(bearers: list[str], receives: str | None) -> None:
    """Trimming names the root, so a sibling cannot keep its replica when the compute resource loses its own."""
    resources = (
        Resource("pair", "replication", "EMPTY_RESC_HOST", "EMPTY_RESC_PATH"),
        Resource("mine", "unixfilesystem", "h", "/v/mine", parent="pair"),
        Resource("other", "unixfilesystem", "h", "/v/other", parent="pair"),
        Resource("z", "unixfilesystem", "h", "/v/z"),
    )
    catalog = SimpleNamespace(resources=lambda: resources, find=lambda *_: tuple(bearers))
    configuration = SimpleNamespace(attributes=Attributes())
    context = SimpleNamespace(catalog=catalog, configuration=configuration, resource=resources[1])
    execution: Any = SimpleNamespace(role=Container("C", {"results_to": ROLE}), task=None, context=context)
    if receives is None:
        with pytest.raises(Refused, match=ROLE):
            retain.receiving_root(execution)
    else:
        assert retain.receiving_root(execution) == receives


def test_results_on_a_resource_with_the_receiving_role_stay(keeping: TrialSite) -> None:
    keeping.give_role(COMPUTE, ROLE)
    facts = keeping.run(_request(keeping, role="CONTAINER"))
    assert facts["state"] == "COMPLETED", facts
    assert _results(keeping, facts) == {name: [COMPUTE] for name in RESULTS}


def test_what_the_owner_put_beside_the_results_is_left_alone(keeping: TrialSite) -> None:
    submitted = keeping.submit(_request(keeping))
    own = f"{submitted.collection}/notes"
    keeping.alice.write(own, b"mine", resource=COMPUTE)
    keeping.alice.replicate(own, LTS)
    with keeping.working():
        assert keeping.ended(submitted)["state"] == "COMPLETED"
    assert _places(keeping, own) == [COMPUTE, LTS]


def test_a_result_that_another_task_reads_stays_there_too(keeping: TrialSite) -> None:
    """The second task begins to read while the first is moving its results."""
    first = keeping.submit(_request(keeping))
    wanted = f"{first.collection}/one"
    waits = "while [ ! -e /outputs/go ]; do sleep 0.02; done; cat /inputs/one"
    started: list[Any] = []

    def replicate(original: Any, data_object: str, resource: str) -> Any:
        if data_object == wanted and not started:
            started.append(keeping.submit(keeping.request("/bin/sh", "-c", waits, inputs=[wanted])))
            record = keeping.record(started[0])
            wait_until(lambda: record.facts().get("state") == "RUNNING", "the second task to run")
        return original(data_object, resource)

    with keeping.working(storage=Troubled(keeping.storage, replicate=replicate)):  # type: ignore[arg-type]
        facts = keeping.ended(first)
        assert facts["state"] == "COMPLETED", facts
        assert _places(keeping, wanted) == [COMPUTE, LTS]
        assert _places(keeping, f"{first.collection}/sub/two") == [LTS]
        below = started[0].collection[len("/tempZone/") :]
        (outputs,) = (keeping.folder / "zone" / "vaults" / COMPUTE / below).glob("*/outputs")
        (outputs / "go").touch()
        assert keeping.ended(started[0])["state"] == "COMPLETED"
    assert keeping.contents(started[0].collection)["STDOUT.txt"] == b"1\n"


class TestNoResourceReceives:
    """The worker refuses such a task before it runs, and notices when the resource changes later."""

    def refused(self, site: TrialSite, words: str, **troubles: Any) -> None:
        submitted = site.submit(_request(site))
        before = site.snapshot(without=submitted.collection)
        started: list[object] = []

        def start(original: Any, job: Any) -> Any:
            started.append(job)
            return original(job)

        with site.working(storage=Troubled(site.storage, **troubles), engine=Troubled(site.engine, submit=start)):  # type: ignore[arg-type]
            facts = site.ended(submitted)
        assert (facts["state"], facts["reason_code"]) == ("FAILED", "refused"), facts
        assert words in facts["reason"]
        assert not started
        assert site.snapshot(without=submitted.collection) == before
        assert site.leftovers(submitted) == []

    def test_no_resource_has_the_role(self, keeping: TrialSite) -> None:
        keeping.take_role(LTS, ROLE)
        self.refused(keeping, "imeta add -R <resource> COMPUTE_RESOURCE_ROLE LONG_TERM_STORAGE")


class TestTheReceivingResourceIsDown:
    """As for maintenance: the program runs, and its results wait."""

    def test_results_wait_until_it_is_up(self, keeping: TrialSite) -> None:
        keeping.zone.set_resource_status(LTS, "down")
        submitted = keeping.submit(_request(keeping))
        self.completes_when_it_is_up(keeping, submitted)

    @pytest.mark.parametrize("moment", ["annotate_all", "replicate"])
    def test_it_goes_down(self, keeping: TrialSite, moment: str) -> None:
        """Before the results are moved, and after the first of them."""
        submitted = keeping.submit(_request(keeping))

        def goes_down(original: Any, *args: Any) -> Any:
            answer = original(*args)
            if not went_down:
                went_down.append(True)
                keeping.zone.set_resource_status(LTS, "down")
            return answer

        went_down: list[bool] = []
        troubled = StorageWithTroubledSessions if moment == "annotate_all" else Troubled
        self.completes_when_it_is_up(keeping, submitted, troubled(keeping.storage, **{moment: goes_down}))
        assert went_down

    def completes_when_it_is_up(self, site: TrialSite, submitted: Submitted, storage: Any = None) -> None:
        record, job = site.record(submitted), []

        def submit(original: Any, given: Any) -> Any:
            job.append(given)
            return original(given)

        with site.working(storage=storage or site.storage, engine=Troubled(site.engine, submit=submit)):  # type: ignore[arg-type]
            waits = f"resource {LTS}: is marked down"
            wait_until(lambda: waits in record.facts("held_up").get("held_up", ""), "the task to wait")
            assert record.state() is State.STAGING_OUT
            site.zone.set_resource_status(LTS, "up")
            facts = site.ended(submitted)
        assert facts["state"] == "COMPLETED", facts
        assert len(job) == 1, "the program ran once"
        assert _results(site, facts) == {name: [LTS] for name in RESULTS}
        assert site.leftovers(submitted) == []


def _at(number: int, trouble: Callable[..., Any]) -> Callable[..., Any]:
    """An operation that fails only the ``number``-th time."""
    calls = iter(range(1, 1000))

    def sometimes(original: Any, *args: Any) -> Any:
        return trouble(original, *args) if next(calls) == number else original(*args)

    return sometimes


def _engine_broken(*_: Any) -> None:
    raise EngineError("the engine", "broke on purpose")


def _exchange_bytes(original: Any, data_object: str, resource: str) -> Any:
    """The replica arrives damaged, but the catalog has it as good."""
    made = original(data_object, resource)
    with open(made.physical_path, "r+b") as file:
        file.write(b"X")
    return made


FAILURES: dict[str, dict[str, Callable[..., Any]]] = {
    "a result cannot be replicated": {"replicate": _at(3, broken)},  # the first one replicates the input
    "the last one cannot be replicated": {"replicate": _at(5, broken)},
    "a replica cannot be read back": {"verify": _at(4, broken)},
    "a replica arrives damaged": {"replicate": _at(4, _exchange_bytes)},
    "another checksum is read back": {"verify": _at(3, lambda original, *args: "sha2:AAAA")},
    "the first cannot be trimmed": {"trim": _at(1, broken)},
    "the last cannot be trimmed": {"trim": _at(4, broken)},
    "the input cannot be trimmed": {"trim": _at(5, broken)},
}


KEPT = {"failed/one", "failed/sub/two"}
LOST = {"the last cannot be trimmed": ("one",), "the input cannot be trimmed": ("one", "sub/two")}
"""Results whose only replica had moved already, and was taken back."""


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_leaves_the_zone_as_it_was(keeping: TrialSite, name: str) -> None:
    submitted = keeping.submit(_request(keeping))
    before = keeping.snapshot(without=submitted.collection)
    with keeping.working(storage=Troubled(keeping.storage, **FAILURES[name])):  # type: ignore[arg-type]
        facts = keeping.ended(submitted)
    assert facts["state"] == "FAILED", facts
    assert any(words in facts["reason"] for words in ("broke on purpose", "checksum")), facts["reason"]
    assert not {"moving_to", "moved_to", "staged"} & facts.keys()
    kept = KEPT - {f"failed/{result}" for result in LOST.get(name, ())}
    assert set(keeping.contents(submitted.collection)) == {"task.json", "STDOUT.txt", *kept}
    assert {tuple(_places(keeping, f"{submitted.collection}/{one}")) for one in kept} <= {(COMPUTE,)}
    assert keeping.contents(submitted.collection)["STDOUT.txt"] == b"some input\n"
    assert _places(keeping, f"{submitted.collection}/STDOUT.txt") == [COMPUTE]
    assert keeping.snapshot(without=submitted.collection) == before
    assert keeping.leftovers(submitted) == []
    assert audit(str(keeping.folder / "zone")) == []


def test_a_result_that_cannot_be_undone_is_reported_and_the_others_are_undone(keeping: TrialSite) -> None:
    stuck: list[str] = []

    def trim(original: Any, data_object: str, resource: str) -> None:
        if resource == LTS and (not stuck or data_object in stuck):
            stuck.append(data_object)
            broken()
        original(data_object, resource)

    troubles = {"trim": trim, "replicate": _at(5, broken)}
    submitted = keeping.submit(_request(keeping))
    with keeping.working(storage=Troubled(keeping.storage, **troubles)):  # type: ignore[arg-type]
        facts = keeping.ended(submitted)
    assert facts["state"] == "FAILED"
    assert f"could not trim the results from {LTS}" in facts["reason"]
    left = [name for _, _, names in os.walk(keeping.folder / "zone" / "vaults" / LTS) for name in names]
    assert left == [stuck[0].rpartition("/")[2]], "the others were undone"
    assert set(keeping.contents(submitted.collection)) == {"task.json", "STDOUT.txt", *KEPT}


@pytest.mark.parametrize("operation", ["replicate", "trim"])
def test_a_stopped_worker_leaves_the_rest_of_moving_to_the_next(keeping: TrialSite, operation: str) -> None:
    submitted = keeping.submit(_request(keeping))
    workers: list[Any] = []

    def stop(original: Any, *args: Any) -> Any:
        workers[0].stop()
        return original(*args)

    storage = Troubled(keeping.storage, **{operation: _at(2, stop)})
    engine = Troubled(keeping.engine, remove=_at(1, _engine_broken))  # so its job is still there, too
    with keeping.working(storage=storage, engine=engine) as worker:  # type: ignore[arg-type]
        workers.append(worker)
        wait_until(worker._stopping.is_set, "the operation")
    assert keeping.record(submitted).facts()["state"] == "STAGING_OUT"
    with keeping.working():
        facts = keeping.ended(submitted)
    assert (facts["state"], facts["exit_status"]) == ("COMPLETED", "0"), facts
    assert _results(keeping, facts) == {name: [LTS] for name in RESULTS}
    assert _places(keeping, f"{HOME}/in/a.txt") == ["demoResc"]
    assert _directories(keeping, facts["collection"]) == []
    assert keeping.engine.jobs(keeping.worker()._served.scope) == ()


def test_a_failing_task_moves_nothing(keeping: TrialSite) -> None:
    facts = keeping.run(_request(keeping, "/bin/sh", "-c", "echo 1 > /outputs/one; echo no >&2; exit 3"))
    assert facts["reason_code"] == "nonzero_exit"
    assert _places(keeping, f"{facts['collection']}/STDERR.txt") == [COMPUTE]


def test_a_damaged_replica_has_the_code_of_a_checksum_mismatch(keeping: TrialSite) -> None:
    storage = Troubled(keeping.storage, replicate=_at(2, _exchange_bytes))
    facts = keeping.run(_request(keeping), storage=storage)  # type: ignore[arg-type]
    assert int(facts["error_code"]) == Code.USER_CHKSUM_MISMATCH
