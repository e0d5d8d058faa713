"""Checks logical paths before a rule passes them to microservices."""

from __future__ import annotations

from compute_to_data.errors import Code, zone_error
from compute_to_data.irods_names import check_path

_SEPARATOR = "++++"


def checked(logical_path: str) -> str:
    """Return ``logical_path`` if iRODS can store it and a microservice can take it as an argument.

    Errors as for :func:`check_path`. Also -317000 for ``++++``, which separates arguments of
    microservices: iRODS would read the rest of the path as options.
    """
    if _SEPARATOR in logical_path:
        cause = f"it holds {_SEPARATOR}, which a rule cannot pass to iRODS"
        raise zone_error(Code.USER_INPUT_PATH_ERR, ascii(logical_path)[:200], cause, "Rename it")
    return check_path(logical_path)
