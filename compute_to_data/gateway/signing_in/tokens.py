"""The opaque tokens of people who have signed in. They live in this process only: a restart ends all."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from compute_to_data.gateway.signing_in.person import Person

_BYTES = 32
MOST_FOR_A_USER = 64
"""A further sign-in ends the token that was used least recently."""


@dataclass
class _Entry:
    person: Person
    made: float
    used: float


class Tokens:
    """Tokens of 256 bits with idle and absolute expiry. The table holds their hashes, never the tokens.

    ``ended``: receives the person whose token has ended.
    """

    def __init__(
        self,
        idle_seconds: float,
        absolute_seconds: float,
        ended: Callable[[Person], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._idle = idle_seconds
        self._absolute = absolute_seconds
        self._ended = ended
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[bytes, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def give(self, person: Person) -> str:
        """A new token for a person."""
        token = secrets.token_urlsafe(_BYTES)
        now = self._clock()
        dropped: list[Person] = []
        with self._lock:
            self._entries[_key(token)] = _Entry(person, now, now)
            own = sorted((one.used, key) for key, one in self._entries.items() if one.person.user == person.user)
            for _, key in own[:-MOST_FOR_A_USER]:
                dropped.append(self._entries.pop(key).person)
        for one in dropped:
            self._ended(one)
        return token

    def person(self, token: str) -> Person | None:
        """Whose token this is; None for one that does not exist or has expired."""
        with self._lock:
            found = self._entries.get(_key(token))
            if found is None or self._is_over(found):
                return None
            found.used = self._clock()
            return found.person

    def seconds_left(self, token: str) -> float:
        """Until the absolute expiry."""
        with self._lock:
            found = self._entries.get(_key(token))
            return 0.0 if found is None else max(0.0, found.made + self._absolute - self._clock())

    def end(self, token: str) -> bool:
        """End a token. Returns whether there was one."""
        with self._lock:
            found = self._entries.pop(_key(token), None)
        if found is not None:
            self._ended(found.person)
        return found is not None

    def tend(self, everything: bool = False) -> None:
        """Forget the tokens that have expired, or all."""
        with self._lock:
            over = [key for key, one in self._entries.items() if everything or self._is_over(one)]
            people = [self._entries.pop(key).person for key in over]
        for person in people:
            self._ended(person)

    def _is_over(self, entry: _Entry) -> bool:
        now = self._clock()
        return now - entry.used > self._idle or now - entry.made > self._absolute


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
