"""AVUs for the results, which a program writes as a small JSON file among its outputs.

    {"image::width": {"value": 640, "units": "pixels"}, "exif::make": "Nikon"}

The program is untrusted: the size of the file is limited, its checksum must be the one in the inventory,
and the worker refuses the whole file if any part of it is no valid AVU.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from compute_to_data.disk_usage import DIRECTORY
from compute_to_data.documents import schema_words as words
from compute_to_data.documents.json_text import read_json
from compute_to_data.errors import InvalidRequest, ReasonCode, TaskFailed
from compute_to_data.irods_names import LONGEST_AVU
from compute_to_data.job import OutputFile
from compute_to_data.model import Avu
from compute_to_data.pipeline.execution import Execution
from compute_to_data.pipeline.vault import outputs

MAXIMUM_BYTES = 64 * 1024
MAXIMUM_COUNT = 100
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def read(execution: Execution, name: str) -> tuple[Avu, ...]:
    """The AVUs in the output ``name``; none for ''.

    TaskFailed with OUTPUT_MISSING or OUTPUT_REFUSED, which names the output and what is wrong with it.
    """
    if not name:
        return ()
    file = next((one for one in execution.files if one.relative == name), None)
    if file is None:
        raise TaskFailed(
            ReasonCode.OUTPUT_MISSING, f"output '{name}'", "the task ended successfully but did not write it"
        )
    if file.size > MAXIMUM_BYTES:
        raise _refused(name, f"has {file.size} bytes, expected at most {MAXIMUM_BYTES}")
    content = _content(execution.job.outputs, file)
    if outputs.checksum_of(content) != file.checksum:
        raise _refused(name, "changed while it was read")
    attributes = execution.context.configuration.attributes
    return parse(content, name, (f"{attributes.prefix}::", attributes.claim))


def _content(directory: str, file: OutputFile) -> bytes:
    """The file's content, up to one byte more than the limit. Never follows a link."""
    *folders, last = file.relative.split("/")
    place = os.open(directory, DIRECTORY)
    try:
        for folder in folders:
            above = place
            place = os.open(folder, DIRECTORY, dir_fd=above)
            os.close(above)
        found = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    except OSError as error:
        raise _refused(file.relative, f"changed while it was read ({error.strerror})") from None
    finally:
        os.close(place)
    with open(found, "rb", buffering=0) as stream:
        content: bytes = stream.read(MAXIMUM_BYTES + 1)
    return content


def parse(content: bytes, name: str, kept: tuple[str, ...] = ()) -> tuple[Avu, ...]:
    """The AVUs in ``{attribute: value | {"value": value, "units": text}}``.

    A value is a string, a number, or true or false. ``kept``: prefixes of attributes that a program must
    not set, in addition to ``irods::``. TaskFailed as :func:`read`.
    """
    try:
        document = read_json(content, f"output '{name}'")
    except InvalidRequest as error:
        raise _refused(name, error.cause) from None
    if not isinstance(document, dict):
        raise _refused(name, f"is {words.shown(document)}, expected an object of attributes and values")
    avus = tuple(_avus(document, name, ("irods::", *kept)))
    if len(avus) > MAXIMUM_COUNT:
        raise _refused(name, f"has {len(avus)} AVUs, expected at most {MAXIMUM_COUNT}")
    return avus


def _avus(document: dict[str, Any], name: str, kept: tuple[str, ...]) -> Iterator[Avu]:
    for attribute, said in document.items():
        place = words.quoted(attribute)
        if attribute.startswith(kept):
            raise _refused(name, f"sets the attribute {place}, whose prefix is reserved for the system")
        if isinstance(said, dict) and not {"value"} <= said.keys() <= {"value", "units"}:
            raise _refused(name, f'has at {place} an object, expected one with "value" and perhaps "units"')
        value, units = (said["value"], said.get("units", "")) if isinstance(said, dict) else (said, "")
        if not isinstance(value, (str, int, float)):
            raise _refused(name, f"has at {place} {words.shown(value)}, expected a string, a number, true or false")
        if not isinstance(units, str):
            raise _refused(name, f"has at {place} {words.shown(units)} for units, expected a string")
        avu = Avu(attribute, value if isinstance(value, str) else words.shown(value), units)
        control = (f"a control character in its {part}" for part, found in vars(avu).items() if _CONTROL.search(found))
        wrong = fault(avu) or next(control, "")
        if wrong:
            raise _refused(name, f"has at {place} {wrong}")
        yield avu


def fault(avu: Avu) -> str:
    """What is wrong with an AVU of a program or a role, such as ``an empty value``; '' when it can be stored."""
    for part, found in vars(avu).items():
        if not isinstance(found, str):
            return f"{words.shown(found)} for {part}, expected a string"
        if not found and part != "units":
            return f"an empty {part}"
        try:
            size = len(found.encode())  # in bytes: some databases count characters
        except UnicodeEncodeError:
            return f"characters in its {part} that UTF-8 cannot encode"
        if size > LONGEST_AVU[part]:
            return f"{part} of more than {LONGEST_AVU[part]} bytes"
    return ""


def _refused(name: str, cause: str) -> TaskFailed:
    return TaskFailed(ReasonCode.OUTPUT_REFUSED, f"output '{name}'", cause)
