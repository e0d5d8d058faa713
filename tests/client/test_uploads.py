"""Uploads of files, several paths, links and odd names; what they refuse, ignore and keep; shared datasets."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.people import settings_of
from support.reading import ENOUGH
from support.site import BOB, COMPUTE, HOME, TrialSite

import compute_to_data as c2d
from compute_to_data.cli.exits import ExitCode
from compute_to_data.cli.main import main
from compute_to_data.client import datasets, sharing
from compute_to_data.client.local_folders import local_listing
from compute_to_data.errors import AccessDenied, Code, Incomplete, InvalidRequest, NotFound, Refused, zone_error
from compute_to_data.model import ReplicaStatus
from compute_to_data.records import manifest
from compute_to_data.records import manifest as records_manifest

CHECKSUM = f"sha2:{'A' * 43}="


@pytest.fixture
def session(site: TrialSite, own_files: Path) -> Iterator[c2d.Session]:
    with c2d.connect() as opened:
        yield opened


@pytest.fixture
def as_bob(site: TrialSite, session: c2d.Session) -> Iterator[c2d.Session]:
    path = Path(site.folder) / "bob.json"
    path.write_text(json.dumps(settings_of(site, "bob")), encoding="utf-8")
    with c2d.connect(str(path)) as opened:
        yield opened


def files_in(top: Path, *names: str) -> Path:
    for name in names:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(f"content of {name}")
    return top


def names_below(top: Path) -> list[str]:
    return sorted(str(path.relative_to(top)) + "/" * path.is_dir() for path in top.rglob("*"))


def held_names(session: c2d.Session, dataset: str) -> list[str]:
    content = session.catalog.read(f"{HOME}/datasets/{dataset}/manifest.json", ENOUGH)
    return [file.path for file in manifest.parsed(content, dataset).files]


@pytest.mark.parametrize(
    "seconds",
    [10_413_792_000, -1, -86_400 * 365 * 60, 0, 15_032_385_535, 1_600_000_000],
    ids=["the year 2300", "1969", "1910", "1970", "2446, the last that ext4 holds", "2020"],
)
def test_a_time_of_any_year_comes_back(session: c2d.Session, tmp_path: Path, seconds: int) -> None:
    top = files_in(tmp_path / "a", "x", "d/y")
    wanted = seconds * 1_000_000_000 + 123_456_789 * (seconds != 15_032_385_535)
    for name in ("x", "d"):
        os.utime(top / name, ns=(wanted, wanted))
    done = datasets.upload(session, str(top))
    back = datasets.download(session, done.dataset, str(tmp_path / "b"))
    assert back.untimed == ()
    assert [(tmp_path / "b" / name).stat().st_mtime_ns for name in ("x", "d")] == [
        (top / name).stat().st_mtime_ns for name in ("x", "d")
    ]


def test_a_time_that_this_computer_cannot_keep_is_named(
    session: c2d.Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = datasets.upload(session, str(files_in(tmp_path / "a", "x", "y")))
    path = f"{done.collection}/manifest.json"
    document = json.loads(session.catalog.read(path, ENOUGH))
    document["files"][0]["modified_ns"] = ((1 << 63) - 1) * 1_000_000_000
    session.catalog.write(path, json.dumps(document).encode(), force=True)
    assert main(["dataset", "download", done.dataset, str(tmp_path / "b")]) == 0
    assert "x: this computer cannot keep its modification time" in capsys.readouterr().err
    assert names_below(tmp_path / "b") == ["x", "y"]


@pytest.mark.parametrize("field", ["modified_ns", "size"])
def test_numbers_that_no_system_has_are_refused(field: str) -> None:
    file = manifest.HeldFile("a", 1, CHECKSUM, 1)
    document = json.loads(manifest.Manifest("d-0123456789ab", "n", "", (file,), ()).content())
    document["files"][0][field] = 1 << 100
    with pytest.raises(InvalidRequest, match="'a'"):
        manifest.parsed(json.dumps(document).encode(), "manifest.json")


@pytest.mark.parametrize("size", [247, 250, 254, 255])
def test_the_longest_names_go_there_and_back(session: c2d.Session, tmp_path: Path, size: int) -> None:
    names = ["a" * size, "ü" * (size // 2), f"{'d' * size}/{'f' * size}"]
    top = files_in(tmp_path / "a", *names)
    done = datasets.upload(session, str(top))
    datasets.download(session, done.dataset, str(tmp_path / "b"))
    assert names_below(tmp_path / "b") == names_below(top)


def test_a_path_as_long_as_iRODS_holds_comes_back(session: c2d.Session, tmp_path: Path) -> None:
    room = 1087 - len(f"{HOME}/datasets/d-{'0' * 12}/files/")
    names = ["n" * 200] * 6
    path = "/".join(names)[:room]
    assert len(path) > 1000
    top = files_in(tmp_path / "a", path)
    done = datasets.upload(session, str(top))
    datasets.download(session, done.dataset, str(tmp_path / "b"))
    assert names_below(tmp_path / "b") == names_below(top)
    longer = files_in(tmp_path / "c", path + "x")
    with pytest.raises(InvalidRequest, match=r"longer than 1087 bytes") as refused:
        datasets.upload(session, str(longer))
    assert len(str(refused.value)) < 700, "the path hides the rest of the message"


def test_a_name_that_is_not_utf_8_is_never_written(session: c2d.Session, tmp_path: Path) -> None:
    top = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    files_in(top, "a")
    done = datasets.upload(session, str(top))
    assert done.name == "caf\\xe9"
    with pytest.raises(InvalidRequest, match="UTF-8"):
        datasets.upload(session, str(top), name="caf\udce9")
    assert [one.is_complete for one in datasets.listed(session)] == [False, True]


def test_a_manifest_too_large_to_be_read_is_not_begun(
    session: c2d.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records_manifest, "LARGEST", 2000)
    monkeypatch.setattr(session.catalog, "put_all", lambda *_, **__: pytest.fail("something was sent"))
    with pytest.raises(InvalidRequest, match=r"its manifest would have \d+ bytes"):
        datasets.upload(session, str(files_in(tmp_path / "a", *(f"file {number}" for number in range(20)))))


@pytest.mark.parametrize("names", [(), ("x/", "y/z/")], ids=["nothing", "empty folders"])
def test_empty_folders_come_back(session: c2d.Session, tmp_path: Path, names: tuple[str, ...]) -> None:
    top = tmp_path / "a"
    for name in ("", *names):
        (top / name).mkdir(parents=True)
        os.utime(top / name, ns=(10**18, 10**18))
    done = datasets.upload(session, str(top))
    assert (done.files, done.size) == (0, 0)
    (listed,) = datasets.listed(session)
    assert (listed.is_complete, listed.files) == (True, 0)
    datasets.download(session, done.dataset, str(tmp_path / "b"))
    assert names_below(tmp_path / "b") == names_below(top)
    assert [(tmp_path / "b" / name).stat().st_mtime_ns for name in names] == [10**18] * len(names)


def test_an_empty_folder_stays_in_the_dataset_unless_delete_is_given(session: c2d.Session, tmp_path: Path) -> None:
    top = files_in(tmp_path / "a", "x")
    (top / "empty").mkdir()
    done = datasets.upload(session, str(top))
    (top / "empty").rmdir()
    datasets.upload(session, str(top), dataset=done.dataset)
    datasets.download(session, done.dataset, str(tmp_path / "kept"))
    assert names_below(tmp_path / "kept") == ["empty/", "x"]
    datasets.upload(session, str(top), dataset=done.dataset, delete=True)
    datasets.download(session, done.dataset, str(tmp_path / "gone"))
    assert names_below(tmp_path / "gone") == ["x"]


class TestWhatIsSent:
    def test_one_file(self, session: c2d.Session, tmp_path: Path) -> None:
        files_in(tmp_path, "a b.csv", "other")
        done = datasets.upload(session, str(tmp_path / "a b.csv"))
        assert (done.name, held_names(session, done.dataset)) == ("a b.csv", ["a b.csv"])

    def test_several_files_and_folders(self, session: c2d.Session, tmp_path: Path) -> None:
        files_in(tmp_path, "a.csv", "two/b.csv", "two/deep/c", "three/x")
        paths = [str(tmp_path / name) for name in ("a.csv", "two/", "three")]
        done = datasets.upload(session, paths)
        assert done.name == "a.csv and 2 more"
        datasets.download(session, done.dataset, str(tmp_path / "back"))
        assert names_below(tmp_path / "back") == [
            "a.csv", "three/", "three/x", "two/", "two/b.csv", "two/deep/", "two/deep/c",
        ]  # fmt: skip

    def test_a_file_is_added_to_a_dataset(self, session: c2d.Session, tmp_path: Path) -> None:
        files_in(tmp_path, "data/a", "b")
        done = datasets.upload(session, str(tmp_path / "data"))
        again = datasets.upload(session, str(tmp_path / "b"), dataset=done.dataset)
        assert (again.name, held_names(session, done.dataset)) == ("data", ["a", "b"])
        with pytest.raises(InvalidRequest, match="only the upload of one folder"):
            datasets.upload(session, str(tmp_path / "b"), dataset=done.dataset, delete=True)
        assert held_names(session, done.dataset) == ["a", "b"]

    def test_two_paths_with_one_name_are_refused(self, session: c2d.Session, tmp_path: Path) -> None:
        files_in(tmp_path, "a/x", "b/x")
        with pytest.raises(InvalidRequest, match=r"b/x.*a/x would both be 'x'"):
            datasets.upload(session, [str(tmp_path / "a/x"), str(tmp_path / "b/x")])

    @pytest.mark.parametrize(("before", "after"), [("x", "x/y"), ("x/y", "x"), ("x/y/z", "x/y")])
    def test_a_file_that_became_a_folder_changes_nothing_unless_delete_is_given(
        self, session: c2d.Session, tmp_path: Path, before: str, after: str
    ) -> None:
        done = datasets.upload(session, str(files_in(tmp_path / "before", before)))
        with pytest.raises(InvalidRequest, match=r"twice, or as a file and as a folder.*Nothing was sent"):
            datasets.upload(session, str(files_in(tmp_path / "after", after)), dataset=done.dataset)
        assert held_names(session, done.dataset) == [before]
        datasets.upload(session, str(tmp_path / "after"), dataset=done.dataset, delete=True)
        datasets.download(session, done.dataset, str(tmp_path / "back"))
        assert names_below(tmp_path / "back") == names_below(tmp_path / "after")

    def test_a_path_that_is_not_there(self, session: c2d.Session, tmp_path: Path) -> None:
        files_in(tmp_path, "a")
        with pytest.raises(InvalidRequest, match="nosuch"):
            datasets.upload(session, [str(tmp_path / "a"), str(tmp_path / "nosuch")])
        assert datasets.listed(session) == []

    def test_the_command_names_everything_that_cannot_be_sent(
        self, session: c2d.Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        top = files_in(tmp_path / "a", "real")
        for number in range(30):
            (top / f"link{number:02}").symlink_to("real")
        assert main(["dataset", "upload", str(top)]) == ExitCode.REFUSED
        said = capsys.readouterr().err
        assert all(f"link{number:02}: a symbolic link" in said for number in range(30))
        assert "--follow-links" in said
        assert datasets.listed(session) == []


class TestLinks:
    def test_links_are_sent_as_what_they_lead_to(self, session: c2d.Session, tmp_path: Path) -> None:
        top = files_in(tmp_path / "a", "real", "d/x")
        files_in(tmp_path / "elsewhere", "out", "more/y")
        (top / "file").symlink_to("real")
        (top / "twice").symlink_to("file")
        (top / "d" / "folder").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        done = datasets.upload(session, str(top), follow_links=True)
        datasets.download(session, done.dataset, str(tmp_path / "back"))
        assert names_below(tmp_path / "back") == [
            "d/", "d/folder/", "d/folder/more/", "d/folder/more/y", "d/folder/out", "d/x", "file", "real", "twice",
        ]  # fmt: skip
        assert (tmp_path / "back" / "twice").read_text() == "content of real"

    @pytest.mark.parametrize(
        ("target", "cause"),
        [("..", "a link to a folder that holds it"), ("nosuch", "leads nowhere"), ("loop", "leads nowhere")],
    )
    def test_loops_and_broken_links_are_refused(
        self, session: c2d.Session, tmp_path: Path, target: str, cause: str
    ) -> None:
        top = files_in(tmp_path / "a", "d/x")
        (top / "d" / "loop").symlink_to(target)
        with pytest.raises(InvalidRequest, match=f"'d/loop' .*{cause}"):
            datasets.upload(session, str(top), follow_links=True)
        assert datasets.listed(session) == []

    def test_two_links_to_one_folder_are_no_loop(self, session: c2d.Session, tmp_path: Path) -> None:
        top = files_in(tmp_path / "a", "d/x")
        (top / "one").symlink_to("d")
        (top / "two").symlink_to("d")
        done = datasets.upload(session, str(top), follow_links=True)
        assert held_names(session, done.dataset) == ["d/x", "one/x", "two/x"]

    def test_a_link_that_replaces_a_file_after_the_listing_is_not_followed(
        self, session: c2d.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        top = files_in(tmp_path / "a", "x")
        files_in(tmp_path, "secret")
        listing = local_listing.listing

        def replaced(*given: Any, **options: Any) -> Any:
            found = listing(*given, **options)
            (top / "x").unlink()
            (top / "x").symlink_to(tmp_path / "secret")
            return found

        monkeypatch.setattr(local_listing, "listing", replaced)
        with pytest.raises(c2d.errors.ZoneError, match="a symbolic link"):
            datasets.upload(session, str(top))


class TestIgnoring:
    def test_patterns_keep_files_out(self, session: c2d.Session, tmp_path: Path) -> None:
        top = files_in(tmp_path / "a", "a.csv", "x.tmp", "d/y.tmp", "d/keep.tmp", "build/deep/o", "d/build", "logs/1")
        (top / ".c2dignore").write_text("# what we do not send\n*.tmp\n/build\nlogs/*\n")
        (top / "d" / ".c2dignore").write_text("!keep.tmp\n")
        done = datasets.upload(session, str(top))
        assert held_names(session, done.dataset) == ["a.csv", "d/build", "d/keep.tmp"]
        assert set(done.ignored) == {".c2dignore", "d/.c2dignore", "x.tmp", "d/y.tmp", "build", "logs/1"}

    def test_what_is_ignored_need_not_be_storable(self, session: c2d.Session, tmp_path: Path) -> None:
        top = files_in(tmp_path / "a", "a", "venv/x")
        (top / "venv" / "python").symlink_to("/usr/bin/python3")
        os.mkfifo(top / "pipe")
        with pytest.raises(InvalidRequest, match=r"\.c2dignore"):
            datasets.upload(session, str(top))
        (top / ".c2dignore").write_text("venv/\npipe")
        done = datasets.upload(session, str(top))
        assert held_names(session, done.dataset) == ["a"]

    def test_the_command_counts_what_it_ignores(
        self, session: c2d.Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        top = files_in(tmp_path / "a", "a", "b.tmp")
        (top / ".c2dignore").write_text("*.tmp\n!.c2dignore\n")
        assert main(["dataset", "upload", str(top)]) == 0
        assert "2 files" in (said := capsys.readouterr().err)
        assert "1 ignored" in said


class TestADatasetInUse:
    @pytest.fixture
    def used(self, session: c2d.Session, tmp_path: Path, site: TrialSite) -> Any:
        done = datasets.upload(session, str(files_in(tmp_path / "a", "x", "y")))
        request = site.request("true", inputs=[{"collection": f"{done.collection}/files"}])
        return done, site.submit(request)  # and nothing calls a worker

    def test_it_is_not_emptied_or_changed_unasked(
        self, session: c2d.Session, tmp_path: Path, used: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        done, task = used
        (tmp_path / "empty").mkdir()
        command = ["dataset", "upload", str(tmp_path / "empty"), "--id", done.dataset, "--delete"]
        assert main(command) == ExitCode.REFUSED
        said = capsys.readouterr().err
        assert f"{task.collection} (QUEUED)" in said
        assert "--force" in said
        assert held_names(session, done.dataset) == ["x", "y"]
        (tmp_path / "a" / "x").write_text("changed")
        with pytest.raises(Refused, match="is in use by"):
            datasets.upload(session, str(tmp_path / "a"), dataset=done.dataset)
        assert session.catalog.read(f"{done.collection}/files/x", ENOUGH) == b"content of x"
        assert main([*command, "--force"]) == 0
        assert held_names(session, done.dataset) == []

    def test_an_upload_that_changes_nothing_is_not_refused(
        self, session: c2d.Session, tmp_path: Path, used: Any
    ) -> None:
        done, _ = used
        assert datasets.upload(session, str(tmp_path / "a"), dataset=done.dataset).sent == 0

    @pytest.mark.parametrize("named", ["{0}", "{0}/files/x", HOME, "{0}/files"])
    def test_every_way_to_name_it_counts(
        self, session: c2d.Session, tmp_path: Path, site: TrialSite, named: str
    ) -> None:
        done = datasets.upload(session, str(files_in(tmp_path / "a", "x")))
        path = named.format(done.collection)
        kind = "object" if path.endswith("x") else "collection"
        site.submit(site.request("true", inputs=[{kind: path}]))
        with pytest.raises(Refused, match="is in use by"):
            datasets.remove(session, done.dataset)

    def test_a_stopped_workload_does_not_keep_it(self, session: c2d.Session, tmp_path: Path, site: TrialSite) -> None:
        done = datasets.upload(session, str(files_in(tmp_path / "a", "x")))
        workload = session.start_workload(site.image, input_dataset=done.dataset, resource=COMPUTE, role="CONTAINER")
        with pytest.raises(Refused, match="STARTED"):
            datasets.remove(session, done.dataset)
        task = workload.create_task(["true"])
        workload.stop()
        task.wait()
        assert datasets.describe(session, done.dataset).workloads == (workload.collection,)
        datasets.remove(session, done.dataset)


class TestFailuresOfADownload:
    def test_one_bad_file_does_not_stop_the_others(
        self, session: c2d.Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        done = datasets.upload(session, str(files_in(tmp_path / "a", "a", "b", "c", "d/e")))
        session.catalog.remove(f"{done.collection}/files/a")
        session.catalog.write(f"{done.collection}/files/c", b"forged content", force=True)
        with pytest.raises(Incomplete) as failed:
            datasets.download(session, done.dataset, str(tmp_path / "back"))
        assert set(failed.value.failures) == {"a", "c"}
        assert names_below(tmp_path / "back") == ["b", "d/", "d/e"]
        assert main(["dataset", "download", done.dataset, str(tmp_path / "again")]) == ExitCode.INCOMPLETE
        assert "not fetched: c: " in capsys.readouterr().err

    def test_names_that_this_computer_cannot_hold_are_named(self, session: c2d.Session, tmp_path: Path) -> None:
        done = datasets.upload(session, str(files_in(tmp_path / "a", "short")))
        long = "n" * 300
        document = json.loads(session.catalog.read(f"{done.collection}/manifest.json", ENOUGH))
        document["files"] += [{**document["files"][0], "path": one} for one in (long, f"{long}/below", f"ok/{long}")]
        document["files"] = [one for one in document["files"] if one["path"] != long]
        document["folders"] = [{"path": long, "modified_ns": 1}, {"path": "ok", "modified_ns": 1}]
        session.catalog.write(f"{done.collection}/manifest.json", json.dumps(document).encode(), force=True)
        with pytest.raises(Incomplete, match="File name too long") as failed:
            datasets.download(session, done.dataset, str(tmp_path / "back"))
        assert set(failed.value.failures) == {long, f"ok/{long}"}
        assert names_below(tmp_path / "back") == ["ok/", "short"]

    def test_a_zone_that_does_not_answer_ends_it(
        self, session: c2d.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        done = datasets.upload(session, str(files_in(tmp_path / "a", *map(str, range(50)))))
        asked: list[str] = []

        def gone(data_object: str, *_: Any, **__: Any) -> str:
            asked.append(data_object)
            raise zone_error(Code.USER_SOCK_CONNECT_ERR, "zone", "does not answer")

        monkeypatch.setattr(session.catalog, "get", gone)
        with pytest.raises(c2d.errors.ZoneOutOfReach):
            datasets.download(session, done.dataset, str(tmp_path / "back"))
        assert len(asked) < 50


class TestFilesOfOtherClients:
    def test_a_file_without_a_checksum_is_kept(self, site: TrialSite, session: c2d.Session, tmp_path: Path) -> None:
        done = datasets.upload(session, str(files_in(tmp_path / "a", "x")))
        place = f"{done.collection}/files/theirs"
        session.catalog.write(place, b"theirs")
        with site.zone._store.database.writing() as connection:
            connection.execute("UPDATE replica SET checksum = '' WHERE physical_path LIKE '%theirs'")
        again = datasets.upload(session, str(tmp_path / "a"), dataset=done.dataset)
        assert again.removed == 0
        assert held_names(session, done.dataset) == ["theirs", "x"]

    def test_what_an_interrupted_upload_left_goes(self, site: TrialSite, session: c2d.Session, tmp_path: Path) -> None:
        done = datasets.upload(session, str(files_in(tmp_path / "a", "x")))
        session.catalog.write(f"{done.collection}/files/half", b"half")
        site.zone.set_replica_status(f"{done.collection}/files/half", 0, ReplicaStatus.STALE)
        assert datasets.upload(session, str(tmp_path / "a"), dataset=done.dataset).removed == 1
        assert held_names(session, done.dataset) == ["x"]


def test_the_beginning_of_an_id_is_enough(session: c2d.Session, tmp_path: Path) -> None:
    done = datasets.upload(session, str(files_in(tmp_path / "a", "x")))
    assert datasets.find(session, done.dataset[:8]) == done.collection
    beginning = done.dataset[:4]
    session.catalog.create_collection(f"{HOME}/datasets/{beginning}{'0' * 10}")
    with pytest.raises(InvalidRequest, match="several datasets match"):
        datasets.find(session, beginning)


def test_a_list_in_raw_marks_what_is_not_complete(
    session: c2d.Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = datasets.upload(session, str(files_in(tmp_path / "a", "x")))
    half = datasets.reserve(session)
    assert main(["dataset", "list", "--output", "raw"]) == 0
    lines = {line.split("\t")[0]: line.split("\t") for line in capsys.readouterr().out.splitlines()}
    assert (lines[done.dataset][5], lines[half][5]) == ("complete", "incomplete")
    assert lines[done.dataset][2:4] == ["1", "12"]


class TestSharing:
    @pytest.fixture
    def done(self, session: c2d.Session, tmp_path: Path) -> Any:
        return datasets.upload(session, str(files_in(tmp_path / "a", "x", "d/y")))

    def test_a_shared_dataset_is_found_by_its_id_and_is_an_input(
        self, site: TrialSite, session: c2d.Session, as_bob: c2d.Session, done: Any, tmp_path: Path
    ) -> None:
        with pytest.raises(NotFound):
            datasets.find(as_bob, done.dataset)
        assert [one.user for one in sharing.share(session, done.dataset, "bob", "read")] == [
            "alice#tempZone",
            "bob#tempZone",
        ]
        assert datasets.find(as_bob, done.dataset) == done.collection
        datasets.download(as_bob, done.dataset, str(tmp_path / "back"))
        assert names_below(tmp_path / "back") == ["d/", "d/y", "x"]
        process = site.process("/bin/sh", "-c", "cp /inputs/d/y /outputs/y")
        task = as_bob.submit({"resource": COMPUTE, "inputs": [done.dataset], "process": process})
        assert task.wait().state.value == "COMPLETED"
        assert task.results()["y"].text() == "content of d/y"
        with pytest.raises(AccessDenied):
            datasets.upload(as_bob, str(tmp_path / "back"), dataset=done.dataset, name="mine")

    def test_later_uploads_are_shared_too(
        self, session: c2d.Session, as_bob: c2d.Session, done: Any, tmp_path: Path
    ) -> None:
        sharing.share(session, done.dataset, "bob#tempZone", "read")
        files_in(tmp_path / "a", "new", "d/deep/new", "x")
        datasets.upload(session, str(tmp_path / "a"), dataset=done.dataset)
        datasets.download(as_bob, done.dataset, str(tmp_path / "back"))
        assert names_below(tmp_path / "back") == ["d/", "d/deep/", "d/deep/new", "d/y", "new", "x"]

    def test_none_takes_it_back(self, session: c2d.Session, as_bob: c2d.Session, done: Any) -> None:
        sharing.share(session, done.dataset, "bob", "read")
        assert len(sharing.readers(session, done.dataset)) == 2
        sharing.share(session, done.dataset, "bob", "none")
        with pytest.raises(NotFound):
            as_bob.catalog.stat(f"{done.collection}/files/d/y")
        with pytest.raises(NotFound):
            datasets.find(as_bob, done.dataset)

    def test_who_can_be_given_what(self, session: c2d.Session, as_bob: c2d.Session, done: Any) -> None:
        with pytest.raises(NotFound, match="nobody#tempZone: is not a user or group"):
            sharing.share(session, done.dataset, "nobody", "read")
        for wrong in ("", "#tempZone", "bob#"):
            with pytest.raises(InvalidRequest, match="NAME#ZONE"):
                sharing.share(session, done.dataset, wrong, "read")
        with pytest.raises(InvalidRequest, match="read or none"):
            sharing.share(session, done.dataset, "bob", "write")
        with pytest.raises(Refused, match="keeps the access"):
            sharing.share(session, done.dataset, "alice", "none")
        sharing.share(session, done.dataset, "bob", "read")
        with pytest.raises(AccessDenied):
            sharing.share(as_bob, done.dataset, "public", "read")
        with pytest.raises(InvalidRequest, match="ichmod"):
            sharing.share(session, HOME, "bob", "read")

    def test_a_dataset_of_the_same_id_elsewhere_is_not_taken_for_it(
        self, session: c2d.Session, as_bob: c2d.Session, done: Any
    ) -> None:
        """Any user can make a collection with the same name, and an AVU with the same id."""
        sharing.share(session, done.dataset, "bob", "read")
        fake = f"{as_bob.home}/fake/datasets/{done.dataset}"
        as_bob.catalog.create_collection(fake, parents=True)
        datasets.make_findable(as_bob, fake)
        with pytest.raises(InvalidRequest, match=r"several datasets match: .*alice.*bob|bob.*alice"):
            datasets.find(as_bob, done.dataset)
        wrong = f"{as_bob.home}/fake/datasets/d-ffffffffffff"
        as_bob.catalog.create_collection(wrong)
        assert datasets.find(session, done.dataset) == done.collection  # the project's own comes first
        as_bob.catalog.remove(fake, recursive=True)
        assert datasets.find(as_bob, done.dataset) == done.collection

    def test_the_command(
        self, session: c2d.Session, done: Any, capsys: pytest.CaptureFixture[str], site: TrialSite
    ) -> None:
        assert main(["share", done.dataset, "bob", "read"]) == 0
        assert "bob#tempZone" in capsys.readouterr().out
        assert site.zone.session(BOB).read(f"{done.collection}/files/x", ENOUGH) == b"content of x"
        with pytest.raises(SystemExit):
            main(["share", done.dataset, "bob"])
        with pytest.raises(SystemExit):
            main(["share", done.dataset, "bob", "write"])
        assert main(["share", done.dataset, "bob", "none"]) == 0
        assert main(["share", done.dataset, "--output", "json"]) == 0
        shown = capsys.readouterr().out
        assert [one["user"] for one in json.loads(shown[shown.index("[") :])] == ["alice#tempZone"]
