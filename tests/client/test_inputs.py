"""What a person names as the inputs of a task: paths, ids, results of tasks, with names of their own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.faults import Troubled
from support.reading import ENOUGH
from support.site import HOME, WAITS, TrialSite

import compute_to_data as c2d
from compute_to_data.cli.main import main
from compute_to_data.client import dataset_uses, datasets
from compute_to_data.client.local_folders.uploading import Moved
from compute_to_data.client.tasks import TaskHandle
from compute_to_data.errors import ComputeToDataError, InvalidRequest, NotFound, Refused, ZoneError
from compute_to_data.inputs import readers
from compute_to_data.model import ReplicaStatus

LIST = "cd /inputs; find . | LC_ALL=C sort > /outputs/seen; find . -type f -o -type l | xargs -r cat > /outputs/all"
OTHER = f"{HOME}/lab"


@pytest.fixture
def session(site: TrialSite, own_files: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[c2d.Session]:
    """alice's session. It starts no worker, so a task waits until the test has one."""
    with c2d.connect() as opened:
        monkeypatch.setattr(type(opened.site_access), "call_worker", lambda *_: None)
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "measurements"
    (made / "deep" / "empty").mkdir(parents=True)
    (made / "a.csv").write_text("1\n")
    (made / "deep" / "b.csv").write_text("2\n")
    return made


@pytest.fixture
def dataset(session: c2d.Session, folder: Path) -> Moved:
    return datasets.upload(session, str(folder))


def script(site: TrialSite, *inputs: Any, words: str = LIST, **more: Any) -> Any:
    return site.request("/bin/sh", "-c", words, inputs=inputs, **more)


def ran(site: TrialSite, session: c2d.Session, *inputs: Any, words: str = LIST, **more: Any) -> TaskHandle:
    """A task that has completed."""
    task = session.submit(script(site, *inputs, words=words, **more))
    with site.working():
        status = task.wait(60)
    assert status.state.value == "COMPLETED", status
    return task


def seen(task: TaskHandle) -> list[str]:
    """The paths that a job saw below ``/inputs``."""
    return task.results()["seen"].lines()[1:]


def recorded(task: TaskHandle) -> list[Any]:
    return list(task.recorded_request()["inputs"])


MEASUREMENTS = ["./a.csv", "./deep", "./deep/b.csv", "./deep/empty"]


# Ids


@pytest.mark.parametrize("written", ["{id}", "{short}", "{collection}", "{collection}/files"])
@pytest.mark.parametrize("form", ["plain", "path"])
def test_a_dataset_is_an_input_by_its_id_or_path(
    site: TrialSite, session: c2d.Session, dataset: Moved, written: str, form: str
) -> None:
    name = written.format(id=dataset.dataset, short=dataset.dataset[:6], collection=dataset.collection)
    task = ran(site, session, name if form == "plain" else {"path": name})
    assert seen(task) == MEASUREMENTS
    assert recorded(task) == [{"collection": f"{dataset.collection}/files"}]


def test_a_dataset_of_the_project_is_found_before_that_at_home(
    site: TrialSite, session: c2d.Session, folder: Path, dataset: Moved
) -> None:
    session.catalog.create_collection(OTHER)
    with c2d.connect(project=OTHER) as lab:
        own = datasets.upload(lab, str(folder))
        assert recorded(lab.submit(script(site, own.dataset))) == [{"collection": f"{own.collection}/files"}]
        assert recorded(lab.submit(script(site, dataset.dataset))) == [{"collection": f"{dataset.collection}/files"}]


def test_a_rule_finds_datasets_beside_its_output_collection_and_at_home(
    site: TrialSite, session: c2d.Session, folder: Path, dataset: Moved
) -> None:
    """A rule submits with the user's session and has no project."""
    session.catalog.create_collection(f"{OTHER}/results", parents=True)
    with c2d.connect(project=OTHER) as lab:
        own = datasets.upload(lab, str(folder))
    for one in (own, dataset):
        document = {**script(site, one.dataset), "output_collection": f"{OTHER}/results"}
        submitted = site.submit(document)
        record = json.loads(site.alice.read(f"{submitted.collection}/task.json", ENOUGH))
        assert record["inputs"] == [{"collection": f"{one.collection}/files"}]


def test_an_abbreviation_of_several_ids_names_them(site: TrialSite, session: c2d.Session) -> None:
    for end in "12":
        session.catalog.create_collection(f"{HOME}/datasets/d-00000000000{end}/files", parents=True)
    with pytest.raises(InvalidRequest, match=r"several datasets match: d-000000000001, d-000000000002.*Give more"):
        session.submit(script(site, "d-0000"))
    with pytest.raises(NotFound, match=r"d-ffff.*no task that you may read.*no dataset in /tempZone/home/alice/data"):
        session.submit(script(site, "d-ffff"))


def test_all_results_of_a_task_are_inputs_without_our_own_files(site: TrialSite, session: c2d.Session) -> None:
    first = ran(site, session, words="echo noise; mkdir /outputs/sub; echo 1 > /outputs/x; echo 2 > /outputs/sub/y")
    for named in (first.id, first.id[:8], {"task": first.id}, {"task": first.collection}, first.collection):
        task = ran(site, session, named)
        assert seen(task) == ["./sub", "./sub/y", "./x"]
        assert recorded(task) == [{"collection": first.collection}]
    log = ran(site, session, f"{first.collection}/STDOUT.txt")
    assert log.results()["all"].text() == "noise\n"


def test_one_result_of_a_task_is_an_input(site: TrialSite, session: c2d.Session) -> None:
    first = ran(site, session, words="mkdir /outputs/sub; echo 1 > /outputs/sub/x.csv")
    task = ran(site, session, {"task": first.id[:8], "path": "sub/x.csv", "name": "given/y.csv"})
    assert seen(task) == ["./given", "./given/y.csv"]
    assert recorded(task) == [{"object": f"{first.collection}/sub/x.csv", "name": "given/y.csv"}]
    with pytest.raises(NotFound, match=r"has no result sub/x\.cvs\. Did you mean sub/x\.csv"):
        session.submit(script(site, {"task": first.id, "path": "sub/x.cvs"}))


def test_a_task_with_an_id_of_the_users_own_is_named_as_a_task(site: TrialSite, session: c2d.Session) -> None:
    first = session.submit(script(site, words="echo 1 > /outputs/x"), task_id="first-try")
    with site.working():
        first.wait(60)
    assert seen(ran(site, session, {"task": "first-try"})) == ["./x"]


# Names


def test_inputs_with_the_same_names_stand_side_by_side(
    site: TrialSite, session: c2d.Session, folder: Path, dataset: Moved
) -> None:
    (folder / "a.csv").write_text("3\n")
    other = datasets.upload(session, str(folder))
    with pytest.raises(InvalidRequest) as refused:
        session.submit(script(site, dataset.dataset, other.dataset))
    for said in (dataset.dataset, other.dataset, f'"name": "{other.dataset}"', "--input"):
        assert said in str(refused.value)
    task = ran(site, session, {"path": dataset.dataset, "name": "a"}, {"path": other.dataset, "name": "b/c"})
    assert [path for path in seen(task) if path.endswith("a.csv")] == ["./a/a.csv", "./b/c/a.csv"]
    assert "./b/c/deep/empty" in seen(task)


def test_the_same_collection_may_be_seen_twice(site: TrialSite, session: c2d.Session, dataset: Moved) -> None:
    task = ran(site, session, {"path": dataset.dataset, "name": "a"}, {"path": dataset.dataset, "name": "b"})
    assert [path for path in seen(task) if path.endswith("a.csv")] == ["./a/a.csv", "./b/a.csv"]
    crate = json.loads(session.catalog.read(f"{task.collection}/ro-crate-metadata.json", ENOUGH))
    identifiers = [entity["@id"] for entity in crate["@graph"]]
    assert len(set(identifiers)) == len(identifiers)
    (file,) = [entity for entity in crate["@graph"] if entity["@id"].endswith("/files/a.csv")]
    assert file["alternateName"] == ["/inputs/a/a.csv", "/inputs/b/a.csv"]


def test_a_command_and_its_environment_follow_the_name(site: TrialSite, session: c2d.Session) -> None:
    site.alice.write(f"{HOME}/long name.txt", b"content")
    by_name = {"input_type": "file", "input_parameters": {"file_path": "${input_file}"}}
    process = {"input_adapter": by_name, "environment": {"SEEN": "%(INPUT_FILE_BASENAME)s"}}
    words = ("/bin/sh", "-c", 'cat "$0" "/inputs/$SEEN" > /outputs/all; echo "$0" > /outputs/seen', "${input_file}")
    given = [{"path": f"{HOME}/long name.txt", "name": "a/b.txt"}]
    task = session.submit(site.request(*words, inputs=given, process=process))
    with site.working():
        assert task.wait(60).state.value == "COMPLETED", task.status()
    assert task.results()["all"].text() == "contentcontent"
    assert task.results()["seen"].text().endswith("/inputs/a/b.txt\n")


def test_an_adapter_refuses_a_path_that_is_a_collection(site: TrialSite, session: c2d.Session, dataset: Moved) -> None:
    adapter = {"input_type": "file", "input_parameters": {"file_type": "stream", "stream_name": "STDIN"}}
    with pytest.raises(InvalidRequest, match="one data object"):
        session.submit(site.request("/bin/cat", inputs=[dataset.dataset], process={"input_adapter": adapter}))


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "", ".", "a//b", "a/", "x\n", "x\0", "a/" + "b" * 256])
@pytest.mark.parametrize("entry", [{"path": f"{HOME}/a"}, {"object": f"{HOME}/a"}, {"task": "abcd", "path": "x"}])
def test_no_name_leads_out_of_the_inputs(
    site: TrialSite, session: c2d.Session, name: str, entry: dict[str, str]
) -> None:
    with pytest.raises(InvalidRequest, match="/inputs/0/name"):
        session.submit(script(site, {**entry, "name": name}))


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../../bob/x", "", "a//b"])
def test_no_result_is_outside_its_task(site: TrialSite, session: c2d.Session, path: str) -> None:
    with pytest.raises(InvalidRequest, match="/inputs/0/path"):
        session.submit(script(site, {"task": "abcd", "path": path}))


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "x"},
        {"path": f"{HOME}/a", "object": f"{HOME}/a"},
        {"collection": f"{HOME}/a", "next_of": f"{HOME}/a"},
        {"task": "abcd", "object": f"{HOME}/a"},
    ],
)
def test_an_entry_names_one_thing(site: TrialSite, session: c2d.Session, entry: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="/inputs/0"):
        session.submit(script(site, entry))


def test_a_file_in_the_place_of_a_directory_is_refused(site: TrialSite, session: c2d.Session, dataset: Moved) -> None:
    site.alice.write(f"{HOME}/x", b"")
    for clash in ("deep", "deep/empty", "a.csv/x"):
        with pytest.raises(InvalidRequest, match="would both be /inputs/"):
            session.submit(script(site, dataset.dataset, {"path": f"{HOME}/x", "name": clash}))


@pytest.mark.parametrize("forged", ["../outputs/x", "/etc/passwd", "a/../../etc/x"])
def test_the_worker_refuses_a_name_that_was_written_into_the_record(
    site: TrialSite, session: c2d.Session, forged: str
) -> None:
    site.alice.write(f"{HOME}/x", b"1")
    task = session.submit(script(site, {"object": f"{HOME}/x", "name": "fine"}))
    path = f"{task.collection}/task.json"
    document = json.loads(site.alice.read(path, ENOUGH))
    document["inputs"][0]["name"] = forged
    site.alice.write(path, json.dumps(document).encode(), force=True)
    with site.working():
        status = task.wait(60)
    assert (status.state.value, status.reason_code) == ("FAILED", "refused")
    assert "/inputs/0/name" in status.reason


def test_the_worker_refuses_an_entry_that_only_the_submission_looks_up(site: TrialSite, session: c2d.Session) -> None:
    site.alice.write(f"{HOME}/x", b"1")
    task = session.submit(script(site, f"{HOME}/x"))
    path = f"{task.collection}/task.json"
    document = {**json.loads(site.alice.read(path, ENOUGH)), "inputs": [{"path": "d-4f0c2a97b311"}]}
    site.alice.write(path, json.dumps(document).encode(), force=True)
    with site.working():
        assert task.wait(60).reason_code == "refused"


# Complete


def interrupted(session: c2d.Session, dataset: Moved) -> None:
    """As an upload that began to change the dataset leaves it."""
    session.catalog.remove(f"{dataset.collection}/manifest.json")


@pytest.mark.parametrize(
    "given",
    [
        "{id}",
        {"path": "{id}"},
        {"collection": "{collection}/files"},
        {"collection": "{collection}/files/deep"},
        {"object": "{collection}/files/a.csv"},
        {"next_of": "{collection}/files"},
        "{collection}/files/a.csv",
        {"collection": HOME},
    ],
    ids=str,
)
def test_an_incomplete_dataset_is_refused_and_again_by_the_worker(
    site: TrialSite, session: c2d.Session, dataset: Moved, given: Any
) -> None:
    known = {"id": dataset.dataset, "collection": dataset.collection}
    text = json.dumps(given)
    for name, value in known.items():
        text = text.replace(f"{{{name}}}", value)
    if given == {"collection": HOME}:
        site.alice.create_collection(f"{HOME}/results")
        document = {**script(site, {"collection": f"{HOME}/datasets"}), "output_collection": f"{HOME}/results"}
    else:
        document = {**script(site), "inputs": [json.loads(text)]}
    task = session.submit(document)
    interrupted(session, dataset)
    with pytest.raises(Refused, match=rf"dataset {dataset.dataset}: is not complete.*--id {dataset.dataset}"):
        session.submit(document)
    with site.working():
        status = task.wait(60)
    assert (status.state.value, status.reason_code) == ("FAILED", "refused")
    assert f"dataset {dataset.dataset}: is not complete" in status.reason


def test_a_workload_refuses_an_incomplete_dataset(site: TrialSite, session: c2d.Session, dataset: Moved) -> None:
    workload = session.start_workload(site.image, input_dataset=dataset.dataset[:8], resource="dsp_resc")
    task = workload.create_task(["/bin/ls", "/input"])
    interrupted(session, dataset)
    with pytest.raises(Refused, match="is not complete"):
        workload.create_task(["/bin/ls", "/input"])
    with pytest.raises(Refused, match="is not complete"):
        session.start_workload(site.image, input_dataset=dataset.dataset, resource="dsp_resc")
    with site.working():
        assert "is not complete" in task.wait(60).reason


def lose(site: TrialSite, dataset: Moved) -> None:
    site.alice.remove(f"{dataset.collection}/files/deep/b.csv")


def add(site: TrialSite, dataset: Moved) -> None:
    site.alice.write(f"{dataset.collection}/files/deep/c.csv", b"")


def overwrite(site: TrialSite, dataset: Moved) -> None:
    site.alice.write(f"{dataset.collection}/files/deep/b.csv", b"4\n", force=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lose, "deep/b.csv is missing"),
        (add, "deep/c.csv was added"),
        (overwrite, "deep/b.csv has other content"),
    ],
)
@pytest.mark.parametrize("below", ["", "/deep"])
def test_a_dataset_that_is_not_what_was_uploaded_is_refused(
    site: TrialSite, session: c2d.Session, dataset: Moved, change: Any, said: str, below: str
) -> None:
    change(site, dataset)
    with pytest.raises(Refused, match=said):
        session.submit(script(site, f"{dataset.collection}/files{below}"))


def test_results_of_a_task_that_has_not_ended_are_refused_or_waited_for(site: TrialSite, session: c2d.Session) -> None:
    running = session.submit(script(site, words=WAITS))
    with site.working():
        site.outputs(running)
        for named in (running.collection, {"collection": running.id}, f"{HOME}/out"):
            with pytest.raises(Refused, match=rf"{running.id}: has not ended yet: it is [A-Z_]+.*c2d wait"):
                session.submit(script(site, named))
        with pytest.raises(Refused, match="has not ended yet"):
            session.submit(script(site, f"{running.collection}/task.json"))
        waiting = [session.submit(script(site, named)) for named in (running.id, {"task": running.id})]
        assert [one.state.value for one in waiting] == ["WAITING", "WAITING"]
        site.let_go(running)
        assert [one.wait(60).state.value for one in waiting] == ["COMPLETED", "COMPLETED"]


def test_results_of_a_task_that_failed_are_refused_except_by_their_path(site: TrialSite, session: c2d.Session) -> None:
    failed = session.submit(script(site, words="echo 1 > /outputs/checkpoint; exit 3"))
    with site.working():
        failed.wait(60)
    for named in (failed.id, {"task": failed.id}, failed.collection):
        with pytest.raises(Refused, match=r"is FAILED, so it has no results|, which FAILED"):
            session.submit(script(site, named))
    assert seen(ran(site, session, f"{failed.collection}/failed/checkpoint")) == ["./checkpoint"]
    assert seen(ran(site, session, f"{failed.collection}/failed")) == ["./checkpoint"]


@pytest.mark.parametrize("status", [ReplicaStatus.STALE, ReplicaStatus.INTERMEDIATE])
def test_a_data_object_that_is_not_written_whole_is_refused(
    site: TrialSite, session: c2d.Session, status: ReplicaStatus
) -> None:
    session.catalog.create_collection(f"{HOME}/in")
    site.alice.write(f"{HOME}/in/a", b"1")
    site.zone.set_replica_status(f"{HOME}/in/a", 0, status)
    for named in (f"{HOME}/in/a", f"{HOME}/in"):
        with pytest.raises(ZoneError, match=f"/in/a: .*{status.name.lower()}"):
            session.submit(script(site, named))


def test_the_next_input_is_one_that_is_written_whole(site: TrialSite, session: c2d.Session) -> None:
    session.catalog.create_collection(f"{HOME}/in")
    for name in "ab":
        site.alice.write(f"{HOME}/in/{name}", name.encode())
    site.zone.set_replica_status(f"{HOME}/in/a", 0, ReplicaStatus.INTERMEDIATE)
    assert seen(ran(site, session, {"next_of": f"{HOME}/in"})) == ["./b"]


def test_a_task_in_a_collection_that_it_reads_is_none_of_its_inputs(site: TrialSite, session: c2d.Session) -> None:
    """A person may name their whole project, in which the results are, too."""
    site.alice.write(f"{HOME}/x", b"1")
    first = ran(site, session, HOME)
    assert (seen(first), first.request()["inputs"]) == (["./x"], [{"collection": HOME}])
    workload = session.start_workload(site.image, input_dataset=HOME, resource="dsp_resc")
    tasks = [workload.create_task(["/bin/sh", "-c", "find /input/x > /outputs/seen"]) for _ in range(2)]
    with site.working():
        assert [task.wait(60).state.value for task in tasks] == ["COMPLETED", "COMPLETED"]


# Empty


def test_empty_folders_and_an_empty_dataset_exist(site: TrialSite, session: c2d.Session, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    nothing = datasets.upload(session, str(tmp_path / "nothing"))
    assert seen(ran(site, session, nothing.dataset)) == []
    assert seen(ran(site, session, {"path": nothing.dataset, "name": "a/b"})) == ["./a", "./a/b"]
    assert seen(ran(site, session)) == []


def test_a_workload_sees_empty_folders(site: TrialSite, session: c2d.Session, dataset: Moved) -> None:
    workload = session.start_workload(site.image, input_dataset=dataset.dataset, resource="dsp_resc")
    task = workload.create_task(["/bin/sh", "-c", "cd /input; find . | LC_ALL=C sort > /outputs/seen"])
    with site.working():
        assert task.wait(60).state.value == "COMPLETED"
    assert seen(task) == MEASUREMENTS


def test_an_empty_folder_more_makes_another_task(
    site: TrialSite, session: c2d.Session, folder: Path, dataset: Moved
) -> None:
    first = ran(site, session, dataset.dataset)
    assert session.submit(script(site, dataset.dataset), reuse=True).collection == first.collection
    (folder / "more").mkdir()
    other = datasets.upload(session, str(folder))
    assert not session.submit(script(site, other.dataset), reuse=True).is_reused


# Changed


def test_a_rerun_sees_the_empty_folders_again(site: TrialSite, session: c2d.Session, tmp_path: Path) -> None:
    (tmp_path / "flat" / "empty").mkdir(parents=True)
    (tmp_path / "flat" / "a").write_text("1")
    flat = datasets.upload(session, str(tmp_path / "flat"))
    first = ran(site, session, flat.dataset)
    again = first.rerun()
    with site.working():
        again.wait(60)
    assert seen(again) == seen(first) == ["./a", "./empty"]


def test_a_rerun_says_what_changed(
    site: TrialSite, session: c2d.Session, dataset: Moved, capsys: pytest.CaptureFixture[str]
) -> None:
    first = ran(site, session, dataset.dataset)
    changed = f"{dataset.collection}/files/a.csv"
    assert first.request()["inputs"] == [{"collection": f"{dataset.collection}/files"}]
    site.alice.write(changed, b"5\n", force=True)
    with pytest.raises(Refused, match=rf"not what they were when it ran: {changed} \(other content\)"):
        first.request()
    assert main(["rerun", first.id]) != 0
    assert "--changed-inputs" in capsys.readouterr().err


def test_a_rerun_on_changed_inputs_is_asked_for(
    site: TrialSite, session: c2d.Session, capsys: pytest.CaptureFixture[str]
) -> None:
    site.alice.write(f"{HOME}/x", b"1\n")
    first = ran(site, session, f"{HOME}/x")
    site.alice.write(f"{HOME}/x", b"2\n", force=True)
    with pytest.raises(Refused, match="other content"):
        first.rerun()
    with site.working():
        assert main(["rerun", first.id, "--changed-inputs", "--wait"]) == 0
    again = session.task(capsys.readouterr().out.split()[0])
    assert again.results()["all"].text() == "2\n"
    site.alice.remove(f"{HOME}/x")
    for asked in (False, True):
        with pytest.raises(NotFound, match=f"do not exist any more: {HOME}/x"):
            first.request(changed_inputs=asked)


def test_a_failed_task_is_run_again_on_inputs_that_were_mended(
    site: TrialSite, session: c2d.Session, folder: Path, dataset: Moved
) -> None:
    """It has read nothing that could have changed."""
    task = session.submit(script(site, dataset.dataset))
    interrupted(session, dataset)
    with site.working():
        assert task.wait(60).state.value == "FAILED"
        datasets.upload(session, str(folder), dataset=dataset.dataset)
        assert task.rerun().wait(60).state.value == "COMPLETED"


def test_what_changed_or_cannot_be_known_is_not_reused(site: TrialSite, session: c2d.Session) -> None:
    site.alice.write(f"{HOME}/x", b"1\n")
    document = script(site, f"{HOME}/x")
    first = ran(site, session, f"{HOME}/x")
    assert session.submit(document, reuse=True).collection == first.collection

    def stat(original: Any, path: str) -> Any:
        """As if another good replica had another checksum."""
        found = original(path)
        if path != f"{HOME}/x":
            return found
        other = replace(found.replicas[0], number=9, checksum=f"sha2:{'A' * 43}=")
        return replace(found, replicas=(*found.replicas, other))

    doubtful = Troubled(site.alice, stat=stat)
    assert not site.submit(document, catalog=doubtful, reuse_earlier=True).reused  # type: ignore[arg-type]


# In use


class Counting:
    """A catalog that notes each question."""

    def __init__(self, catalog: Any, asked: list[str]) -> None:
        self._catalog, self._asked = catalog, asked

    def __getattr__(self, name: str) -> Any:
        self._asked.append(name)
        return getattr(self._catalog, name)


def test_a_dataset_says_which_tasks_and_workloads_read_it(
    site: TrialSite, session: c2d.Session, dataset: Moved
) -> None:
    def reading() -> tuple[set[str], set[str]]:
        found = readers.readers(session.catalog, session.attributes, dataset.collection)
        return set(found.tasks), set(found.workloads)

    assert reading() == (set(), set())
    task = session.submit(script(site, f"{dataset.collection}/files/a.csv"))
    assert reading() == ({task.collection}, set())
    workload = session.start_workload(site.image, input_dataset=dataset.dataset, resource="dsp_resc")
    member = workload.create_task(["/bin/true"])
    assert reading() == ({task.collection, member.collection}, {workload.collection})
    asked: list[str] = []
    counted = Counting(session.catalog, asked)
    with pytest.raises(Refused, match=f"dataset {dataset.dataset}: is in use by .*{task.id}"):
        dataset_uses.need_unused(counted, session.attributes, dataset.collection, "Wait")  # type: ignore[arg-type]
    assert len(asked) <= 6, asked
    with site.working():
        for one in (task, member):
            assert one.wait(60).state.value == "COMPLETED"
    assert reading() == (set(), {workload.collection})
    workload.stop()
    assert reading() == (set(), set())


def test_a_task_says_which_tasks_read_its_results(site: TrialSite, session: c2d.Session) -> None:
    first = ran(site, session, words="echo 1 > /outputs/x")
    second = session.submit(script(site, {"task": first.id}))
    third = session.submit(script(site, f"{first.collection}/x"))
    known = (session.catalog, session.attributes, first.collection, 10)
    assert set(readers.tasks_that_read(*known)) == {second.collection, third.collection}
    second.cancel()
    with site.working():
        second.wait(60), third.wait(60)
    assert readers.tasks_that_read(*known) == ()


# Hints


def test_a_file_of_this_computer_is_named_as_such(
    site: TrialSite, session: c2d.Session, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    for named in ("./measurements", "measurements", str(folder), {"path": "measurements"}, {"collection": str(folder)}):
        with pytest.raises(ComputeToDataError, match=r"is a folder of this computer.*c2d dataset upload") as told:
            session.submit(script(site, named))
        assert isinstance(told.value, (InvalidRequest, NotFound))
    with pytest.raises(InvalidRequest, match="is a file of this computer"):
        session.submit(script(site, os.path.join("measurements", "a.csv")))
    with pytest.raises(ComputeToDataError, match="is a folder of this computer"):
        session.start_workload(site.image, input_dataset="./measurements")
    with pytest.raises(InvalidRequest, match='found "nowhere", expected a logical path'):
        session.submit(script(site, "nowhere"))


def test_too_many_inputs_name_the_ways_out(site: TrialSite, session: c2d.Session, monkeypatch: Any) -> None:
    from compute_to_data.inputs import references

    monkeypatch.setattr(references, "MOST_INPUTS", 1)
    session.catalog.create_collection(f"{HOME}/in")
    for name in "ab":
        site.alice.write(f"{HOME}/in/{name}", b"")
    with pytest.raises(InvalidRequest, match=r"found 2 inputs, expected at most 1.*workload start.*c2d map"):
        session.submit(script(site, f"{HOME}/in"))
