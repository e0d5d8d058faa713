"""SIGTERM, and SIGHUP of a terminal that is gone, undo what a command has begun, as Ctrl-C does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.new_interpreter import run_python
from support.site import PATIENCE, TrialSite, wait_until

import compute_to_data as c2d
from compute_to_data import local_files
from compute_to_data.client import datasets
from compute_to_data.client.local_folders import folders
from compute_to_data.pools import pool

ENDING = [signal.SIGTERM, signal.SIGHUP]
ARRIVES = """
import sys, threading
from compute_to_data.cli.interrupts import unwinding
from compute_to_data.local_files import arriving

def fetch():
    with arriving(sys.argv[1]) as file:
        file.write(b"x")
        print("begun", flush=True)
        over.wait(2)

over = threading.Event()
with unwinding():
    if sys.argv[2] == "thread":
        threading.Thread(target=fetch).start()
    else:
        fetch()
    threading.Event().wait()
"""


UPLOADS = """
import sys, threading
from compute_to_data.cli.main import main
from compute_to_data.zones.embedded import disk

def copy(source, target, moved):
    target.write(b"x")
    print("begun", flush=True)
    threading.Event().wait()

disk.copy = copy
sys.exit(main(sys.argv[1:]))
"""


def begun(program: str, *arguments: str) -> subprocess.Popen[str]:
    """The program in a process of its own, when it has begun to write."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heed,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def heed() -> None:
    """Undo what whoever started the tests may have said: ``nohup`` lets processes ignore SIGHUP."""
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("where", ["main", "thread"])
def test_no_partial_file_is_left(tmp_path: Path, where: str, number: signal.Signals) -> None:
    process = begun(ARRIVES, str(tmp_path / "big"), where)
    process.send_signal(number)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == -number, "its parent sees how it ended"
    assert [name for name in os.listdir(tmp_path) if name != "big"] == []


@pytest.mark.parametrize("number", ENDING)
def test_an_upload_says_how_to_continue(
    site: TrialSite, own_files: Path, tmp_path: Path, number: signal.Signals
) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"content")
    process = begun(UPLOADS, "run", site.image, "--input", str(large), "--", "true")
    process.send_signal(number)
    _, said = process.communicate(timeout=PATIENCE)
    with c2d.connect() as session:
        (dataset,) = [one.dataset for one in datasets.listed(session)]
    assert process.returncode == -number
    assert f"c2d dataset upload {large} --id {dataset}" in said


def test_what_is_ignored_stays_ignored() -> None:
    """As under ``nohup``."""
    program = "import os, signal; from compute_to_data.cli.interrupts import unwinding\n"
    program += "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    program += "with unwinding(): os.kill(os.getpid(), signal.SIGHUP)"
    assert run_python(program).returncode == 0


def test_a_signal_while_a_module_is_imported_is_not_lost(tmp_path: Path) -> None:
    """Python ignores an exception there, in a function that it calls when an object is gone."""
    (tmp_path / "slow.py").write_text(
        "import os, signal, weakref\n"
        "class Thing: ...\n"
        "thing = Thing()\n"
        "reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGTERM))\n"
        "del thing\n"
    )
    program = "import sys, threading; sys.path.insert(0, sys.argv[1])\n"
    program += "from compute_to_data.cli.interrupts import unwinding\n"
    program += "with unwinding(): import slow; threading.Event().wait(60)"
    assert run_python(program, str(tmp_path)).returncode == -signal.SIGTERM


def test_what_an_interrupted_copy_has_ahead_is_not_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel copies much faster than a checksum is computed: the rest would take a minute for each 10 GB."""
    strides, interrupted, hashed = 20, threading.Event(), []

    def slow(descriptor: int, digest: local_files.Digest, length: int) -> None:
        hashed.append(length)
        interrupted.wait(PATIENCE)

    def moved(count: int) -> None:
        nonlocal strides
        strides -= 1
        if not strides:
            interrupted.set()
            raise KeyboardInterrupt

    monkeypatch.setattr(local_files, "_hash", slow)
    with open(tmp_path / "large", "w+b") as large, open(tmp_path / "copy", "w+b") as copy:
        large.truncate(1 << 29)
        with pytest.raises(KeyboardInterrupt):
            local_files.copy(large, copy, moved)
    assert 1 <= len(hashed) < 10


def test_checksums_of_an_interrupted_upload_end(
    site: TrialSite, own_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file that the dataset has already is read again, to compare it. It may be large."""
    folder, over = tmp_path / "folder", threading.Event()
    folder.mkdir()
    for name in "abcdefgh":
        (folder / name).write_text(name)

    def endless(path: str, moved: local_files.Moved) -> tuple[str, int]:
        if path.endswith("a"):
            os.kill(os.getpid(), signal.SIGINT)
        while not over.wait(0.01):
            moved(1)
        return "", 0

    with c2d.connect() as session:
        dataset = datasets.upload(session, str(folder)).dataset
        monkeypatch.setattr(folders, "checksum_of", endless)
        last_resort = threading.Timer(PATIENCE, over.set)
        last_resort.start()
        with pytest.raises(KeyboardInterrupt):
            datasets.upload(session, str(folder), dataset=dataset)
    last_resort.cancel()
    assert not over.is_set()


class TestPool:
    def test_what_has_not_begun_is_dropped(self) -> None:
        gone, run = threading.Event(), []

        def one(number: int) -> None:
            run.append(number)
            gone.wait(PATIENCE)

        def interrupted() -> None:
            with pool(1, "test") as threads:
                for number in range(20):
                    threads.submit(one, number)
                wait_until(lambda: run == [0], "the first one")
                threading.Timer(1.0, gone.set).start()
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert run == [0]

    def test_the_block_ends_when_all_is_done(self) -> None:
        run: list[int] = []
        with pool(2, "test") as threads:
            for number in range(20):
                threads.submit(run.append, number)
        assert sorted(run) == list(range(20))
