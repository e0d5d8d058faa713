"""Datasets: upload and download of folders, of changes only, without loss and without other files."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.reading import ENOUGH
from support.site import COMPUTE, HOME, TrialSite

import compute_to_data as c2d
from compute_to_data.cli import datasets as command
from compute_to_data.cli.exits import ExitCode
from compute_to_data.cli.main import main
from compute_to_data.client import datasets
from compute_to_data.client.local_folders import transfers
from compute_to_data.errors import AlreadyExists, Code, InvalidRequest, NotFound, Refused, ZoneError
from compute_to_data.model import ReplicaStatus
from compute_to_data.records import manifest

OLD = 1_600_000_000_123_456_789


@pytest.fixture
def session(site: TrialSite, own_files: Path) -> Iterator[c2d.Session]:
    with c2d.connect() as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files, subfolders and an empty folder, all with old modification times."""
    top = tmp_path / "measurements"
    for name in ("a.txt", "deep/er/b.txt", "deep/größe 1.csv", "empty.dat"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text("" if name.startswith("empty") else name * 1000)
    (top / "nothing" / "here").mkdir(parents=True)
    for path in sorted(top.rglob("*"), reverse=True):
        os.utime(path, ns=(OLD, OLD))
    return top


def tree(top: Path) -> dict[str, Any]:
    """Everything below a folder, with contents and modification times."""
    return {
        str(path.relative_to(top)): (path.read_bytes() if path.is_file() else None, path.stat().st_mtime_ns)
        for path in top.rglob("*")
    }


def sent_names(monkeypatch: pytest.MonkeyPatch, session: c2d.Session) -> list[str]:
    """A list that receives the names of the data objects sent from now on."""
    names: list[str] = []
    put_all = session.catalog.put_all

    def listening(files: Any, **options: Any) -> Any:
        names.extend(data_object.partition("/files/")[2] for _, data_object in files)
        return put_all(files, **options)

    monkeypatch.setattr(session.catalog, "put_all", listening)
    return names


def held(*paths: str) -> bytes:
    """The manifest of a dataset with these files."""
    files = tuple(manifest.HeldFile(path, 1, f"sha2:{'A' * 43}=", OLD) for path in paths)
    return manifest.Manifest("d-0123456789ab", "held", "2026-01-31T12:00:00Z", files, ()).content()


@pytest.mark.parametrize(
    ("paths", "named"),
    [
        (("a/b", "c", "a/b"), "'a/b' twice"),
        (("a/b/c/d", "a/b"), "'a/b' twice, or as a file and as a folder"),
        (tuple(f"many/{number}" for number in (*range(20_000), 19_999)), "'many/19999' twice"),
    ],
    ids=["twice", "a file with something below it", "twice among many"],
)
def test_a_manifest_in_which_names_clash_is_refused(paths: tuple[str, ...], named: str) -> None:
    content = held(*paths)
    began = time.process_time()
    with pytest.raises(InvalidRequest, match=named):
        manifest.parsed(content, "manifest.json")
    assert time.process_time() - began < 3, "each name was compared with all the others"


def test_a_folder_there_and_back(session: c2d.Session, folder: Path, tmp_path: Path) -> None:
    done = datasets.upload(session, folder)
    assert (done.name, done.files, done.sent) == ("measurements", 4, 4)
    assert done.collection == f"{HOME}/datasets/{done.dataset}"
    came = datasets.download(session, done.dataset, tmp_path / "back")
    assert (came.files, came.sent) == (4, 4)
    assert tree(tmp_path / "back") == tree(folder)
    assert datasets.download(session, done.dataset, str(tmp_path / "back")).sent == 0


def test_only_what_changed_is_sent_again(
    session: c2d.Session, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = datasets.upload(session, str(folder), name="one")
    names = sent_names(monkeypatch, session)
    assert datasets.upload(session, str(folder), dataset=first.dataset).sent == 0
    (folder / "a.txt").write_text("A.TXT" * 1000)  # the same size
    (folder / "new.txt").write_text("new")
    os.utime(folder / "empty.dat")  # another time only
    again = datasets.upload(session, str(folder), dataset=first.dataset)
    assert sorted(names) == ["a.txt", "new.txt"]
    assert (again.name, again.files, again.sent) == ("one", 5, 2)
    datasets.download(session, first.dataset, str(tmp_path / "back"))
    assert tree(tmp_path / "back") == tree(folder)


def test_delete_removes_files_that_left_the_folder(session: c2d.Session, folder: Path, tmp_path: Path) -> None:
    first = datasets.upload(session, str(folder))
    before = tree(folder)
    (folder / "deep/er/b.txt").unlink()
    (folder / "deep/er").rmdir()
    os.utime(folder / "deep", ns=(OLD, OLD))
    kept = datasets.upload(session, str(folder), dataset=first.dataset)
    assert (kept.files, kept.removed) == (4, 0)
    datasets.download(session, first.dataset, str(tmp_path / "kept"))
    assert tree(tmp_path / "kept") == before
    assert datasets.upload(session, str(folder), dataset=first.dataset, delete=True).removed == 1
    datasets.download(session, first.dataset, str(tmp_path / "gone"))
    assert tree(tmp_path / "gone") == tree(folder)


def test_files_that_cannot_be_stored_are_named_before_anything_is_sent(
    session: c2d.Session, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "link").symlink_to("a.txt")
    (folder / "deep" / "out").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(folder / "pipe")
    monkeypatch.chdir(folder)  # the path of a socket has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
    with open(os.fsencode(folder) + b"/latin\xe9", "w"):
        pass
    (folder / "it's||one").write_text("")
    with pytest.raises(InvalidRequest) as refused:
        datasets.upload(session, str(folder))
    for name in ("'link'", "'deep/out'", "'pipe'", "'socket'", "latin", "it's||one"):
        assert name in str(refused.value)
    with pytest.raises(NotFound):
        session.catalog.stat(f"{HOME}/datasets")


class Interrupted(Exception):
    pass


@pytest.fixture
def one_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transfer one file at a time."""
    monkeypatch.setattr(transfers, "LANES", 1)
    monkeypatch.setattr(transfers, "_BATCH_FILES", 1)


class AfterTwo:
    """Interrupts a transfer after two files."""

    def __init__(self) -> None:
        self.files = 0

    def begin(self, size: int, files: int) -> None:
        pass

    def moved(self, size: int, files: int) -> None:
        self.files += files
        if self.files >= 2:
            raise Interrupted


def test_an_interrupted_upload_continues(
    session: c2d.Session, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_lane: None
) -> None:
    dataset = datasets.reserve(session)
    with pytest.raises(Interrupted):
        datasets.upload(session, str(folder), dataset=dataset, progress=AfterTwo())
    (listed,) = datasets.listed(session)
    assert (listed.dataset, listed.is_complete) == (dataset, False)
    with pytest.raises(Refused, match="not complete"):
        datasets.download(session, dataset, str(tmp_path / "back"))
    assert not (tmp_path / "back").exists()
    names = sent_names(monkeypatch, session)
    datasets.upload(session, str(folder), dataset=dataset)
    assert len(names) == 2
    datasets.download(session, dataset, str(tmp_path / "back"))
    assert tree(tmp_path / "back") == tree(folder)


def test_an_interrupted_update_leaves_an_incomplete_dataset(
    session: c2d.Session, folder: Path, tmp_path: Path, one_lane: None
) -> None:
    done = datasets.upload(session, str(folder))
    for name in ("a.txt", "deep/er/b.txt", "empty.dat"):
        (folder / name).write_text("changed")
    with pytest.raises(Interrupted):
        datasets.upload(session, str(folder), dataset=done.dataset, progress=AfterTwo())
    with pytest.raises(Refused, match="not complete"):
        datasets.download(session, done.dataset, str(tmp_path / "back"))
    datasets.upload(session, str(folder), dataset=done.dataset)
    datasets.download(session, done.dataset, str(tmp_path / "back"))
    assert tree(tmp_path / "back") == tree(folder)


def test_a_data_object_that_is_not_good_is_sent_again(
    site: TrialSite, session: c2d.Session, folder: Path, tmp_path: Path
) -> None:
    done = datasets.upload(session, str(folder))
    site.zone.set_replica_status(f"{done.collection}/files/a.txt", 0, ReplicaStatus.STALE)
    assert datasets.upload(session, str(folder), dataset=done.dataset).sent == 1
    datasets.download(session, done.dataset, str(tmp_path / "back"))


def test_an_interrupted_download_continues(session: c2d.Session, folder: Path, tmp_path: Path, one_lane: None) -> None:
    done = datasets.upload(session, str(folder))
    with pytest.raises(Interrupted):
        datasets.download(session, done.dataset, str(tmp_path / "back"), progress=AfterTwo())
    assert sum(path.is_file() for path in (tmp_path / "back").rglob("*")) == 2
    assert datasets.download(session, done.dataset, str(tmp_path / "back")).sent == 2
    assert tree(tmp_path / "back") == tree(folder)


def test_a_failure_names_the_file_and_keeps_the_files_that_arrived(
    session: c2d.Session, folder: Path, tmp_path: Path
) -> None:
    done = datasets.upload(session, str(folder))
    session.catalog.remove(f"{done.collection}/files/deep/er/b.txt")
    with pytest.raises(NotFound, match=r"b\.txt"):
        datasets.download(session, done.dataset, str(tmp_path / "back"))
    session.catalog.write(f"{done.collection}/files/deep/er/b.txt", b"forged")
    with pytest.raises(ZoneError, match=r"b\.txt") as refused:
        datasets.download(session, done.dataset, str(tmp_path / "back"))
    assert refused.value.code is Code.USER_CHKSUM_MISMATCH
    assert not (tmp_path / "back/deep/er/b.txt").exists()
    (folder / "deep/er/b.txt").touch()
    datasets.upload(session, str(folder), dataset=done.dataset)
    datasets.download(session, done.dataset, str(tmp_path / "back"))
    assert tree(tmp_path / "back") == tree(folder)


def test_files_in_the_target_are_not_overwritten(session: c2d.Session, folder: Path, tmp_path: Path) -> None:
    done = datasets.upload(session, str(folder))
    target = tmp_path / "back"
    for name, make in {
        "deep/er/b.txt": lambda path: path.write_text("mine"),
        "a.txt": lambda path: path.mkdir(),
        "nothing": lambda path: path.write_text("mine"),
    }.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        make(target / name)
        before = tree(target)
        with pytest.raises(AlreadyExists, match=os.path.basename(name)):
            datasets.download(session, done.dataset, str(target))
        assert tree(target) == before
        os.rename(target, tmp_path / f"done-{name.replace('/', '-')}")


def test_a_link_in_the_target_is_not_followed(session: c2d.Session, folder: Path, tmp_path: Path) -> None:
    done = datasets.upload(session, str(folder))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "theirs").write_text("theirs")
    for number, (name, target) in enumerate(
        {"deep": outside, "deep/er": outside, "nothing": outside, "a.txt": outside / "theirs", "empty.dat": "x"}.items()
    ):
        place = tmp_path / f"target{number}"
        (place / name).parent.mkdir(parents=True)
        (place / name).symlink_to(target)
        with pytest.raises(AlreadyExists):
            datasets.download(session, done.dataset, str(place))
        assert {path.name for path in outside.iterdir()} == {"theirs"}
        assert (outside / "theirs").read_text() == "theirs"


HOSTILE = ["../x", "/tmp/x", "a/../../x", "..", ".", "", "a//b", "a/", "x\0y", 7, None, "a.txt/below", "\ud800"]


@pytest.mark.parametrize("path", HOSTILE, ids=repr)
@pytest.mark.parametrize("kind", ["files", "folders"])
def test_a_forged_manifest_writes_nothing(
    session: c2d.Session, folder: Path, tmp_path: Path, path: Any, kind: str
) -> None:
    done = datasets.upload(session, str(folder))
    manifest = f"{done.collection}/manifest.json"
    document = json.loads(session.catalog.read(manifest, ENOUGH))
    document[kind].append({**document[kind][0], "path": path})
    session.catalog.write(manifest, json.dumps(document).encode(), force=True)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(InvalidRequest):
        datasets.download(session, done.dataset, str(tmp_path / "back"))
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"version": 2}',
        b'{"version": 1, "dataset": "d-0123456789ab", "name": "", "created": "", "files": [], "folders": []}',
        b'{"version": 1, "dataset": "d", "name": "", "created": "", "files": [{"path": "a"}], "folders": []}',
    ],
)
def test_a_manifest_that_is_not_this_datasets_is_refused(
    session: c2d.Session, folder: Path, tmp_path: Path, content: bytes
) -> None:
    done = datasets.upload(session, str(folder))
    session.catalog.write(f"{done.collection}/manifest.json", content, force=True)
    with pytest.raises(InvalidRequest):
        datasets.download(session, done.dataset, str(tmp_path / "back"))
    assert not (tmp_path / "back").exists()
    assert [one.is_complete for one in datasets.listed(session)] == [False]


def test_ids_and_paths_are_distinguished(session: c2d.Session) -> None:
    for wrong in ("", "d-1", "../d-0123456789ab", "/tempZone/home/alice", f"{HOME}/x"):
        with pytest.raises(InvalidRequest):
            datasets.find(session, wrong)
    with pytest.raises(NotFound):
        datasets.find(session, "d-0123456789ab")


def test_describe_lists_the_tasks_that_use_a_dataset(site: TrialSite, session: c2d.Session, folder: Path) -> None:
    done = datasets.upload(session, str(folder))
    other = datasets.upload(session, str(folder))
    request = {
        "resource": COMPUTE,
        "inputs": [{"collection": f"{done.collection}/files"}],
        "output_collection": f"{HOME}/out",
        "process": {"image": "tools", "exec": "/bin/sh", "argv": ["-c", "cat /inputs/*.txt > /outputs/all || true"]},
    }
    task = session.submit(request)
    assert datasets.describe(session, done.dataset).tasks == {task.collection: "QUEUED"}
    with pytest.raises(Refused, match="in use"):
        datasets.remove(session, done.dataset)
    assert datasets.describe(session, other.dataset).tasks == {}
    with site.working():
        task.wait()
    found = datasets.describe(session, done.dataset)
    assert list(found.tasks) == [task.collection]
    assert found.unfinished == ()
    datasets.remove(session, done.dataset)
    assert [one.dataset for one in datasets.listed(session)] == [other.dataset]


def test_one_failing_file_stops_the_rest(session: c2d.Session, tmp_path: Path) -> None:
    """Files under way are finished; the others are not started."""
    files = [tmp_path / f"{number:03}" for number in range(200)]
    for file in files:
        file.write_bytes(b"x")
    files[5].unlink()
    wanted = [transfers.Transfer(str(file), f"{HOME}/{file.name}", 1) for file in files]
    with pytest.raises(NotFound, match="005"):
        transfers.send(session.catalog, wanted)
    stored = [child.logical_path for child in session.catalog.children(HOME)]
    assert f"{HOME}/005" not in stored
    files[5].write_bytes(b"x")
    there = set(stored)
    transfers.send(session.catalog, [one for one in wanted if one.data_object not in there])
    assert len(session.catalog.children(HOME)) == 200 + 1  # and out


def test_progress_adds_up(session: c2d.Session, folder: Path, tmp_path: Path) -> None:
    class Counting:
        def __init__(self) -> None:
            self.lock = threading.Lock()
            self.calls: list[tuple[int, int]] = []
            self.whole = (0, 0)

        def begin(self, size: int, files: int) -> None:
            self.whole = (size, files)

        def moved(self, size: int, files: int) -> None:
            with self.lock:
                self.calls.append((size, files))

    there, back = Counting(), Counting()
    done = datasets.upload(session, str(folder), progress=there)
    datasets.download(session, done.dataset, str(tmp_path / "back"), progress=back)
    for counting in (there, back):
        assert counting.whole == (done.size, 4)
        assert tuple(map(sum, zip(*counting.calls))) == counting.whole


def test_the_command(session: c2d.Session, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", "upload", str(folder), "--name", "spring", "--output", "json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["name"], done["files"], done["sent"]) == ("spring", 4, 4)
    dataset = done["dataset"]
    assert main(["dataset", "upload", str(folder), "--id", dataset, "--output", "raw"]) == 0
    assert capsys.readouterr().out == f"{dataset}\n"
    assert main(["dataset", "download", dataset, str(tmp_path / "back")]) == 0
    assert tree(tmp_path / "back") == tree(folder)
    capsys.readouterr()
    assert main(["dataset", "list", "--output", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["dataset"], row["name"], row["files"], row["is_complete"]) == (dataset, "spring", 4, True)
    assert main(["dataset", "describe", dataset, "--output", "json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["input"] == f"{HOME}/datasets/{dataset}/files"
    assert (described["size"], described["tasks"], described["workloads"]) == (done["size"], [], [])
    assert main(["dataset", "remove", dataset]) == ExitCode.REFUSED  # standard input is not a terminal
    assert main(["dataset", "remove", dataset, "--yes"]) == 0
    assert main(["dataset", "describe", dataset]) == ExitCode.NOT_FOUND
    assert "c2d dataset list" in capsys.readouterr().err


def test_an_interrupted_upload_says_how_to_continue(
    session: c2d.Session, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(transfers, "send", interrupt)
    assert main(["dataset", "upload", str(folder)]) == ExitCode.INTERRUPTED
    (listed,) = datasets.listed(session)
    assert f"c2d dataset upload {folder} --id {listed.dataset}" in capsys.readouterr().err


def test_the_bar() -> None:
    class Quiet:
        out = None

    bar = command.Bar(Quiet())  # type: ignore[arg-type]
    bar.begin(2_000_000, 10)
    bar._moved, bar._done = 500_000, 3
    line = "[======                  ]  25%  500 kB of 2.0 MB  3/10 files  100 kB/s  0:15 left"
    assert bar.line(5.0) == line
    assert [command.amount(size) for size in (0, 999, 1500, 123_456_789, 2e12)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "123 MB",
        "2.0 TB",
    ]
    assert [command.clock(seconds) for seconds in (5, 65, 7200)] == ["0:05", "1:05", "2:00:00"]
