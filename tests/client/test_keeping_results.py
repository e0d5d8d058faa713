"""``c2d ls | fetch | rm``: what tasks left, brought here in part or whole, and removed."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.people import settings_of
from support.reading import ENOUGH
from support.site import BOB, COMPUTE, HOME, TrialSite
from support.typed import Type

import compute_to_data as c2d
from compute_to_data.cli.exits import ExitCode
from compute_to_data.client import datasets, fetching, results, sharing
from compute_to_data.client.tasks import TaskHandle
from compute_to_data.errors import AccessDenied, AlreadyExists, Code, NotFound, Refused, zone_error
from compute_to_data.model import Access, Avu, Entity, EntityKind

SCRIPT = """
cd /outputs; mkdir -p plots/deep; echo small > small.csv; echo other > other.csv; head -c 2500 /dev/zero > big.dat
echo one > plots/a.png; echo three > plots/deep/b.png; echo said; echo complained >&2
"""
RECORDS = ["STDERR.txt", "STDOUT.txt", "ro-crate-metadata.json", "task.json"]
OUTPUTS = ["big.dat", "other.csv", "plots/a.png", "plots/deep/b.png", "small.csv"]


@pytest.fixture
def session(site: TrialSite, own_files: Path) -> Iterator[c2d.Session]:
    with c2d.connect() as opened:
        yield opened


@pytest.fixture
def run(site: TrialSite, session: c2d.Session) -> Callable[..., TaskHandle]:
    """Run a script as a task of alice's to its end."""

    def ended(script: str = "echo x > /outputs/x", **more: Any) -> TaskHandle:
        submitted = site.submit(site.request("/bin/sh", "-c", script, **more))
        with site.working():
            site.ended(submitted)
        return session.task(submitted.task_id)

    return ended


@pytest.fixture
def task(run: Callable[..., TaskHandle]) -> TaskHandle:
    return run(SCRIPT)


def queued(site: TrialSite, session: c2d.Session, **more: Any) -> TaskHandle:
    """A task of alice's that waits, since nothing calls a worker."""
    return session.task(site.submit(site.request("true", **more)).task_id)


def moved_into(session: c2d.Session, task: TaskHandle, other: TaskHandle) -> str:
    """Move a task's collection into another one's, as ``imv`` does."""
    place = f"{other.collection}/{task.id}"
    session.catalog.rename(task.collection, place)
    return place


def names_below(top: Path) -> list[str]:
    return sorted(str(path.relative_to(top)) for path in top.rglob("*") if not path.is_dir())


class TestListing:
    def test_files_and_folders_with_sizes(self, task: TaskHandle, typed: Type) -> None:
        listed = {one["name"]: one for one in typed("ls", task.id, "--output", "json").json}
        assert sorted(listed) == sorted([*RECORDS, "big.dat", "other.csv", "plots/", "small.csv"])
        assert (listed["big.dat"]["size"], listed["small.csv"]["size"]) == (2500, 6)
        plots = listed["plots/"]
        assert (plots["kind"], plots["size"], plots["files"]) == ("folder", 10, 2)
        assert listed["big.dat"]["checksum"].startswith("sha2:")
        raw = typed("ls", task.id[:8], "--output", "raw").out.splitlines()
        assert [line.split("\t")[0] for line in raw if line.endswith("\tbig.dat")] == ["2500"]
        pretty = typed("ls", task.id)
        assert any(line.startswith("2.5 kB") and line.endswith("big.dat") for line in pretty.out.splitlines())
        assert "9 files, " in pretty.err

    @pytest.mark.parametrize(
        ("path", "names"),
        [
            ("plots", ["plots/a.png", "plots/deep/"]),
            ("plots/", ["plots/a.png", "plots/deep/"]),
            ("plots/deep", ["plots/deep/b.png"]),
            ("small.csv", ["small.csv"]),
            ("*.csv", ["other.csv", "small.csv"]),
            ("*.png", ["plots/a.png", "plots/deep/b.png"]),
        ],
    )
    def test_a_part(self, task: TaskHandle, typed: Type, path: str, names: list[str]) -> None:
        assert [one["name"] for one in typed("ls", task.id, path, "--output", "json").json] == names
        assert [one.name for one in task.files(path)] == names

    def test_everything_below(self, task: TaskHandle, typed: Type) -> None:
        listed = typed("ls", task.id, "-r", "--output", "json").json
        assert [one["name"] for one in listed] == sorted([*RECORDS, *OUTPUTS, "plots/", "plots/deep/"])
        assert "9 files" in typed("ls", task.id, "-r").err

    def test_a_name_that_is_not_there(self, task: TaskHandle, typed: Type) -> None:
        done = typed("ls", task.id, "smal.csv")
        assert (done.code, "Did you mean small.csv?" in done.err) == (ExitCode.NOT_FOUND, True)

    def test_datasets_workloads_and_collections(
        self, site: TrialSite, session: c2d.Session, typed: Type, tmp_path: Path
    ) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "a.txt").write_text("12345")
        (tmp_path / "data" / "empty").mkdir()
        done = datasets.upload(session, str(tmp_path / "data"))
        expected = [("a.txt", 5), ("empty/", 0)]
        for given in (done.dataset, done.dataset[:9], done.collection):
            listed = typed("ls", given, "--output", "json").json
            assert [(one["name"], one["size"]) for one in listed] == expected
        workload = session.start_workload(site.image, resource=COMPUTE, role="CONTAINER")
        inside = workload.create_task(["true"])
        assert f"{inside.id}/" in typed("ls", workload.id).out
        assert f"datasets/{done.dataset}/" in typed("ls", HOME, "-r").out
        session.catalog.remove(f"{done.collection}/manifest.json")
        assert "is not complete" in typed("ls", done.dataset).err


class TestFetchingParts:
    @pytest.mark.parametrize(
        ("words", "names"),
        [
            (("small.csv",), ["small.csv"]),
            (("plots",), ["plots/a.png", "plots/deep/b.png"]),
            (("plots/deep/b.png", "STDOUT.txt"), ["STDOUT.txt", "plots/deep/b.png"]),
            (("*.csv", "plots/deep/"), ["other.csv", "plots/deep/b.png", "small.csv"]),
            (("/plots/*",), ["plots/a.png", "plots/deep/b.png"]),
        ],
    )
    @pytest.mark.parametrize("how", ["last word", "option", "here"])
    def test_files_folders_and_patterns(
        self, task: TaskHandle, typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, words: Any,
        names: list[str],
    ) -> None:  # fmt: skip
        target = tmp_path / "got"
        if how == "here":
            target.mkdir()
            monkeypatch.chdir(target)
        place = {"last word": (str(target),), "option": ("--output", str(target)), "here": ()}[how]
        assert typed("fetch", task.id, *words, *place).code == 0
        assert names_below(target) == names

    def test_a_relative_folder_as_the_last_word(
        self, task: TaskHandle, typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert typed("fetch", task.id, "got").code == 0
        assert names_below(tmp_path / "got" / task.id) == sorted([*RECORDS, *OUTPUTS])
        assert typed("fetch", task.id, "small.csv", "got2/").code == 0
        assert names_below(tmp_path / "got2") == ["small.csv"]

    @pytest.mark.parametrize("words", [("smal.csv",), ("*.tiff",), ("small.csv", "plot")])
    def test_a_misspelled_path_is_not_taken_for_a_folder(
        self, task: TaskHandle, typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: Any
    ) -> None:
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        assert typed("fetch", task.id, *words).code == ExitCode.NOT_FOUND
        assert os.listdir() == []

    def test_the_forms_of_printing_stay(self, task: TaskHandle, typed: Type, tmp_path: Path) -> None:
        for option in ("--output", "--format"):
            done = typed("fetch", task.id, "small.csv", str(tmp_path), option, "json").json
            assert done["directory"] == str(tmp_path)
            assert [*done["fetched"], *done["kept"]] == ["small.csv"]
        assert not (tmp_path / "json").exists()

    def test_one_file_to_standard_output(self, task: TaskHandle, typed: Type) -> None:
        done = typed("fetch", task.id, "plots/deep/b.png", "--output", "-")
        assert (done.code, done.out) == (0, "three\n")
        assert typed("fetch", task.id, "STDOUT.txt", "--output=-").out == "said\n"
        several = typed("fetch", task.id, "*.csv", "--output", "-")
        assert (several.code, several.out) == (ExitCode.REFUSED, "")
        assert "small.csv" in several.err
        assert typed("fetch", task.id, "nosuch", "--output", "-").code == ExitCode.NOT_FOUND

    def test_the_only_output_needs_no_name(self, run: Callable[..., TaskHandle], typed: Type) -> None:
        alone = run("printf 'exact\\0bytes' > /outputs/x")
        assert typed("fetch", alone.id, "--output", "-").out == "exact\0bytes"
        assert typed("fetch", alone.id, "STDERR.txt", "--output", "-").out == ""
        assert typed("fetch", run("true").id, "--output", "-").code == ExitCode.NOT_FOUND

    def test_damaged_bytes_never_reach_standard_output(self, site: TrialSite, task: TaskHandle, typed: Type) -> None:
        found = site.alice.stat(f"{task.collection}/small.csv")
        Path(found.replicas[0].physical_path).write_text("SMALL\n")
        done = typed("fetch", task.id, "small.csv", "--output", "-")
        assert (done.code != 0, done.out) == (True, "")

    def test_nothing_is_overwritten(self, task: TaskHandle, typed: Type, tmp_path: Path) -> None:
        (tmp_path / "small.csv").write_text("mine")
        assert typed("fetch", task.id, "*.csv", str(tmp_path)).code == ExitCode.REFUSED
        assert ((tmp_path / "small.csv").read_text(), (tmp_path / "other.csv").exists()) == ("mine", False)
        assert typed("fetch", task.id, "*.csv", str(tmp_path), "--force").code == 0
        assert (tmp_path / "small.csv").read_text() == "small\n"

    def test_what_the_zone_lost_is_named(self, site: TrialSite, task: TaskHandle, typed: Type, tmp_path: Path) -> None:
        for name in ("small.csv", "plots/a.png"):
            site.alice.remove(f"{task.collection}/{name}")
        for words, names in ((("small.csv",), ["small.csv"]), (("plots", "other.csv"), ["plots/a.png"])):
            done = typed("fetch", task.id, *words, str(tmp_path), "--output", "json")
            assert (done.code, done.json["missing"]) == (ExitCode.INCOMPLETE, names)
        assert (tmp_path / "plots/deep/b.png").exists()
        assert typed("fetch", task.id, "*.csv", str(tmp_path)).code == ExitCode.INCOMPLETE
        assert typed("fetch", task.id, "*.dat", str(tmp_path)).code == 0

    def test_no_link_leads_out(self, task: TaskHandle, typed: Type, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "got").mkdir()
        (tmp_path / "got" / "plots").symlink_to(tmp_path / "elsewhere")
        assert typed("fetch", task.id, "plots", str(tmp_path / "got"), "--force").code == ExitCode.REFUSED
        assert os.listdir(tmp_path / "elsewhere") == []

    def test_single_files_of_a_dataset(self, session: c2d.Session, typed: Type, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        for name in ("a.csv", "b.csv", "c"):
            (tmp_path / "data" / name).write_text(name)
        dataset = datasets.upload(session, str(tmp_path / "data")).dataset
        assert typed("fetch", dataset[:10], "*.csv", str(tmp_path / "got")).code == 0
        assert names_below(tmp_path / "got") == ["a.csv", "b.csv"]
        assert typed("fetch", dataset, "c", "--output", "-").out == "c"
        whole = typed("fetch", dataset)
        assert (whole.code, f"c2d dataset download {dataset}" in whole.err) == (ExitCode.REFUSED, True)

    def test_python(self, task: TaskHandle, tmp_path: Path) -> None:
        assert task.fetch("*.csv", directory=str(tmp_path)).fetched == ("other.csv", "small.csv")
        assert task.fetch(tmp_path / "all").directory == str(tmp_path / "all" / task.id)
        with pytest.raises(NotFound):
            task.fetch("nosuch.csv", directory=str(tmp_path))


class TestOneBadResult:
    """It never stops the others."""

    @pytest.mark.parametrize("size", [247, 250, 255])
    def test_the_longest_names(self, run: Callable[..., TaskHandle], typed: Type, tmp_path: Path, size: int) -> None:
        task = run(
            f"cd /outputs; echo s > small; n=$(head -c {size} /dev/zero | tr '\\0' a); touch $n; mkdir z; touch z/$n"
        )
        done = typed("fetch", task.id, str(tmp_path))
        assert done.code == 0
        assert names_below(tmp_path / task.id) == sorted([*RECORDS, "a" * size, "small", "z/" + "a" * size])
        (tmp_path / task.id / ("a" * size)).write_text("other")
        assert typed("fetch", task.id, str(tmp_path), "--force").code == 0
        assert (tmp_path / task.id / ("a" * size)).read_text() == ""
        assert names_below(tmp_path / task.id) == sorted([*RECORDS, "a" * size, "small", "z/" + "a" * size])

    def test_a_name_too_long_for_this_computer(
        self, site: TrialSite, task: TaskHandle, typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A zone may hold names of 1,000 bytes."""
        long = "n" * 300
        tree = results.tree

        def with_long_names(*given: Any) -> results.Tree:
            found = tree(*given)
            files = {f"{long}/x" if name == "big.dat" else name: one for name, one in found.files.items()}
            files = {long if name == "other.csv" else name: one for name, one in files.items()}
            return results.Tree(files, (*found.folders, f"{long}f"))

        monkeypatch.setattr(results, "tree", with_long_names)
        done = typed("fetch", task.id, str(tmp_path), "--output", "json")
        assert done.code == ExitCode.INCOMPLETE
        assert set(done.json["failed"]) == {long, f"{long}/x", f"{long}f"}
        assert "File name too long" in done.err
        assert names_below(tmp_path / task.id) == sorted([*RECORDS, "plots/a.png", "plots/deep/b.png", "small.csv"])

    def test_a_result_that_cannot_be_read(self, task: TaskHandle, typed: Type, tmp_path: Path, site: TrialSite) -> None:
        found = site.alice.stat(f"{task.collection}/big.dat")
        Path(found.replicas[0].physical_path).unlink()
        done = typed("fetch", task.id, str(tmp_path))
        assert done.code == ExitCode.INCOMPLETE
        assert "not fetched: big.dat: " in done.err
        assert names_below(tmp_path / task.id) == sorted([*RECORDS, *OUTPUTS[1:]])

    def test_a_folder_in_the_place_of_a_result(self, task: TaskHandle, typed: Type, tmp_path: Path) -> None:
        (tmp_path / task.id / "big.dat").mkdir(parents=True)
        done = typed("fetch", task.id, str(tmp_path), "--force")
        assert (done.code, "not fetched: big.dat: a folder" in done.err) == (ExitCode.INCOMPLETE, True)
        assert (tmp_path / task.id / "small.csv").exists()

    def test_names_that_this_disk_takes_for_one(
        self, session: c2d.Session, task: TaskHandle, typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on disks of macOS and Windows: a name leads to the file of another one."""
        get = session.catalog.get.__func__

        def ignoring_case(self: Any, data_object: str, file: str, **more: Any) -> Any:
            came = get(self, data_object, file, **more)
            if file.endswith("/other.csv"):
                os.link(file, os.path.join(os.path.dirname(file), "small.csv"))
            return came

        monkeypatch.setattr(type(session.catalog), "get", ignoring_case)
        done = typed("fetch", task.id, "*.csv", str(tmp_path))
        assert done.code == ExitCode.INCOMPLETE
        assert "not fetched: small.csv: other.csv has the same name on this disk" in done.err
        assert (tmp_path / "other.csv").read_text() == "other\n"

    def test_a_zone_that_does_not_answer_ends_it(
        self, session: c2d.Session, task: TaskHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def gone(*_: Any, **__: Any) -> str:
            raise zone_error(Code.USER_SOCK_CONNECT_ERR, "zone", "does not answer")

        monkeypatch.setattr(session.catalog, "get", gone)
        with pytest.raises(c2d.errors.ZoneOutOfReach):
            fetching.fetch(session.catalog, task.collection, str(tmp_path))

    def test_a_workload_goes_on_with_its_next_task(
        self, site: TrialSite, session: c2d.Session, typed: Type, tmp_path: Path
    ) -> None:
        workload = session.start_workload(site.image, resource=COMPUTE, role="CONTAINER")
        tasks = [workload.create_task(["sh", "-c", f"echo {word} > /outputs/x"]) for word in ("one", "two")]
        for task in tasks:
            task.wait()
        (tmp_path / tasks[0].id).mkdir()
        (tmp_path / tasks[0].id / "x").write_text("mine")
        done = typed("workload", "download", workload.id, str(tmp_path), "--output", "json")
        assert (done.code, list(done.json["failed"])) == (ExitCode.INCOMPLETE, [tasks[0].id])
        assert (tmp_path / tasks[1].id / "x").read_text() == "two\n"
        assert typed("fetch", workload.id, "--output", str(tmp_path / "all")).code == 0
        assert (tmp_path / "all" / tasks[0].id / "x").read_text() == "one\n"
        for words in (("x", str(tmp_path)), ("--output", "-"), ("x", "--output", str(tmp_path))):
            assert typed("fetch", workload.id, *words).code == ExitCode.REFUSED


def test_empty_folders_of_results_are_fetched(
    session: c2d.Session, task: TaskHandle, typed: Type, tmp_path: Path
) -> None:
    session.catalog.create_collection(f"{task.collection}/nothing/here", parents=True)
    assert typed("fetch", task.id, str(tmp_path)).code == 0
    assert (tmp_path / task.id / "nothing" / "here").is_dir()
    assert typed("fetch", task.id, "nothing", str(tmp_path / "part")).code == 0
    assert (tmp_path / "part" / "nothing" / "here").is_dir()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestRemoving:
    def test_a_task_goes_with_its_results(self, task: TaskHandle, typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
        assert typed("rm", task.id).code == ExitCode.REFUSED  # standard input is not a terminal
        for answer, code in (("n\n", ExitCode.REFUSED), ("y\n", 0)):
            assert task.state.value == "COMPLETED"
            monkeypatch.setattr(sys, "stdin", Terminal(answer))
            done = typed("rm", task.id[:8])
            assert done.code == code
            assert f"Remove task {task.id} with all results: 9 files, " in done.err
        assert typed("status", task.id).code == ExitCode.NOT_FOUND

    def test_several_and_one_that_cannot_be_removed(
        self, site: TrialSite, session: c2d.Session, run: Callable[..., TaskHandle], typed: Type
    ) -> None:
        ended, waiting = run(), queued(site, session)
        done = typed("rm", waiting.id, ended.id, "nosuch", "--yes", "--output", "json")
        assert done.code == ExitCode.NOT_FOUND
        assert [one["id"] for one in done.json["removed"]] == [ended.id]
        assert f"c2d cancel {waiting.id}" in done.err
        assert waiting.state.value == "QUEUED"

    def test_a_choice(self, site: TrialSite, session: c2d.Session, run: Callable[..., TaskHandle], typed: Type) -> None:
        good, bad, waiting = run(), run("exit 3"), queued(site, session)
        assert typed("rm", "--older-than", "1d", "--yes").out == ""
        assert typed("rm", "--state", "failed", "--yes").out == f"{bad.id}\n"
        assert (good.state.value, waiting.state.value) == ("COMPLETED", "QUEUED")
        assert typed("rm", "--older-than", "0s", "--yes").out == f"{good.id}\n"
        assert waiting.state.value == "QUEUED"
        for wrong in ((), ("--yes",), (good.id, "--state", "FAILED", "--yes"), ("--state", "RUNNING", "--yes")):
            assert typed("rm", *wrong).code == ExitCode.USAGE

    @pytest.mark.parametrize("kind", ["collection", "object"])
    def test_results_that_another_task_will_read_stay(
        self, site: TrialSite, session: c2d.Session, run: Callable[..., TaskHandle], typed: Type, kind: str
    ) -> None:
        first = run()
        path = first.collection + ("/x" if kind == "object" else "")
        second = queued(site, session, inputs=[{kind: path}])
        done = typed("rm", first.id, "--yes")
        assert (done.code, second.collection in done.err) == (ExitCode.REFUSED, True)
        with pytest.raises(Refused, match="use its results"):
            first.remove()
        with site.working():
            second.wait()
        assert typed("rm", first.id, "--yes").code == 0

    def test_a_task_inside_keeps_it(
        self, site: TrialSite, session: c2d.Session, run: Callable[..., TaskHandle]
    ) -> None:
        first = run()
        waiting = queued(site, session)
        inside = moved_into(session, waiting, first)
        with pytest.raises(Refused, match=f"holds tasks that have not ended: {inside}"):
            first.remove()

    def test_a_task_that_another_one_waits_for_stays(
        self, site: TrialSite, session: c2d.Session, run: Callable[..., TaskHandle]
    ) -> None:
        first, waiting = run(), queued(site, session)
        mark = Avu(session.attributes.named("after"), first.collection)
        session.catalog.annotate(Entity(EntityKind.COLLECTION, waiting.collection), add=[mark])
        with pytest.raises(Refused, match=waiting.id):
            first.remove()

    def test_a_task_inside_another_one_goes_with_it(
        self, site: TrialSite, session: c2d.Session, run: Callable[..., TaskHandle], typed: Type
    ) -> None:
        outer = run()
        inner = run()
        moved_into(session, inner, outer)
        done = typed("rm", "--state", "COMPLETED", "--yes")
        assert (done.code, done.out) == (0, f"{outer.id}\n")
        assert typed("status", inner.id).code == ExitCode.NOT_FOUND

    def test_a_workload(self, site: TrialSite, session: c2d.Session, typed: Type) -> None:
        workload = session.start_workload(site.image, resource=COMPUTE, role="CONTAINER")
        task = workload.create_task(["true"])
        assert f"c2d workload stop {workload.id}" in typed("rm", workload.id, "--yes").err
        workload.stop()
        task.wait()
        assert typed("rm", workload.id, "--yes").code == 0
        assert session.workloads() == []
        assert typed("status", task.id).code == ExitCode.NOT_FOUND

    def test_a_dataset_is_named_with_its_own_command(self, session: c2d.Session, typed: Type) -> None:
        dataset = datasets.reserve(session)
        done = typed("rm", dataset, "--yes")
        assert (done.code, f"c2d dataset remove {dataset}" in done.err) == (ExitCode.REFUSED, True)

    def test_a_collection_that_another_user_marked_as_a_task_stays(
        self, site: TrialSite, session: c2d.Session, run: Callable[..., TaskHandle], typed: Type
    ) -> None:
        """bob may write to alice's collection. He makes it look like a task of hers that has ended."""
        precious = f"{HOME}/precious"
        session.catalog.create_collection(precious)
        session.catalog.set_inheritance(precious, True)
        session.catalog.write(f"{precious}/thesis", b"years of work")
        session.catalog.set_access(precious, BOB, Access.MODIFY_OBJECT)
        bob, attributes = site.zone.session(BOB), session.attributes
        marks = [Avu(attributes.state, "FAILED", COMPUTE), Avu(attributes.named("task_id"), "precious")]
        bob.annotate(Entity(EntityKind.COLLECTION, precious), add=marks)
        assert typed("rm", "--state", "FAILED", "--yes").code == ExitCode.REFUSED
        bob.write(f"{precious}/task.json", b"{}")
        done = typed("rm", "--state", "FAILED", "--yes")
        assert (done.code, "belongs to bob#tempZone" in done.err) == (ExitCode.REFUSED, True)
        assert session.catalog.read(f"{precious}/thesis", ENOUGH) == b"years of work"

    def test_another_users_task_stays(
        self, site: TrialSite, run: Callable[..., TaskHandle], session: c2d.Session, tmp_path: Path
    ) -> None:
        task = run()
        sharing.share(session, task.id, "bob", "read")
        path = tmp_path / "bob.json"
        path.write_text(json.dumps(settings_of(site, "bob")), encoding="utf-8")
        with c2d.connect(str(path)) as as_bob, pytest.raises(AccessDenied, match="belongs to alice"):
            as_bob.task(task.id).remove()
        assert task.state.value == "COMPLETED"


def test_a_shared_task_is_read_by_the_other(
    site: TrialSite, session: c2d.Session, run: Callable[..., TaskHandle], typed: Type, tmp_path: Path
) -> None:
    request = site.request("/bin/sh", "-c", "echo late > /outputs/late; echo said")
    waiting = session.task(site.submit(request).task_id)
    assert typed("share", waiting.id, "bob", "read").code == 0
    with site.working():
        waiting.wait()
    assert waiting.state.value == "COMPLETED", waiting.status().reason
    path = tmp_path / "bob.json"
    path.write_text(json.dumps(settings_of(site, "bob")), encoding="utf-8")
    as_bob = ("--config-file", str(path))
    assert typed("status", waiting.id, *as_bob).code == 0
    assert typed("logs", waiting.id, *as_bob).out == "said\n"
    assert typed("fetch", waiting.id, "late", str(tmp_path), *as_bob).code == 0
    assert (tmp_path / "late").read_text() == "late\n"
    assert typed("ls", waiting.id, *as_bob).code == 0
    rows = {str(row.user): row.access for row in site.alice.permissions(f"{waiting.collection}/task.json")}
    assert rows == {"alice#tempZone": Access.OWN, "bob#tempZone": Access.READ_OBJECT}
    assert typed("share", waiting.id, "bob", "none").code == 0
    assert typed("status", waiting.id, *as_bob).code == ExitCode.NOT_FOUND


def test_a_list_says_only_when_there_is_more(site: TrialSite, session: c2d.Session, typed: Type) -> None:
    first = queued(site, session)
    alone = typed("list", "--limit", "1", "--output", "raw")
    assert (alone.out.split("\t")[0], alone.err) == (first.id, "")
    second = queued(site, session)
    newest = typed("list", "--limit", "1", "--output", "raw")
    assert (newest.out.split("\t")[0], "--offset 1" in newest.err) == (second.id, True)
    assert typed("list", "--limit", "1", "--offset", "1").err == ""
    assert typed("list", "--limit", "2").err == ""


def test_links_in_the_place_of_a_folder_are_refused_before_anything_is_fetched(
    session: c2d.Session, task: TaskHandle, tmp_path: Path
) -> None:
    (tmp_path / "plots").symlink_to(tmp_path)
    with pytest.raises(AlreadyExists, match="is a link"):
        task.fetch("plots", "small.csv", directory=str(tmp_path))
    assert os.listdir(tmp_path / "plots") == os.listdir(tmp_path)
    assert not (tmp_path / "small.csv").exists()


class TestPlacesThatAreRemovedAsAWhole:
    """Results in there would count as the task's, workload's or dataset's, and be removed with it."""

    def test_a_task(self, site: TrialSite, session: c2d.Session, task: TaskHandle) -> None:
        for place in (task.collection, f"{task.collection}/plots"):
            with pytest.raises(Refused, match=f"{place}: is in the task {task.id}"):
                queued(site, session, output_collection=place)
        assert sorted(task.results()) == OUTPUTS

    def test_a_dataset(self, site: TrialSite, session: c2d.Session) -> None:
        dataset = datasets.find(session, datasets.reserve(session))
        with pytest.raises(Refused, match=f"is in the dataset {dataset.rpartition('/')[2]}"):
            queued(site, session, output_collection=f"{dataset}/files")

    def test_a_workload_is_for_its_own_tasks(self, site: TrialSite, session: c2d.Session) -> None:
        workload = session.start_workload(site.image)
        with pytest.raises(Refused, match=f"is in the workload {workload.id}"):
            queued(site, session, output_collection=workload.collection)
        inside = workload.create_task(["true"])
        with pytest.raises(Refused, match=f"is in the task {inside.id}"):
            queued(site, session, output_collection=inside.collection)

    def test_beside_them(self, site: TrialSite, session: c2d.Session, task: TaskHandle) -> None:
        assert queued(site, session, output_collection=task.collection.rpartition("/")[0]).state.value == "QUEUED"
