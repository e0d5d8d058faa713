"""Real adapters in which one operation goes wrong, named by what goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from compute_to_data.errors import Code, zone_error
from compute_to_data.model import User


class Troubled:
    """Everything of ``inner``, but ``operation`` calls ``trouble`` with what it was given.

    ``trouble(original, *args, **kwargs)`` may raise, do something first, or call the original.
    """

    def __init__(self, inner: Any, **troubles: Callable[..., Any]) -> None:
        self._inner = inner
        self._troubles = troubles
        for name in troubles:
            getattr(inner, name)  # AttributeError: trouble with what is never called would prove nothing

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        trouble = self._troubles.get(name)
        if trouble is None:
            return value
        return lambda *args, **kwargs: trouble(value, *args, **kwargs)


class StorageWithTroubledSessions(Troubled):
    """A service account whose sessions on behalf of users have the troubles given."""

    def __init__(self, inner: Any, **troubles: Callable[..., Any]) -> None:
        super().__init__(inner)
        self._session_troubles = troubles

    def on_behalf_of(self, user: User) -> Any:
        return Troubled(self._inner.on_behalf_of(user), **self._session_troubles)


def broken(*_: Any, **__: Any) -> Any:
    """The operation always fails, as a zone in trouble does."""
    raise zone_error(Code.SYS_INTERNAL_ERR, "the zone", "broke on purpose")
