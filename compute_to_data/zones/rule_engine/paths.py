"""Checks logical paths before a rule passes them to microservices."""

from __future__ import annotations

import json

from compute_to_data.errors import Code, zone_error
from compute_to_data.irods_names import KEPT_BY_5, check_path, is_broken_by_43

_SEPARATOR = "++++"
_VERSION_FILE = "/var/lib/irods/version.json.dist"
"""Where a server says its version, since no microservice does."""


def checked(logical_path: str) -> str:
    """Return ``logical_path`` if iRODS can store it and a microservice can take it as an argument.

    Errors as for :func:`check_path`. Also -317000 for ``++++``, which separates arguments of
    microservices: iRODS would read the rest of the path as options.
    """
    if _SEPARATOR in logical_path:
        cause = f"it holds {_SEPARATOR}, which a rule cannot pass to iRODS"
        raise zone_error(Code.USER_INPUT_PATH_ERR, ascii(logical_path)[:200], cause, "Rename it")
    return check_path(logical_path)


def makeable(logical_path: str) -> str:
    """Return ``logical_path`` if the server can also keep something new there.

    Errors as for :func:`checked`. Also -317000 for what iRODS 4.3 breaks (``irods_names.is_broken_by_43``), unless this
    server is known to be a later one.
    """
    if _breaks(checked(logical_path)):
        cause = f"iRODS before 5.0 cannot keep {KEPT_BY_5}"
        raise zone_error(Code.USER_INPUT_PATH_ERR, ascii(logical_path)[:200], cause, "Choose another name")
    return logical_path


def need_usable(data_object: str) -> None:
    """-317000 for a data object that got such a path when its collection was renamed.

    An agent of iRODS 4.3 that is to open it ends. Removing it fails with a code.
    """
    if _breaks(data_object):
        cause = f"iRODS before 5.0 cannot read or remove {KEPT_BY_5}"
        raise zone_error(Code.USER_INPUT_PATH_ERR, ascii(data_object)[:200], cause, "Rename it, or the collection")


def _breaks(logical_path: str) -> bool:
    return is_broken_by_43(logical_path) and _major_version() < 5


def _major_version() -> int:
    """That of this host's iRODS server; 0 when it is unknown."""
    try:
        with open(_VERSION_FILE, encoding="utf-8") as file:
            return int(json.load(file)["irods_version"].partition(".")[0])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return 0
