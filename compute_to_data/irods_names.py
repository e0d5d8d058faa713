"""Checks that a zone can store a logical path or an AVU, before anything is sent to it.

The limits are those of an iRODS server: a whole path has at most 1,087 bytes
(``MAX_NAME_LEN``, less its final NUL) and a data object's or collection's name at most 1,000
(``R_DATA_MAIN.data_name``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from compute_to_data.errors import Code, shortened_in_the_middle, zone_error
from compute_to_data.model import Avu, Entity, EntityKind, name_of, parent_of

APPLICATION = "compute-to-data"
"""The application name of our connections; ``ips`` shows it on the server."""
MAXIMUM_PATH_BYTES = 1087
MAXIMUM_NAME_BYTES = 1000
LONGEST_AVU = {"attribute": 2700, "value": 2700, "units": 250}
"""The most characters that the columns of R_META_MAIN take."""
_SHORTENED_BYTES = 2000
_REMEDY = "Give an absolute logical path such as '/tempZone/home/alice/data.csv'"


def check_path(logical_path: str) -> str:
    """Return ``logical_path`` if it is well formed.

    Raises ZoneError -31000 for a ``.`` or ``..`` in the path; -317000 for a path that is not
    absolute, has an empty or overlong name, a NUL, or characters that UTF-8 cannot encode.
    """
    if logical_path == "/":
        return logical_path
    if not logical_path.startswith("/"):
        raise zone_error(Code.USER_INPUT_PATH_ERR, repr(logical_path), "not an absolute path", _REMEDY)
    for name in logical_path[1:].split("/"):
        check_name(name, logical_path)
    if _byte_length(logical_path, logical_path) > MAXIMUM_PATH_BYTES:
        cause = f"longer than {MAXIMUM_PATH_BYTES} bytes"
        raise zone_error(Code.USER_INPUT_PATH_ERR, shown(logical_path), cause, "Choose shorter names")
    return logical_path


def check_name(name: str, logical_path: str) -> None:
    """Check ``name``, a part of ``logical_path``. Errors as for :func:`check_path`."""
    if name in (".", ".."):
        cause = f"'{name}' in the path"
        raise zone_error(Code.SYS_INVALID_FILE_PATH, shown(logical_path), cause, _REMEDY)
    if not name:
        cause = "an empty name: two slashes in a row, or one at the end"
        raise zone_error(Code.USER_INPUT_PATH_ERR, shown(logical_path), cause, _REMEDY)
    if "\0" in name:
        raise zone_error(Code.USER_INPUT_PATH_ERR, shown(logical_path), "a NUL character in the name")
    if _byte_length(name, logical_path) > MAXIMUM_NAME_BYTES:
        cause = f"a name longer than {MAXIMUM_NAME_BYTES} bytes"
        raise zone_error(Code.USER_INPUT_PATH_ERR, shown(logical_path), cause, "Choose a shorter name")


def check_in_zone(logical_path: str, zone: str) -> str:
    """Like :func:`check_path`, for a new data object or collection.

    Also raises -317000 for a path that is not below ``/<zone>``, or that iRODS could not find again.
    """
    check_path(logical_path)
    if not logical_path.startswith(f"/{zone}/"):
        cause = f"not below /{zone}, the local zone"
        raise zone_error(Code.USER_INPUT_PATH_ERR, shown(logical_path), cause, _REMEDY)
    if "'" in logical_path and ("||" in logical_path or "&&" in logical_path):
        # iRODS's own queries cannot find such a path again; some of them end the agent.
        cause = "a quote together with || or &&"
        raise zone_error(Code.USER_INPUT_PATH_ERR, shown(logical_path), cause, "Choose another name")
    return logical_path


def check_avus(avus: Iterable[Avu], bearer: str) -> None:
    """ZoneError -130000 for an AVU that iRODS cannot store; ``bearer`` names its entity in the message."""
    for avu in avus:
        for part, longest in LONGEST_AVU.items():
            text: str = getattr(avu, part)
            cause = ""
            if not text and part != "units":
                cause = f"the {part} is empty"
            elif len(text) > longest:
                cause = f"the {part} is longer than {longest} characters"
            elif "\0" in text or not _is_encodable(text):
                cause = f"the {part} holds a character that iRODS cannot store"
            if cause:
                raise zone_error(Code.SYS_INVALID_INPUT_PARAM, f"an AVU for {bearer}", cause)


def shortened(text: str) -> str:
    """``text``, cut to 2,000 bytes: longer text is hard to read in an AVU."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= _SHORTENED_BYTES:
        return text
    return encoded[:_SHORTENED_BYTES].decode("utf-8", "ignore") + "..."


def _is_encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _byte_length(text: str, logical_path: str) -> int:
    if text.isascii():
        return len(text)
    try:
        return len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        cause = "characters that UTF-8 cannot encode (a lone surrogate)"
        raise zone_error(Code.USER_INPUT_PATH_ERR, shown(logical_path), cause) from error


def shown(logical_path: str) -> str:
    """A path in a form that is safe to print. Of a long one, which would hide the rest of a message, only
    the beginning and the end."""
    text = logical_path if logical_path.isprintable() else ascii(logical_path)
    return shortened_in_the_middle(text)


def is_broken_by_43(logical_path: str) -> bool:
    """Whether iRODS 4.3 leaves a stale data object, or a collection that it cannot remove, under this path.

    It looks for what it has just made with a query in text form, as in :func:`is_misread_by_43`. With that query, it
    does not read either what has got such a path because its collection was renamed.
    """
    return any(
        logical_path[: found.start()].count("'") % 2 for found in re.finditer(r"(?= (?:and|AND) )", logical_path)
    )


KEPT_BY_5 = "a name with a quote and, after it, the word and between spaces"
"""What :func:`is_broken_by_43`, in words."""


def is_misread_by_43(entity: Entity) -> bool:
    """Whether the atomic metadata call of iRODS 4.3 does not find an entity that is there (-130000).

    The server looks for it with a query in text form. Its parser takes each `` and `` for a separator before which
    quotes and brackets are in pairs (``getCondFromString`` in ``rcMisc.cpp``), also one inside of a name.
    """
    if "'" not in entity.name or entity.kind not in (EntityKind.DATA_OBJECT, EntityKind.COLLECTION):
        return False
    conditions = [f"COLL_NAME = '{entity.name}'"]
    if entity.kind is EntityKind.DATA_OBJECT:
        conditions = [f"COLL_NAME = '{parent_of(entity.name)}'", f"DATA_NAME = '{name_of(entity.name)}'"]
    return _separated_by_43(" and ".join(conditions)) != conditions


def _separated_by_43(text: str) -> list[str]:
    parts, begin = [], 0
    for found in re.finditer(r"(?= (?:and|AND) )", text):
        if found.start() >= begin and _are_in_pairs(text[begin : found.start()]):
            parts.append(text[begin : found.start()])
            begin = found.start() + len(" and ")
    return [*parts, text[begin:]]


def _are_in_pairs(text: str) -> bool:
    """Whether the quotes and the brackets outside of quotes are in pairs."""
    without = re.sub(r"'[^']*'|\"[^\"]*\"", "", text)
    depth = 0
    for character in without:
        depth = depth + 1 if character == "(" else max(0, depth - 1) if character == ")" else depth
    return depth == 0 and not re.search(r"['\"]", without)
