"""What ``--input`` names: something in the zone, files of this computer, which are uploaded, or a URL."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from compute_to_data.cli import zone_words
from compute_to_data.cli.zone_words import completes
from compute_to_data.plain_text import CONTROL
from compute_to_data.urls.address import is_url

if TYPE_CHECKING:
    from compute_to_data.cli.command import Call

STDIN_NAME = "stdin"
"""The name below ``/inputs`` of what ``--stdin`` sends."""
_ID = re.compile(r"d-[0-9a-f]{1,12}|[0-9a-f]{4,8}|[0-9a-f]{8}-[0-9a-f-]{0,27}")
"""The id of a dataset or task, or the beginning of one."""


@dataclass(frozen=True)
class Input:
    """One ``--input``: a ``path`` or id in the zone or a URL, or a ``local`` file; its ``name`` below ``/inputs``."""

    path: str = ""
    local: str = ""
    name: str = ""


def input_argument(parser: ArgumentParser) -> None:
    """``--input PATH[:NAME]``, which can be repeated."""
    given = parser.add_argument(
        "--input",
        "-i",
        action="append",
        default=[],
        metavar="PATH[:NAME]",
        help="what the program reads below /inputs: a data object, collection, dataset (d-...) or task of the zone, "
        "a file or folder of this computer, which is uploaded, or a URL that the site allows; NAME: its name there, "
        "except of a URL; repeat for more",
    )
    completes(given, zone_words.datasets)


def read(call: Call, given: Iterable[str]) -> list[Input]:
    """Look up what each ``--input`` names. NotFound, before anything is uploaded."""
    return [_one(call, text) for text in given]


def with_inputs(
    call: Call, document: dict[str, Any], inputs: Sequence[Input], *, stdin: bool = False, **asked: Any
) -> dict[str, Any]:
    """The request with its inputs; ``stdin``: also all of standard input. Uploads what is on this computer, as a
    dataset for each file or folder, once the rest of the request is accepted. ``asked``: as for ``Session.submit``."""
    from compute_to_data.client import acceptance

    if stdin:
        need_redirected()
    planned = [*inputs, Input(local=os.devnull, name=STDIN_NAME)] if stdin else inputs
    places = [one.path or _place(call, one.local, number) for number, one in enumerate(planned)]
    coming = [place for place, one in zip(places, planned) if one.local]
    if coming:
        kinds = ["collection" if os.path.isdir(one.local) else "" for one in planned]
        entries = [_entry(place, one.name, kind) for place, one, kind in zip(places, planned, kinds)]
        acceptance.check(call.session, {**document, "inputs": entries}, coming, **asked)
    entries = [_entry(one.path or _uploaded(call, one.local), one.name) for one in inputs]
    return {**document, "inputs": [*entries, _stdin_entry(call)] if stdin else entries}


def need_redirected() -> None:
    """InvalidRequest when standard input, which is to be sent, is the terminal."""
    from compute_to_data.errors import InvalidRequest

    if sys.stdin.isatty():
        raise InvalidRequest("--stdin", "standard input is the terminal", "Redirect it: < FILE, or PROGRAM |")


def _place(call: Call, local: str, number: int) -> str:
    """Where an input of this computer could be in the zone. It is not there yet."""
    from compute_to_data.client.datasets import DATASETS
    from compute_to_data.records.manifest import FILES

    folder = f"{call.session.project}/{DATASETS}/d-{number:012}/{FILES}"
    return folder if os.path.isdir(local) else f"{folder}/{_name(local)}"


def _name(local: str) -> str:
    return os.path.basename(os.path.abspath(local))


def _stdin_entry(call: Call) -> Any:
    """The request's input with all of standard input, which is uploaded."""
    with tempfile.TemporaryDirectory(prefix="c2d-") as folder:
        file = os.path.join(folder, STDIN_NAME)
        with open(file, "wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        return _entry(_uploaded(call, file, "standard input"), STDIN_NAME)


def stdin_has_data() -> bool:
    """Whether bytes wait on standard input, which the task's program would not get."""
    import select
    import stat

    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
        if stat.S_ISREG(mode):
            return os.fstat(sys.stdin.fileno()).st_size > 0
        if not stat.S_ISFIFO(mode) or not select.select([sys.stdin], [], [], 0)[0]:
            return False
        import fcntl
        import struct
        import termios

        waiting = fcntl.ioctl(sys.stdin, termios.FIONREAD, struct.pack("i", 0))
        return bool(struct.unpack("i", waiting)[0])
    except (ImportError, OSError, ValueError):  # closed, replaced by a test, or on Windows
        return False


def _entry(path: str, name: str, kind: str = "") -> Any:
    return {kind or "path": path, **({"name": name} if name else {})} if name or kind else path


def _one(call: Call, given: str) -> Input:
    """``PATH`` or ``PATH:NAME``. A path can have a colon, so the whole text comes first."""
    from compute_to_data.errors import NotFound

    found = _looked_up(call, given)
    if found is not None:
        return _named_well(found)
    path, _, name = given.rpartition(":")
    found = _looked_up(call, path) if path and name else None
    if found is not None:
        return _named_well(replace(found, name=name))
    shown = given if given.startswith((".", "~")) or path else call.session.absolute(given)
    remedy = "Give a logical path, an id (c2d dataset list, c2d list), or a file of this computer"
    raise NotFound(shown, "neither the zone nor this computer has it, or you may not read it", remedy)


def _named_well(found: Input) -> Input:
    """The input. InvalidRequest when a request cannot hold its name."""
    from compute_to_data.errors import InvalidRequest

    name = found.path if found.path or os.path.isdir(found.local) else _name(found.local)
    if CONTROL.search(name):
        remedy = "Rename it, or give its folder or collection: its own name in there does not matter"
        raise InvalidRequest(found.path or found.local, "has a control character in its name", remedy)
    return found


def _looked_up(call: Call, path: str) -> Input | None:
    """What a path, URL or id names. The zone comes first, then this computer."""
    if is_url(path):
        return Input(path)
    is_local = os.path.exists(_local(path))
    logical_path = _in_zone(call, path)
    if logical_path:
        if is_local and not os.path.isabs(path):
            call.out.note(f"{path} is {logical_path}. For the file of this computer, write --input ./{path}")
        return Input(logical_path)
    if is_local:
        return Input(local=_local(path))
    return Input(path) if _ID.fullmatch(path) else None


def _local(path: str) -> str:
    return os.path.expanduser(path)


def _in_zone(call: Call, path: str) -> str:
    """The logical path of a collection or data object of that name; '' when the zone has none."""
    from compute_to_data.errors import ComputeToDataError, NotFound

    if path.startswith("~") or path in (".", "..") or path.startswith(("./", "../")):
        return ""
    logical_path = call.session.absolute(path)
    try:
        call.session.catalog.stat(logical_path)
    except NotFound:
        return ""
    except ComputeToDataError:
        if os.path.exists(_local(path)):  # a name that iRODS cannot hold
            return ""
        raise
    return logical_path


def dataset(call: Call, given: str, check: Callable[[str], None]) -> str:
    """The dataset or collection that ``given`` names. What is on this computer is uploaded as a dataset, once ``check``
    accepts it."""
    found = _looked_up(call, given)
    if found is None or not found.local:
        return given
    check(found.local)
    return _stored(call, found.local)


def _uploaded(call: Call, local: str, said: str = "") -> str:
    """Upload a file or folder as a dataset; returns the path of the input."""
    from compute_to_data.client import datasets
    from compute_to_data.records.manifest import FILES

    stored = _stored(call, local, said)
    return stored if os.path.isdir(local) else f"{datasets.find(call.session, stored)}/{FILES}/{_name(local)}"


def _stored(call: Call, local: str, said: str = "") -> str:
    """Upload a file or folder as a dataset, and say so; returns its id."""
    from compute_to_data.client import datasets

    name = _name(local)
    datasets.look_over(call.session, local)  # fail before creating anything in the zone
    dataset = datasets.reserve(call.session)
    try:
        datasets.upload(call.session, local, name=said or name, dataset=dataset)
    except BaseException:
        again = shlex.join(["c2d", "dataset", "upload", local, "--id", dataset])
        how = (
            f"remove it: c2d dataset remove {dataset}" if said else f"continue: {again}, and then use --input {dataset}"
        )
        call.out.note(f"{said or local} is not complete in dataset {dataset}. To {how}")
        raise
    call.out.note(f"{said or local} is dataset {dataset} now. To use it again: --input {dataset}")
    return dataset
