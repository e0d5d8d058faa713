"""What Podman's layers on the disk show, beside what the kernel shows of them when it joins them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.disks import small_disk

from compute_to_data.engines.podman.layers import Layers, Unclear

LINK, DIRECTORY = 1 << 27, 1 << 31


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Where layers can lie: the file system of a test's folder may be joined from layers itself."""
    with small_disk(tmp_path / "disk", 4096) as made:
        yield made.place


@contextmanager
def joined(disk: Path, *layers: Path, changed: Path | None = None) -> Iterator[Path]:
    """The kernel's view of layers, the uppermost first. ``changed``: a new layer for what is changed there."""
    place, work = disk / "joined", disk / "work"
    for one in (place, work, *([changed] if changed else [])):
        one.mkdir(exist_ok=True)
    options = f"lowerdir={':'.join(map(str, layers))}"
    if changed is not None:
        options += f",upperdir={changed},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "c2d-test", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def layers(disk: Path) -> list[Path]:
    """Three layers, the uppermost first: each changes what is below it in all ways."""
    lowest, middle, top = (disk / name for name in ("lowest", "middle", "top"))
    for name in ("a/b", "a/c/d", "gone/x", "again/old", "usr/bin"):
        (lowest / name).mkdir(parents=True)
    for name in ("a/file", "a/b/file", "becomes_directory", "usr/bin/program"):
        (lowest / name).write_text("lowest")
    for name, target in (("bin", "usr/bin"), ("deep", "/a/../a/link/x"), ("round", "about"), ("about", "/round")):
        (lowest / name).symlink_to(target)
    (lowest / "up").symlink_to("../../../a")
    with joined(disk, lowest, changed=middle) as place:
        subprocess.run("rm -r gone again a/b/file becomes_directory && mkdir -p again/new becomes_directory/x",
                       shell=True, check=True, cwd=place)  # fmt: skip
        (place / "a/link").symlink_to("c/d")
        (place / "a/b/new").write_text("middle")
    with joined(disk, middle, lowest, changed=top) as place:
        subprocess.run("rm -r again a/c && mkdir again && ln -s /usr again/link && ln -s ../bin a/c && touch gone",
                       shell=True, check=True, cwd=place)  # fmt: skip
    return [top, middle, lowest]


def kind_by_the_kernel(path: Path) -> int | None:
    """What there is, as Podman names it."""
    if not os.path.lexists(path):
        return None
    return LINK if path.is_symlink() else DIRECTORY if path.is_dir() else 0


def test_each_path_is_as_the_kernel_shows_it(disk: Path, layers: list[Path]) -> None:
    found = Layers([str(one) for one in layers])
    with joined(disk, *layers) as place:
        names = {"/"}
        for layer in layers:  # also those that upper layers hide
            for folder, folders, files in os.walk(layer):
                names |= {f"/{Path(folder, name).relative_to(layer)}" for name in (*folders, *files)}
        paths = {name: place / name.lstrip("/") for name in names - {"/round", "/about"}}
        asked = {name: path for name, path in paths.items() if not any(one.is_symlink() for one in path.parents)}
        assert len(asked) > 15
        seen = {name: found.at(name) for name in asked}
        kinds = {name: one and one["mode"] for name, one in seen.items()}
        assert kinds == {name: kind_by_the_kernel(path) for name, path in asked.items()}


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("/bin", "/usr/bin"),
        ("/up", "/a"),
        ("/a/c", "/usr/bin"),
        ("/again/link", "/usr"),
        ("/deep", "/usr/bin/d/x"),
    ],
)
def test_a_link_leads_to_a_place_in_the_image(layers: list[Path], link: str, target: str) -> None:
    """Never out of it, through all links on the way, and through what does not exist."""
    seen = Layers([str(one) for one in layers]).at(link)
    assert seen == {"mode": LINK, "linkTarget": target}


def test_links_without_an_end_are_an_error(layers: list[Path]) -> None:
    with pytest.raises(OSError, match="Too many levels"):
        Layers([str(one) for one in layers]).at("/round")


def test_what_is_not_understood_is_not_answered(disk: Path, layers: list[Path]) -> None:
    """Then Podman is asked."""
    os.setxattr(layers[0] / "again", "trusted.overlay.redirect", b"/elsewhere")
    with pytest.raises(Unclear, match="was moved"):
        Layers([str(one) for one in layers]).at("/again/link")
    with pytest.raises(Unclear):
        Layers([str(disk / "no such layer")]).at("/etc")
    for driver in ({}, {"Name": "vfs", "Data": None}, {"Name": "overlay", "Data": {}}):
        with pytest.raises(Unclear):
            Layers.of({"GraphDriver": driver})
    assert Layers.of({"GraphDriver": {"Name": "overlay", "Data": {"LowerDir": "/a:/b"}}})
