"""What a task that failed left in its outputs: kept below ``failed/``, marked, and never where results would be."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support.faults import StorageWithTroubledSessions, Troubled, broken
from support.reading import ENOUGH
from support.site import ALICE, COMPUTE, HOME, WAITS, TrialSite

from compute_to_data.errors import EngineError, InvalidRequest
from compute_to_data.model import Avu, Collection, DataObject, Entity, EntityKind
from compute_to_data.pipeline import left_behind
from compute_to_data.pipeline.vault import workspace
from compute_to_data.records.cancel import request_cancel
from compute_to_data.records.state import State
from compute_to_data.submission.submit import Submitted

MARK = "irods::compute_to_data::failed_task"


def _request(site: TrialSite, script: str, **more: Any) -> Any:
    return site.request("/bin/sh", "-c", script, **more)


def _failed(site: TrialSite, script: str, **more: Any) -> tuple[Submitted, dict[str, str], dict[str, bytes]]:
    """Run a task that fails: the task, its facts, and what is kept, by its name below ``failed/``."""
    submitted = site.submit(_request(site, script, **more))
    with site.working():
        facts = site.ended(submitted)
    assert facts["state"] in ("FAILED", "CANCELLED"), facts
    assert site.leftovers(submitted) == []
    return submitted, facts, _kept(site, submitted)


def _kept(site: TrialSite, submitted: Submitted) -> dict[str, bytes]:
    contents = site.contents(submitted.collection)
    assert {name for name in contents if not name.startswith("failed/")} <= {"task.json", "STDOUT.txt", "STDERR.txt"}
    return {name[len("failed/") :]: said for name, said in contents.items() if name.startswith("failed/")}


def test_a_checkpoint_is_kept_when_the_walltime_is_over(site: TrialSite) -> None:
    script = "mkdir -p /outputs/run; echo state > /outputs/run/checkpoint; exec sleep 60"
    _, facts, kept = _failed(site, script, limits={"walltime_seconds": 1})
    assert facts["reason_code"] == "walltime_exceeded"
    assert kept == {"run/checkpoint": b"state\n"}
    assert facts["kept"] == "1 file, 6 bytes, in failed/"
    assert "not_kept" not in facts


def test_what_is_kept_belongs_to_the_owner_and_is_marked_and_no_result(site: TrialSite) -> None:
    metadata = [{"attribute": "project", "value": "apollo"}]
    submitted, facts, _ = _failed(site, "mkdir /outputs/d; echo x > /outputs/d/a; exit 4", metadata=metadata)
    mark = (Avu(MARK, submitted.task_id, "nonzero_exit"),)
    collection, path = f"{submitted.collection}/failed", f"{submitted.collection}/failed/d/a"
    assert site.alice.avus(Entity(EntityKind.COLLECTION, collection)) == mark
    assert site.alice.avus(Entity(EntityKind.DATA_OBJECT, path)) == mark
    found = site.alice.stat(path)
    assert isinstance(found, DataObject)
    (replica,) = found.replicas
    assert (found.owner, replica.leaf) == (ALICE, COMPUTE)
    assert replica.checksum == site.storage.verify(path, replica.number)
    assert not {"project", "irods::compute_to_data::outputs_digest"} & {
        avu.attribute for avu in site.alice.avus(Entity(EntityKind.COLLECTION, submitted.collection))
    }
    assert "outputs" not in facts


def test_what_is_no_output_is_named_and_only_that_is_left_out(site: TrialSite) -> None:
    script = (
        "cd /outputs; for i in 1 2 3; do echo $i > ok$i; done; mkdir sub empty; echo 4 > sub/ok4; ln -s ok1 link;"
        "mkfifo fifo; ln ok2 twin; echo x > \"$(printf 'new\\nline')\"; echo x > ./-dash; exit 0"
    )
    submitted, facts, kept = _failed(site, script)
    assert facts["reason_code"] == "output_refused"
    assert kept == {"ok1": b"1\n", "ok2": b"2\n", "twin": b"2\n", "ok3": b"3\n", "sub/ok4": b"4\n"}
    for text in (facts["reason"], facts["not_kept"]):
        for words in (
            "'link' is a symbolic link", "'fifo' is a FIFO",
            "'new\\nline' has a control character in its name", "'-dash' has a name that begins with '-'",
        ):  # fmt: skip
            assert words in text
    assert "4 outputs" in facts["reason"]
    below = {one.logical_path for one in site.alice.children(f"{submitted.collection}/failed")}
    assert f"{submitted.collection}/failed/empty" in below


def test_of_many_refused_names_some_are_given_and_the_rest_is_counted(site: TrialSite) -> None:
    script = "cd /outputs; for i in $(seq 500); do ln -s x link$i; done; for i in $(seq 3); do echo $i > $i; done"
    _, facts, kept = _failed(site, script)
    assert facts["reason"].startswith("500 outputs: 'link1' is a symbolic link; 'link10' is")
    assert "; and 480 more" in facts["reason"]
    assert sorted(kept) == ["1", "2", "3"]


def test_a_reserved_name_does_no_harm_below_failed(site: TrialSite) -> None:
    _, facts, kept = _failed(site, "echo mine > /outputs/task.json")
    assert facts["reason_code"] == "output_refused"
    assert kept == {"task.json": b"mine\n"}


class TestLimits:
    """Of outputs that do not fit, the smallest are kept."""

    def test_a_file_that_grew_without_end_costs_no_other_file(self, site: TrialSite) -> None:
        script = "echo log > /outputs/z.log; echo step > /outputs/b; head -c 300000 /dev/zero > /outputs/a.big; exit 0"
        _, facts, kept = _failed(site, script, limits={"output_bytes": 100000})
        assert facts["reason_code"] == "output_limit"
        assert "limits.output_bytes" in facts["reason"]
        assert kept == {"z.log": b"log\n", "b": b"step\n"}
        assert "'a.big' does not fit in the 100000 bytes" in facts["not_kept"]

    def test_a_site_bounds_bytes_and_files(self, site: TrialSite) -> None:
        site.configuration = site.configure(
            engine={"name": "process", "images": {"tools": str(site.folder / "tools")}},
            failed_tasks={"bytes": 10, "files": 2},
        )
        script = "cd /outputs; echo 1 > c; echo 22 > b; echo 333 > a; echo 4444444444444 > d; exit 1"
        for _ in range(2):
            _, facts, kept = _failed(site, script)
            assert kept == {"c": b"1\n", "b": b"22\n"}
            assert facts["kept"] == "2 files, 5 bytes, in failed/"
            assert "'a' does not fit" in facts["not_kept"]
            assert "'d' does not fit" in facts["not_kept"]

    def test_more_files_than_a_task_may_write(self, site: TrialSite) -> None:
        site.configuration = site.configure(
            engine={"name": "process", "images": {"tools": str(site.folder / "tools")}},
            limits={"default": {"output_files": 20}},
        )
        script = "cd /outputs; for i in $(seq 10 39); do echo > $i; done; exit 0"
        _, facts, kept = _failed(site, script)
        assert facts["reason_code"] == "output_limit"
        assert "limits.output_files" in facts["reason"]
        assert sorted(kept) == [str(number) for number in range(10, 30)]
        assert "'30' does not fit" in facts["not_kept"]


class TestDiscarded:
    def test_a_request_says_discard(self, site: TrialSite) -> None:
        submitted, facts, kept = _failed(site, "echo x > /outputs/a; exit 1", on_failure="discard")
        assert kept == {}
        assert "discard" in facts["not_kept"]
        assert not [one for one in site.alice.children(submitted.collection) if isinstance(one, Collection)]

    def test_a_request_that_says_something_else_is_refused(self, site: TrialSite) -> None:
        with pytest.raises(InvalidRequest, match='/on_failure: found "perhaps", expected "keep" or "discard"'):
            site.submit(_request(site, "exit 1", on_failure="perhaps"))

    def test_a_site_forbids_it(self, site: TrialSite) -> None:
        site.configuration = site.configure(
            engine={"name": "process", "images": {"tools": str(site.folder / "tools")}}, failed_tasks={"keep": False}
        )
        _, facts, kept = _failed(site, "echo x > /outputs/a; exit 1", on_failure="keep")
        assert (kept, facts["not_kept"]) == ({}, "this site keeps no outputs of failed tasks")

    def test_a_program_that_left_nothing(self, site: TrialSite) -> None:
        submitted, facts, _ = _failed(site, "exit 1")
        assert not {"kept", "not_kept"} & facts.keys()
        assert not [one for one in site.alice.children(submitted.collection) if isinstance(one, Collection)]

    def test_a_task_whose_job_never_ran(self, site: TrialSite) -> None:
        submitted = site.submit(_request(site, "echo x > /outputs/a"))
        (site.folder / "tools").rmdir()
        with site.working():
            facts = site.ended(submitted)
        assert facts["state"] == "FAILED"
        assert set(site.contents(submitted.collection)) == {"task.json"}
        assert not {"kept", "not_kept"} & facts.keys()


def test_a_cancelled_run_keeps_its_checkpoint(site: TrialSite) -> None:
    submitted = site.submit(_request(site, f"echo step 7 > /outputs/checkpoint; {WAITS}"))
    with site.working():
        site.outputs(submitted)
        request_cancel(site.record(submitted), State.RUNNING, ALICE)
        facts = site.ended(submitted)
    assert facts["state"] == "CANCELLED"
    assert _kept(site, submitted)["checkpoint"] == b"step 7\n"
    assert site.alice.avus(Entity(EntityKind.COLLECTION, f"{submitted.collection}/failed")) == (
        Avu(MARK, submitted.task_id, "cancelled"),
    )


class TestCancelledWithManyFiles:
    """The worker registers them in parts, for as long as a user may have to wait."""

    SCRIPT = f"mkdir /outputs/a /outputs/empty; cd /outputs; touch a/1 a/2 3 4 5 6; {WAITS}"

    def _cancelled(self, site: TrialSite) -> tuple[Submitted, dict[str, str]]:
        submitted = site.submit(_request(site, self.SCRIPT))
        with site.working():
            site.outputs(submitted)
            request_cancel(site.record(submitted), State.RUNNING, ALICE)
            facts = site.ended(submitted)
        assert facts["state"] == "CANCELLED"
        return submitted, facts

    def test_all_are_kept_when_there_is_time(self, site: TrialSite, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(left_behind, "_AT_ONCE", 2)
        monkeypatch.setattr(left_behind, "_REGISTERING_SECONDS", 600)
        submitted, facts = self._cancelled(site)
        assert sorted(_kept(site, submitted)) == ["3", "4", "5", "6", "a/1", "a/2", "started"]
        assert site.alice.children(f"{submitted.collection}/failed/empty") == ()
        assert "not_kept" not in facts

    def test_without_time_the_end_does_not_wait(self, site: TrialSite, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is not registered is named, and its files are removed."""
        calls = iter([False, True])
        monkeypatch.setattr(left_behind, "_AT_ONCE", 2)
        monkeypatch.setattr(left_behind, "_is_over", lambda seconds: lambda: next(calls, True))
        monkeypatch.setattr(left_behind, "_reads_enough", lambda execution: lambda: False)
        submitted, facts = self._cancelled(site)
        assert sorted(_kept(site, submitted)) == ["3", "4"]
        for name in ("'5'", "'6'", "'a/1'", "'a/2'", "'started'", "'empty'"):
            assert f"{name} was not registered in the time" in facts["not_kept"]
        assert site.leftovers(submitted) == []

    def test_a_failed_task_has_all_the_time(self, site: TrialSite, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(left_behind, "_AT_ONCE", 2)
        monkeypatch.setattr(left_behind, "_REGISTERING_SECONDS", 0)
        submitted, _, _ = _failed(site, self.SCRIPT.replace(WAITS, "exit 5"))
        assert sorted(_kept(site, submitted)) == ["3", "4", "5", "6", "a/1", "a/2"]


class TestErrorsWhileKeeping:
    """They are added to the reason and change nothing else of it. Nothing is left behind."""

    @pytest.mark.parametrize("operation", ["register", "annotate_all"])
    def test_the_zone_refuses(self, site: TrialSite, operation: str) -> None:
        def refuse(original: Any, first: Any, second: Any) -> None:
            paths = [getattr(one, "logical_path", one) for one in (second if operation == "register" else first)]
            if any("/failed/" in path for path in paths):
                broken()
            original(first, second)

        submitted = site.submit(_request(site, "mkdir -p /outputs/d/e; echo x > /outputs/d/e/a; exit 5"))
        with site.working(storage=StorageWithTroubledSessions(site.storage, **{operation: refuse})):  # type: ignore[arg-type]
            facts = site.ended(submitted)
        assert facts["reason_code"] == "nonzero_exit"
        assert facts["reason"].startswith("program: exited with status 5.")
        assert "Afterwards could not keep what it left in its outputs" in facts["reason"]
        assert "broke on purpose" in facts["reason"]
        assert set(site.contents(submitted.collection)) <= {"task.json", "STDOUT.txt"}
        assert not [one for one in site.alice.children(submitted.collection) if isinstance(one, Collection)]
        assert site.leftovers(submitted) == []

    def test_the_owner_has_something_there(self, site: TrialSite) -> None:
        submitted = site.submit(_request(site, "echo x > /outputs/a; exit 5"))
        site.alice.create_collection(f"{submitted.collection}/failed")
        site.alice.write(f"{submitted.collection}/failed/a", b"alice's own", resource="demoResc")
        with site.working():
            facts = site.ended(submitted)
        assert facts["reason"].startswith("program: exited with status 5.")
        assert "could not keep" in facts["reason"]
        assert site.alice.read(f"{submitted.collection}/failed/a", ENOUGH) == b"alice's own"
        assert site.alice.avus(Entity(EntityKind.COLLECTION, f"{submitted.collection}/failed")) == ()

    def test_the_owner_has_a_log_there(self, site: TrialSite) -> None:
        submitted = site.submit(_request(site, "echo said; exit 5"))
        site.alice.write(f"{submitted.collection}/STDOUT.txt", b"alice's own")
        with site.working():
            facts = site.ended(submitted)
        place = f"{submitted.collection}/STDOUT.txt"
        assert f"Afterwards could not keep what the program wrote: {place}: " in facts["reason"]
        assert site.alice.read(place, ENOUGH) == b"alice's own"
        assert site.leftovers(submitted) == []

    def test_the_job_cannot_be_removed(self, site: TrialSite) -> None:
        def stuck(original: Any, key: Any) -> None:
            raise EngineError("the engine", "broke on purpose")

        submitted = site.submit(_request(site, "echo x > /outputs/a; exit 5"))
        with site.working(engine=Troubled(site.engine, remove=stuck)):  # type: ignore[arg-type]
            facts = site.ended(submitted)
        assert "could not keep" in facts["reason"]
        assert _kept(site, submitted) == {}, "the job might still write"
        for job in site.engine.jobs(site.worker()._served.scope):
            site.engine.remove(job)

    def test_something_cannot_be_removed(self, site: TrialSite, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is registered stays, and stays whole."""

        def stuck(path: str) -> None:
            raise EngineError(path, "broke on purpose")

        monkeypatch.setattr(workspace, "_remove", stuck)
        submitted = site.submit(_request(site, "cd /outputs; echo x > a; mkfifo fifo; exit 5"))
        with site.working():
            facts = site.ended(submitted)
        assert facts["reason"].startswith("program: exited with status 5.")
        assert "could not remove all that is not kept" in facts["reason"]
        assert _kept(site, submitted) == {"a": b"x\n"}
        assert facts["not_kept"] == "'fifo' is a FIFO"


class TestExchanged:
    """Another process exchanges entries while the worker registers them."""

    def _run(self, site: TrialSite, exchange: Any) -> tuple[dict[str, str], dict[str, bytes]]:
        def register(original: Any, resource: str, files: Any) -> None:
            original(resource, files)
            for one in files:
                if one.logical_path.endswith("/failed/sub/two"):
                    exchange(Path(one.physical_path))

        script = "mkdir /outputs/sub; echo 1 > /outputs/one; echo 2 > /outputs/sub/two; exit 5"
        submitted = site.submit(_request(site, script))
        with site.working(storage=StorageWithTroubledSessions(site.storage, register=register)):  # type: ignore[arg-type]
            facts = site.ended(submitted)
        assert site.leftovers(submitted) == []
        return facts, _kept(site, submitted)

    def test_a_file_for_a_link(self, site: TrialSite) -> None:
        def exchange(file: Path) -> None:
            file.unlink()
            file.symlink_to("/etc/hostname")

        facts, kept = self._run(site, exchange)
        assert kept == {"one": b"1\n"}
        assert "'sub/two' was exchanged" in facts["not_kept"]

    def test_a_directory_for_a_link(self, site: TrialSite) -> None:
        def exchange(file: Path) -> None:
            os.rename(file.parent, f"{file.parent}.moved")
            file.parent.symlink_to(f"{file.parent}.moved")

        facts, kept = self._run(site, exchange)
        assert kept == {"one": b"1\n"}
        assert "'sub/two' changed while it was registered" in facts["not_kept"]


class TestExpectedOutputs:
    def test_a_misspelling_is_recognised_and_what_there_was_is_named(self, site: TrialSite) -> None:
        script = "cd /outputs; mkdir plots; echo 1 > reslut.csv; echo 2 > plots/a.png"
        _, facts, kept = _failed(site, script, expected_outputs=["result.csv", "plot"])
        assert facts["reason_code"] == "output_missing"
        assert "outputs 'result.csv', 'plot': the task ended successfully but did not write them" in facts["reason"]
        assert "It wrote 'plots/a.png', 'reslut.csv'" in facts["reason"]
        assert "Perhaps expected_outputs should say 'reslut.csv', 'plots'" in facts["reason"]
        assert kept == {"reslut.csv": b"1\n", "plots/a.png": b"2\n"}

    def test_in_another_directory(self, site: TrialSite) -> None:
        _, facts, _ = _failed(
            site, "mkdir /outputs/out; echo > /outputs/out/result.csv", expected_outputs=["result.csv"]
        )
        assert "should say 'out/result.csv'" in facts["reason"]

    def test_of_many_outputs_some_are_named(self, site: TrialSite) -> None:
        _, facts, _ = _failed(
            site, "cd /outputs; for i in $(seq 30); do echo > n$i; done", expected_outputs=["xyz.csv"]
        )
        assert "and 20 more" in facts["reason"]
        assert "Perhaps" not in facts["reason"]

    def test_nothing_was_written(self, site: TrialSite) -> None:
        _, facts, _ = _failed(site, "exit 0", expected_outputs=["xyz.csv"])
        assert "It wrote nothing to /outputs" in facts["reason"]


class TestEmptyDirectories:
    def test_they_become_collections(self, site: TrialSite) -> None:
        script = "cd /outputs; mkdir -p plots a/b/c d; echo > d/x"
        submitted = site.submit(_request(site, script, expected_outputs=["plots", "a/b"]))
        with site.working():
            facts = site.ended(submitted)
        assert facts["state"] == "COMPLETED", facts
        for name in ("plots", "a/b/c", "d"):
            assert isinstance(site.alice.stat(f"{submitted.collection}/{name}"), Collection)
        assert site.leftovers(submitted) == []
        assert (facts["outputs"], facts["output_bytes"]) == ("3", "1")

    def test_they_are_no_results_when_the_task_fails_later(self, site: TrialSite) -> None:
        submitted = site.submit(_request(site, "mkdir -p /outputs/plots/deep"))
        with site.working(storage=StorageWithTroubledSessions(site.storage, register=broken)):  # type: ignore[arg-type]
            facts = site.ended(submitted)
        assert facts["state"] == "FAILED"
        below = [one.logical_path for one in site.alice.children(submitted.collection) if isinstance(one, Collection)]
        assert below == [f"{submitted.collection}/failed"]
        assert isinstance(site.alice.stat(f"{submitted.collection}/failed/plots/deep"), Collection)
        assert site.leftovers(submitted) == []


def test_a_task_that_completed_and_left_nothing_says_so(site: TrialSite) -> None:
    facts = site.run(_request(site, "echo hello"))
    assert (facts["state"], facts["outputs"], facts["output_bytes"]) == ("COMPLETED", "0", "0")


def test_a_program_starts_in_outputs(site: TrialSite) -> None:
    facts = site.run(_request(site, "echo x > result.csv; echo $HOME > home"))
    contents = site.contents(facts["collection"])
    assert contents["result.csv"] == b"x\n"
    assert contents["home"].endswith(b"/tmp\n")
    facts = site.run(_request(site, "pwd", process={"cwd": "/tmp"}))
    assert site.contents(facts["collection"])["STDOUT.txt"].endswith(b"/tmp\n")


class TestReasons:
    """The last line that says something, from standard error or else from standard output."""

    @pytest.mark.parametrize(
        ("script", "words"),
        [
            ("echo 'no such instrument'; exit 3", "exited with status 3: no such instrument. STDOUT.txt holds what"),
            ("echo out; echo err >&2; echo >&2; exit 3", "status 3: err. STDERR.txt and STDOUT.txt hold what it wrote"),
            ("exit 3", "exited with status 3. It wrote nothing to standard output and error"),
            ("printf 'a\\rb\\033[2J\\n' >&2; exit 3", "status 3: b [2J. STDERR.txt holds"),
        ],
    )
    def test_it_is_quoted(self, site: TrialSite, script: str, words: str) -> None:
        _, facts, _ = _failed(site, script)
        assert words in facts["reason"]

    def test_it_is_bounded(self, site: TrialSite) -> None:
        _, facts, _ = _failed(site, "head -c 5000 /dev/zero | tr '\\0' x; exit 3")
        assert len(facts["reason"]) < 800

    def test_of_several_commands(self, site: TrialSite) -> None:
        process = {"image": site.image, "commands": [["/bin/sh", "-c", "echo why; exit 3"], ["/bin/true"]]}
        submitted = site.submit({**_request(site, ""), "process": process})
        with site.working():
            facts = site.ended(submitted)
        assert "exited with status 3 (command 1 of 2, /bin/sh): why" in facts["reason"]


def test_a_failed_task_has_its_command_inputs_and_image_on_its_record(site: TrialSite) -> None:
    site.alice.write(f"{HOME}/a", b"x")
    environment = {"environment": {"A": "b"}}
    submitted = site.submit(_request(site, "exit 1", inputs=[f"{HOME}/a"], process=environment))
    with site.working():
        site.ended(submitted)
    avus = {avu.attribute.rpartition("compute_to_data::")[2]: avu for avu in site.alice.avus(_entity(submitted))}
    assert (avus["command"].value, avus["command"].units) == ("/bin/sh -c 'exit 1'", "0")
    assert (avus["input"].value, avus["input"].units[:5]) == (f"{HOME}/a", "sha2:")
    assert (avus["image"].value, avus["image_digest"].value[:7]) == (site.image, "sha256:")
    assert avus["parameter::A"].value == '"b"'


def test_so_has_a_task_that_fails_before_its_job(site: TrialSite) -> None:
    site.alice.write(f"{HOME}/a", b"x")
    submitted = site.submit(_request(site, "exit 1", inputs=[f"{HOME}/a"]))
    site.alice.remove(f"{HOME}/a")
    with site.working():
        assert site.ended(submitted)["state"] == "FAILED"
    avus = {avu.attribute.rpartition("compute_to_data::")[2]: avu for avu in site.alice.avus(_entity(submitted))}
    assert avus["command"].value == "/bin/sh -c 'exit 1'"
    assert (avus["input"].value, avus["input"].units) == (f"{HOME}/a", "unknown")
    assert avus["image"].value == site.image


def _entity(submitted: Submitted) -> Entity:
    return Entity(EntityKind.COLLECTION, submitted.collection)
