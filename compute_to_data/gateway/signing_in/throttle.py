"""Slows down those who try passwords, by the user whose password they try and by the address they come from.

A number of wrong passwords is free. After them, each wrong one doubles the time until the next is looked at, up to 30
seconds. An attempt counts as wrong from its beginning until its password turns out to be right, so many attempts at the
same time gain nothing. A user at an address where they have signed in before does not wait because of attempts
from elsewhere. All is forgotten after a quarter of an hour without wrong passwords.
"""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from compute_to_data.gateway.problems import HttpError

FREE_FOR_USER = 5
FREE_FOR_ADDRESS = 20
_LONGEST_SECONDS = 30.0
_FORGOTTEN_SECONDS = 900.0
_MOST_KEYS = 20_000
"""How many users and addresses are remembered: the oldest are forgotten first."""


@dataclass
class _Wrong:
    """Attempts that were wrong, or are not decided. ``until``: no attempt is looked at before."""

    count: int = 0
    last: float = 0.0
    until: float = 0.0


class Attempt:
    """One password that is about to be checked. Its owner says how that ended."""

    def __init__(self, throttle: Throttle, keys: tuple[tuple[str, int], ...], pair: str) -> None:
        self._throttle = throttle
        self._keys = keys
        self._pair = pair

    def right(self) -> None:
        """The password was right: the attempt does not count."""
        self._throttle._right(self._keys, self._pair)

    def undecided(self) -> None:
        """The zone could not say."""
        self._throttle._right(self._keys, "")


class Throttle:
    """The counts of one gateway. Threads may share it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._wrong: OrderedDict[str, _Wrong] = OrderedDict()
        self._known: OrderedDict[str, float] = OrderedDict()

    def begin(self, user: str, address: str) -> Attempt:
        """Before a password is checked. HttpError 429 while the user or the address has to wait."""
        place = _place(address)
        pair = f"{user} at {place}"
        with self._lock:
            now = self._clock()
            own = pair if pair in self._known else f"user {user}"
            keys = ((own, FREE_FOR_USER), (f"address {place}", FREE_FOR_ADDRESS))
            wait = max(self._of(key, now).until - now for key, _ in keys)
            if wait > 0:
                seconds = math.ceil(wait)
                cause = f"too many wrong passwords; the next is looked at in {seconds} s"
                raise HttpError(429, "signing in", cause, headers={"Retry-After": str(seconds)})
            for key, free in keys:
                found = self._of(key, now)
                found.count, found.last = found.count + 1, now
                if found.count >= free:
                    found.until = now + min(_LONGEST_SECONDS, 2.0 ** min(found.count - free, 10))
            return Attempt(self, keys, pair)

    def _right(self, keys: tuple[tuple[str, int], ...], pair: str) -> None:
        with self._lock:
            for key, free in keys:
                found = self._wrong.get(key)
                if found is not None:
                    found.count = max(0, found.count - 1)
                    if found.count < free:
                        found.until = 0.0
            if pair:
                self._known[pair] = self._clock()
                self._known.move_to_end(pair)
                while len(self._known) > _MOST_KEYS:
                    self._known.popitem(last=False)

    def _of(self, key: str, now: float) -> _Wrong:
        found = self._wrong.get(key)
        if found is None or now - found.last > _FORGOTTEN_SECONDS:
            found = self._wrong[key] = _Wrong(last=now)
        self._wrong.move_to_end(key)
        while len(self._wrong) > _MOST_KEYS:
            self._wrong.popitem(last=False)
        return found


def _place(address: str) -> str:
    """The address; of IPv6 the network of 64 bits, of which one host may use any address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else str(found)
