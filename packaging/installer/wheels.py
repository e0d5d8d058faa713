"""The folder of wheels that ``packaging/wheels`` makes: everything that root installs into the environment.

pip compares the dependencies with the checksums in ``packaging/locks/worker.txt``. We compare our own wheel with
the checkout, so that a user who can write into the folder cannot add anything to what root installs.
"""

from __future__ import annotations

import csv
import io
import os
import re
import stat
import zipfile
import zlib
from pathlib import Path

from installer.layout import InstallError
from installer.payload import Checkout

_REMEDY = "Make the folder as an ordinary user: make wheels, or packaging/wheels DIR and --wheels DIR here"
_LARGEST = 256 << 20
"""Bytes of the largest wheel. All wheels of the folder have at most 16 times as many."""
_LARGEST_ABOUT = 1 << 20
_ABOUT = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "licenses/LICENSE")


def own(checkout: Checkout, folder: Path) -> tuple[str, bytes]:
    """The name and content of the checkout's wheel. InstallError when it is missing or differs from the checkout."""
    name = f"compute_to_data-{checkout.version}-py3-none-any.whl"
    try:
        content = _content(folder / name)
    except OSError as error:
        raise InstallError(f"{folder} has no wheel {name} ({error.strerror}). {_REMEDY}") from error
    cause = _difference(content, checkout)
    if cause:
        raise InstallError(f"{folder / name} is not the wheel of this checkout: {cause}. {_REMEDY}")
    return name, content


def copy(folder: Path, place: Path) -> None:
    """Copy the wheels of a folder to a place that only we can write to. pip compares a wheel with its checksum and then
    opens it once more: whoever can write into the folder could exchange it between the two. InstallError."""
    total = 0
    for path in sorted(folder.glob("*.whl")):
        try:
            content = _content(path)
        except OSError:  # pip says what is missing
            continue
        total += len(content)
        if total > 16 * _LARGEST:
            raise InstallError(f"{folder} holds more than the wheels of a server. {_REMEDY}")
        (place / path.name).write_bytes(content)


def _content(path: Path) -> bytes:
    """The content of a file that may be anything: root must not wait for a pipe, or read without end. OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is no regular file")
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise OSError(0, f"it has more than {_LARGEST} bytes")
    return content


def _difference(content: bytes, checkout: Checkout) -> str:
    """How a wheel differs from the checkout's; '' when it has exactly these modules, and programs of the same names."""
    about = f"compute_to_data-{checkout.version}.dist-info"
    wanted = {**checkout.package(), f"{about}/entry_points.txt": _programs(checkout)}
    free = {f"{about}/{one}" for one in _ABOUT} - {*wanted}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            sizes = {one.filename: one.file_size for one in archive.infolist()}
            if len(sizes) != len(archive.infolist()):
                return "it holds several files of one name"
            for name in sorted({*wanted, *sizes} - free):
                if name not in wanted or name not in sizes:
                    return f"{name} is in only one of the two"
                # The size first: what is compressed could be larger than this host's memory.
                if sizes[name] != len(wanted[name]) or archive.read(name) != wanted[name]:
                    return f"{name} differs"
            if any(sizes.get(name, 0) > _LARGEST_ABOUT for name in free):
                return f"a file of {about} has more than {_LARGEST_ABOUT} bytes"
            record = archive.read(f"{about}/RECORD").decode()
    except (zipfile.BadZipFile, RuntimeError, OSError, EOFError, KeyError, UnicodeDecodeError, zlib.error) as error:
        return f"it cannot be read ({error})"
    # pip removes at the next upgrade what is in this list.
    return "" if {row[0] for row in csv.reader(io.StringIO(record)) if row} == {*sizes} else "RECORD lists other files"


def _programs(checkout: Checkout) -> bytes:
    """``entry_points.txt`` as setuptools writes it. Another program could be named python, and replace it."""
    text = (checkout.folder / "pyproject.toml").read_text(encoding="utf-8")
    section = text.partition("[project.scripts]\n")[2].partition("\n[")[0]
    lines = [f"{name} = {where}\n" for name, where in re.findall(r'^([\w-]+) = "([\w.:]+)"$', section, re.MULTILINE)]
    return ("[console_scripts]\n" + "".join(lines)).encode()
