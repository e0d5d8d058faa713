"""Outputs that take space which their sizes do not show: nothing of it is left when the task has ended."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.site import COMPUTE, TrialSite

from compute_to_data.model import DataObject
from compute_to_data.pipeline.vault import outputs
from compute_to_data.pipeline.vault.outputs import Inventory

MIB = 1 << 20
JOB = 65534
HIDES = """
import ctypes, os, sys
keep_size, libc = 1, ctypes.CDLL(None)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]

def hides(place):
    with open(place, "w") as file:
        file.write("seen")
    with open(place, "r+") as file:
        assert libc.fallocate(file.fileno(), keep_size, 0, 8 << 20) == 0
    os.setxattr(place, "user.much", b"x" * 3000)
    os.utime(place, ns=(10**18, 10**18))
    os.chmod(place, 0o400)

if __name__ == "__main__":
    os.makedirs("/outputs/sub/empty")
    hides("/outputs/one")
    hides("/outputs/sub/two")
    for place in ("/outputs", "/outputs/sub", "/outputs/sub/empty"):
        os.setxattr(place, "user.much", b"x" * 3000)
        os.chmod(place, 0o500)
    sys.exit(int(sys.argv[1]))
"""


def _taken(place: Path) -> int:
    return place.stat().st_blocks * 512


def _assert_as_shown(place: Path) -> None:
    """Nothing is hidden in a file that HIDES has written, and the rest of it is as the program left it."""
    assert _taken(place) <= place.stat().st_blksize
    assert os.listxattr(place) == []
    assert place.read_text() == "seen"
    assert place.stat().st_mtime_ns == 10**18
    assert place.stat().st_mode & 0o777 == 0o400


@pytest.mark.parametrize(("status", "state", "below"), [(0, "COMPLETED", ""), (1, "FAILED", "failed/")])
def test_no_hidden_space_is_left_in_the_vault(site: TrialSite, status: int, state: str, below: str) -> None:
    facts = site.run(site.request("/usr/bin/python3", "-c", HIDES, str(status)))
    assert facts["state"] == state, facts
    for name in ("one", "sub/two"):
        found = site.alice.stat(f"{facts['collection']}/{below}{name}")
        assert isinstance(found, DataObject)
        _assert_as_shown(Path(found.replicas[0].physical_path))
    vault = site.folder / "zone" / "vaults" / COMPUTE
    for folder, _, _ in os.walk(vault):
        assert os.listxattr(folder) == []
    assert not list(vault.rglob("empty")), "the catalog has a collection instead"


@contextmanager
def _as_service_account() -> Iterator[Path]:
    """A folder of an account without root's rights, with whose rights the test goes on."""
    folder = Path(tempfile.mkdtemp())
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(folder, JOB, JOB)
        os.seteuid(JOB)
    try:
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        shutil.rmtree(folder)


def _inventory(folder: Path, size_limit: int = MIB) -> Inventory:
    return outputs.inventory(str(folder), "/z/c", size_limit=size_limit, file_limit=10, reserved=frozenset())


def test_an_account_without_rights_of_root_releases_it() -> None:
    hiding: dict[str, object] = {"__name__": "hiding"}
    exec(HIDES, hiding)
    with _as_service_account() as folder:
        (folder / "sub" / "empty").mkdir(parents=True)
        hiding["hides"](folder / "sub" / "one")  # type: ignore[operator]
        (folder / "sub").chmod(0o500)
        found = _inventory(folder)
        assert [file.relative for file in found.files] == ["sub/one"]
        _assert_as_shown(folder / "sub" / "one")
        (folder / "sub" / "empty").rmdir()  # the account may remove what is in it


def test_links_lead_nowhere(tmp_path: Path) -> None:
    hiding: dict[str, object] = {"__name__": "hiding"}
    exec(HIDES, hiding)
    elsewhere, top = tmp_path / "elsewhere", tmp_path / "outputs"
    hiding["hides"](elsewhere)  # type: ignore[operator]
    top.mkdir()
    (top / "symbolic").symlink_to(elsewhere)
    os.link(elsewhere, top / "hard")
    with pytest.raises(Exception, match="2 outputs"):
        _inventory(top)
    assert _taken(elsewhere) >= 8 * MIB
    assert os.listxattr(elsewhere) == ["user.much"]
