"""Passwords of an embedded zone's users, for signing in over HTTP.

They rest as scrypt hashes (RFC 7914) with a salt each, in ``passwords.json`` in the zone's directory, which only
its owner can read. A user without one cannot sign in with a password.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import hmac
import json
import os
import secrets
import tempfile
import threading
from collections.abc import Mapping
from typing import Any

from compute_to_data.errors import Code, ConfigurationError, zone_error
from compute_to_data.model import User

_FILE = "passwords.json"
_COST = {"n": 1 << 15, "r": 8, "p": 1}
"""32 MiB and about 0.1 s for each check."""
_MEMORY = 1 << 26
_AT_ONCE = threading.BoundedSemaphore(max(1, min(4, os.cpu_count() or 1)))
"""More checks at the same time would not be over sooner, and each takes its memory."""
SHORTEST, LONGEST = 8, 1024
"""Characters of a password."""


class Passwords:
    """The passwords of the zone in a directory. Threads and processes may share it."""

    def __init__(self, directory: str) -> None:
        self._file = os.path.join(directory, _FILE)
        self._lock = os.path.join(directory, f"{_FILE}.lock")

    def change(self, user: User, password: str | None) -> bool:
        """Give a user this password, or take it away with None. Returns whether the user had one.

        ZoneError (-816000) for a password that is too short or too long.
        """
        if password is not None:
            need_length(user, password)
        return self._change(str(user), None if password is None else _hashed(password))

    def is_right(self, user: User, password: str) -> bool:
        """Whether this is the user's password. It takes as long for a user who has none."""
        kept = self._kept().get(str(user))
        with _AT_ONCE:
            given = _hashed(password[: LONGEST + 1], kept)
        return kept is not None and hmac.compare_digest(given["hash"], str(kept["hash"]))

    def _kept(self) -> dict[str, Mapping[str, Any]]:
        try:
            with open(self._file, encoding="utf-8") as file:
                return dict(json.load(file)["users"])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            cause = f"cannot be read: {error}"
            raise ConfigurationError(self._file, cause, "Remove it, and set the passwords again") from None

    def _change(self, name: str, entry: Mapping[str, Any] | None) -> bool:
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            kept = self._kept()
            had = kept.pop(name, None) is not None
            self._write({**kept, **({name: entry} if entry else {})})
            return had
        finally:
            os.close(descriptor)

    def _write(self, kept: Mapping[str, Any]) -> None:
        with tempfile.NamedTemporaryFile("w", dir=os.path.dirname(self._file), delete=False) as file:  # 0600
            json.dump({"users": kept}, file, indent=2)
        os.replace(file.name, self._file)


def need_length(user: User, password: str) -> None:
    """ZoneError (-816000) for a user's password that is too short or too long."""
    if not SHORTEST <= len(password) <= LONGEST:
        cause = f"a password has {SHORTEST} to {LONGEST} characters, found {len(password)}"
        raise zone_error(Code.CAT_INVALID_ARGUMENT, str(user), cause, "Choose another")


def _hashed(password: str, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The hash with its salt and cost; with those of another one."""
    salt = base64.b64decode(like["salt"]) if like else secrets.token_bytes(16)
    cost = {name: int(like[name]) for name in _COST} if like else _COST
    key = hashlib.scrypt(password.encode("utf-8", "surrogatepass"), salt=salt, maxmem=_MEMORY, dklen=32, **cost)
    return {**cost, "salt": base64.b64encode(salt).decode(), "hash": base64.b64encode(key).decode()}
