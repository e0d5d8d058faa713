"""Translates a server's error codes into the errors of ``errors.py``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from compute_to_data.errors import BETWEEN_SERVERS, TLS_BETWEEN_SERVERS, Code, ZoneError, zone_error
from compute_to_data.zones.irods.wire import ServerError, nominal

_KNOWN = {int(code): code for code in Code}

_CAUSES: dict[Code, str] = {
    Code.CAT_NO_ACCESS_PERMISSION: "the user's access does not suffice",
    Code.SYS_USER_NO_PERMISSION: "the user's access does not suffice",
    Code.CAT_INSUFFICIENT_PRIVILEGE_LEVEL: "only a rodsadmin may do that",
    Code.SYS_NO_API_PRIV: "the user may not call that",
    Code.PATH_REG_NOT_ALLOWED: "the user may not register files",
    Code.CANT_REG_IN_VAULT_FILE: "the user may not register files of a vault",
    Code.CATALOG_ALREADY_HAS_ITEM_BY_THAT_NAME: "something of that name is there",
    Code.CAT_NAME_EXISTS_AS_COLLECTION: "a collection of that name is there",
    Code.CAT_NAME_EXISTS_AS_DATAOBJ: "a data object of that name is there",
    Code.OVERWRITE_WITHOUT_FORCE_FLAG: "a data object of that name is there",
    Code.CAT_UNKNOWN_COLLECTION: "no such collection, or the user may not read it",
    Code.CAT_UNKNOWN_FILE: "no such data object, or the user may not read it",
    Code.OBJ_PATH_DOES_NOT_EXIST: "no such data object, or the user may not read it",
    Code.USER_FILE_DOES_NOT_EXIST: "not there, or the user may not read it",
    Code.CAT_NO_ROWS_FOUND: "not there, or the user may not read it",
    Code.CAT_COLLECTION_NOT_EMPTY: "the collection is not empty",
    Code.CAT_INVALID_AUTHENTICATION: "the password is wrong, or has expired",
    Code.CAT_PASSWORD_EXPIRED: "the password has expired",
    Code.CAT_INVALID_USER: "no such user",
    Code.SYS_RESC_DOES_NOT_EXIST: "no such resource",
    Code.SYS_RESC_IS_DOWN: "the resource is down",
    Code.DIRECT_CHILD_ACCESS: "a resource below another; name the root of its hierarchy",
    Code.HIERARCHY_ERROR: "no resource could serve this (down, or without a good replica)",
    Code.LOCKED_DATA_OBJECT_ACCESS: "a replica is locked: something is at work on it",
    Code.INTERMEDIATE_REPLICA_ACCESS: "a replica is being written",
    Code.SYS_REPLICA_DOES_NOT_EXIST: "there is no such replica",
    Code.SYS_REPLICA_INACCESSIBLE: "the resource has no replica, or none that can be used now (is it down?)",
    Code.USER_CHKSUM_MISMATCH: "the bytes do not match the checksum in the catalog",
    Code.USER_INCOMPATIBLE_PARAMS: "that would remove the last good replica",
    Code.CAT_RECURSIVE_MOVE: "a collection cannot be moved into itself",
    Code.SYS_RESC_QUOTA_EXCEEDED: "the quota is used up",
    **{code: f"another server of the zone does not answer ({code.name})" for code in BETWEEN_SERVERS},
    **{code: f"TLS between two servers of the zone failed ({code.name})" for code in TLS_BETWEEN_SERVERS},
}


def _said_by_storage(code: int) -> str:
    """What the operating system told a storage resource: its errno is in the last digits of such codes."""
    number = -code % 1000 if -531_000 < code < -510_000 else 0
    return f", from the resource's storage: {os.strerror(number)}" if number else ""


def translated(error: ServerError, subject: str, instead: Mapping[Code, Code] | None = None) -> ZoneError:
    """Our error for a server's. ``instead`` replaces codes that mean something else for this operation."""
    code = _KNOWN.get(nominal(error.code))
    if code is None:
        said = _said_by_storage(error.code) + (f": {error.text}" if error.text else "")
        return ZoneError(shown(subject), f"iRODS answered {error.code}{said}", code=Code.SYS_INTERNAL_ERR)
    code = (instead or {}).get(code, code)
    cause = _CAUSES.get(code, f"iRODS answered {error.code} {code.name}" + _said_by_storage(error.code))
    said = f" ({error.text})" if error.text else ""
    return zone_error(code, shown(subject), cause + said)


@contextmanager
def about(subject: str, instead: Mapping[Code, Code] | None = None) -> Iterator[None]:
    """Translate a server's error in the block into our error about ``subject``."""
    try:
        yield
    except ServerError as error:
        raise translated(error, subject, instead) from error


def shown(subject: str) -> str:
    """A name in a form that is safe to print, and not too long for a message."""
    text = subject if subject.isprintable() else ascii(subject)
    return text if len(text) <= 200 else f"{text[:200]}..."
