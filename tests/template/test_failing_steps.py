"""Each step of the template fails, and the zone is as it was before; the same when undoing fails, too."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.faults import EngineWithTroubledJobs, StorageWithTroubledSessions, Troubled, broken
from support.site import COMPUTE, HOME, TrialSite

from compute_to_data.errors import Code, EngineError
from compute_to_data.model import Access, Collection
from compute_to_data.submission.submit import Submitted

CLAIM = "irods::compute_to_data_task"
WRITES = ("/bin/sh", "-c", "cat /inputs/*; mkdir -p /outputs/sub; echo 1 > /outputs/one; echo 2 > /outputs/sub/two")


@dataclass
class Failure:
    """How to make a step fail, the reason that the task must have, and which outputs are ``kept`` below ``failed/``
    (None: that depends on how far the job got)."""

    reason: str
    words: str
    session: dict[str, Callable[..., Any]] = field(default_factory=dict)
    storage: dict[str, Callable[..., Any]] = field(default_factory=dict)
    engine: dict[str, Callable[..., Any]] = field(default_factory=dict)
    job: dict[str, Callable[..., Any]] = field(default_factory=dict)
    before_work: Callable[[TrialSite], object] = lambda site: None
    argv: tuple[str, ...] = WRITES
    request: dict[str, Any] = field(default_factory=dict)
    kept: frozenset[str] | None = frozenset()


def _engine_broken(*_: Any, **__: Any) -> Any:
    raise EngineError("the engine", "broke on purpose")


def _exchange_an_output(register: Any, resource: str, files: Any) -> None:
    """Replace a file by a link to another while the outputs are being registered."""
    register(resource, files)
    for victim in [one.physical_path for one in files if one.physical_path.endswith("/sub/two")]:
        os.unlink(victim)
        os.symlink("/etc/hostname", victim)


def _exchange_a_folder(register: Any, resource: str, files: Any) -> None:
    """Replace a directory by a link to another while the outputs are being registered."""
    register(resource, files)
    for folder in [os.path.dirname(one.physical_path) for one in files if one.physical_path.endswith("/sub/two")]:
        os.rename(folder, f"{folder}.moved")
        os.symlink(f"{folder}.moved", folder)


def _corrupt_the_input(site: TrialSite) -> None:
    replica = site.alice.stat(f"{HOME}/in/a.txt").replicas[0]  # type: ignore[union-attr]
    with open(replica.physical_path, "r+b") as file:
        file.write(b"X")


FAILURES = {
    "authorise: the input is gone": Failure(
        "refused", "no unclaimed data object", before_work=lambda site: site.alice.remove(f"{HOME}/in/a.txt")
    ),
    "authorise: claim impossible": Failure("system_error", "broke on purpose", session={"find": broken}),
    "authorise: no access to the output collection": Failure(
        "refused", "needs own", session={"access": lambda access, path: min(access(path), Access.MODIFY_OBJECT)}
    ),
    "choose_resource: role gone": Failure(
        "refused", "no longer has the role", before_work=lambda site: site.take_role(COMPUTE, "CONTAINER")
    ),
    "stage_in: replication fails": Failure("system_error", "broke on purpose", storage={"replicate": broken}),
    "stage_in: bytes differ from the checksum": Failure(
        "system_error", str(int(Code.USER_CHKSUM_MISMATCH)), before_work=_corrupt_the_input
    ),
    "run: image not in the engine": Failure("system_error", "broke on purpose", engine={"identify": _engine_broken}),
    "run: no workspace": Failure("system_error", "broke on purpose", engine={"prepare": _engine_broken}),
    "run: job does not start": Failure("system_error", "broke on purpose", engine={"submit": _engine_broken}),
    "run: the engine loses the job": Failure(
        "system_error", "broke on purpose", job={"status": _engine_broken}, kept=None
    ),
    "run: walltime": Failure(
        "walltime_exceeded", "1 seconds", argv=("/bin/sleep", "60"), request={"limits": {"walltime_seconds": 1}}
    ),
    "run: too much output": Failure(
        "output_limit",
        "100000 bytes",
        argv=("/bin/sh", "-c", "head -c 1000000 /dev/zero > /outputs/big; exec sleep 60"),
        request={"limits": {"output_bytes": 100000}},
    ),
    "check: nonzero exit": Failure(
        "nonzero_exit",
        "status 7: so it is",
        argv=("/bin/sh", "-c", "echo 1 > /outputs/one; echo so it is >&2; exit 7"),
        kept=frozenset({"one"}),
    ),
    "check: a link among the outputs": Failure(
        "output_refused",
        "symbolic link",
        argv=("/bin/sh", "-c", "echo 1 > /outputs/one; ln -s /etc/passwd /outputs/two"),
        kept=frozenset({"one"}),
    ),
    "check: a name of our own record": Failure(
        "output_refused",
        "task.json",
        argv=("/bin/sh", "-c", "echo 1 > /outputs/task.json"),
        kept=frozenset({"task.json"}),
    ),
    "register: the zone refuses": Failure("system_error", "broke on purpose", session={"register": broken}),
    "register: a file is exchanged meanwhile": Failure(
        "output_refused", "exchanged", session={"register": _exchange_an_output}, kept=frozenset({"one"})
    ),
    "register: a directory is exchanged meanwhile": Failure(
        "output_refused", "changed", session={"register": _exchange_a_folder}, kept=frozenset({"one", "sub.moved/two"})
    ),
    "annotate: the zone refuses": Failure("system_error", "broke on purpose", session={"annotate_all": broken}),
}


def _prepare(site: TrialSite) -> None:
    site.alice.create_collection(f"{HOME}/in")
    site.alice.write(f"{HOME}/in/a.txt", b"some input\n", resource="demoResc")


def _fail(site: TrialSite, failure: Failure, **more: Callable[..., Any]) -> tuple[Submitted, dict[str, str], Any]:
    """Run a task with the failure. Returns the task, its facts, and the zone before and after."""
    document = site.request(*failure.argv, inputs=[{"next_of": f"{HOME}/in"}], **failure.request)
    submitted = site.submit(document)
    failure.before_work(site)
    before = site.snapshot(without=submitted.collection)
    storage = StorageWithTroubledSessions(Troubled(site.storage, **failure.storage), **failure.session)
    engine = Troubled(EngineWithTroubledJobs(site.engine, **failure.job), **failure.engine, **more)
    with site.working(storage=storage, engine=engine):  # type: ignore[arg-type]
        facts = site.ended(submitted)
    return submitted, facts, before


@pytest.mark.parametrize("name", FAILURES)
def test_a_failing_step_leaves_the_zone_as_it_was(site: TrialSite, name: str) -> None:
    failure = FAILURES[name]
    _prepare(site)
    submitted, facts, before = _fail(site, failure)
    assert facts["state"] == "FAILED"
    assert facts["reason_code"] == failure.reason
    assert failure.words in facts["reason"] or failure.words in facts["error_code"]
    assert int(facts["error_code"]) < 0
    assert site.snapshot(without=submitted.collection) == before
    assert site.leftovers(submitted) == []
    contents = site.contents(submitted.collection)
    kept = {name[len("failed/") :] for name in contents if name.startswith("failed/")}
    assert {name for name in contents if not name.startswith("failed/")} <= {"task.json", "STDOUT.txt", "STDERR.txt"}
    assert kept <= {"one", "sub/two"} if failure.kept is None else kept == failure.kept
    below = {one.logical_path for one in site.alice.children(submitted.collection) if isinstance(one, Collection)}
    assert below == ({f"{submitted.collection}/failed"} if kept else set())


@pytest.mark.parametrize(
    "name", [name for name in FAILURES if name.split(":")[0] in ("run", "check", "register", "annotate")]
)
def test_a_failing_undo_is_reported_and_the_rest_is_undone(site: TrialSite, name: str) -> None:
    """The worker cannot remove the job. It undoes everything else, and the reason names both errors."""
    _prepare(site)
    submitted, facts, before = _fail(site, FAILURES[name], remove=_engine_broken)
    assert facts["state"] == "FAILED"
    assert FAILURES[name].words in facts["reason"]
    told_later = "could not remove the job" in facts["reason"]
    never_started = name in ("run: image not in the engine",)
    assert told_later or never_started
    assert site.snapshot(without=submitted.collection) == before
    for job in site.engine.jobs(site.worker()._served.scope):
        site.engine.remove(job)


def test_a_claim_that_cannot_be_removed_is_reported(site: TrialSite) -> None:
    def keep_claims(annotate: Any, entity: Any, *, add: Any = (), remove: Any = ()) -> None:
        if any(avu.attribute == CLAIM for avu in remove):
            broken()
        annotate(entity, add=add, remove=remove)

    _prepare(site)
    failure = FAILURES["check: nonzero exit"]
    failure = Failure(failure.reason, failure.words, argv=failure.argv, session={"annotate": keep_claims})
    submitted, facts, _ = _fail(site, failure)
    assert facts["reason_code"] == "nonzero_exit"
    assert "could not remove the claim" in facts["reason"]
    assert site.leftovers(submitted) == []
    replicas = site.alice.stat(f"{HOME}/in/a.txt").replicas  # type: ignore[union-attr]
    assert [replica.leaf for replica in replicas] == ["demoResc"], "the rest was undone"
