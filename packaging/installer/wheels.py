"""The folder of wheels that ``packaging/wheels`` makes: everything that root installs into the environment.

pip compares the dependencies with the checksums in ``packaging/locks/worker.txt``. We compare our own wheel with
the checkout, so that a user who can write into the folder cannot add anything to what root installs.
"""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

from installer.layout import InstallError
from installer.payload import Checkout

_REMEDY = "Make the folder as an ordinary user: make wheels, or packaging/wheels DIR and --wheels DIR here"
_ABOUT = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "licenses/LICENSE")


def own(checkout: Checkout, folder: Path) -> tuple[str, bytes]:
    """The name and content of the checkout's wheel. InstallError when it is missing or differs from the checkout."""
    name = f"compute_to_data-{checkout.version}-py3-none-any.whl"
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise InstallError(f"{folder} has no wheel {name} ({error.strerror}). {_REMEDY}") from error
    cause = _difference(content, checkout)
    if cause:
        raise InstallError(f"{folder / name} is not the wheel of this checkout: {cause}. {_REMEDY}")
    return name, content


def _difference(content: bytes, checkout: Checkout) -> str:
    """How a wheel differs from the checkout's; '' when it has exactly these modules, and programs of the same names."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            held = {name: archive.read(name) for name in names}
    except (zipfile.BadZipFile, RuntimeError, OSError, EOFError) as error:
        return f"it cannot be read ({error})"
    if len(held) != len(names):
        return "it holds several files of one name"
    about = f"compute_to_data-{checkout.version}.dist-info"
    wanted = {**checkout.package(), f"{about}/entry_points.txt": _programs(checkout)}
    for name in sorted({*wanted, *held} - {f"{about}/{one}" for one in _ABOUT if one != "entry_points.txt"}):
        if held.get(name) != wanted.get(name):
            return f"{name} differs" if name in held and name in wanted else f"{name} is in only one of the two"
    return ""


def _programs(checkout: Checkout) -> bytes:
    """``entry_points.txt`` as setuptools writes it. Another program could be named python, and replace it."""
    text = (checkout.folder / "pyproject.toml").read_text(encoding="utf-8")
    section = text.partition("[project.scripts]\n")[2].partition("\n[")[0]
    lines = [f"{name} = {where}\n" for name, where in re.findall(r'^([\w-]+) = "([\w.:]+)"$', section, re.MULTILINE)]
    return ("[console_scripts]\n" + "".join(lines)).encode()
