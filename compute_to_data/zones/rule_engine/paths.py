"""Which logical paths may be handed to microservices."""

from __future__ import annotations

from compute_to_data.errors import Code, zone_error
from compute_to_data.irods_names import check_path

_SEPARATOR = "++++"


def checked(logical_path: str) -> str:
    """The same path, when iRODS can hold it and a key string can carry it.

    Raises as :func:`check_path`; also -317000 for ``++++``, at which microservices cut their
    arguments apart: what follows would be read as options.
    """
    if _SEPARATOR in logical_path:
        cause = f"it holds {_SEPARATOR}, which a rule cannot hand to iRODS"
        raise zone_error(Code.USER_INPUT_PATH_ERR, ascii(logical_path)[:200], cause, "Rename it")
    return check_path(logical_path)
