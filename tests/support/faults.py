"""Real adapters in which chosen operations fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from compute_to_data.errors import Code, zone_error
from compute_to_data.model import User


class Troubled:
    """Passes all calls on to ``inner``, except that each operation in ``troubles`` calls its function instead.

    ``trouble(original, *args, **kwargs)`` may raise, do something first, or call the original.
    """

    def __init__(self, inner: Any, **troubles: Callable[..., Any]) -> None:
        self._inner = inner
        self._troubles = troubles
        for name in troubles:
            getattr(inner, name)  # AttributeError for a misspelt name, which would test nothing

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        trouble = self._troubles.get(name)
        if trouble is None:
            return value
        return lambda *args, **kwargs: trouble(value, *args, **kwargs)


class StorageWithTroubledSessions(Troubled):
    """A service account whose sessions on behalf of users have these troubles."""

    def __init__(self, inner: Any, **troubles: Callable[..., Any]) -> None:
        super().__init__(inner)
        self._session_troubles = troubles

    def on_behalf_of(self, user: User) -> Any:
        return Troubled(self._inner.on_behalf_of(user), **self._session_troubles)


class EngineWithTroubledJobs(Troubled):
    """An engine whose jobs have these troubles, submitted or found.

    A trouble with ``status`` also applies to each job in ``statuses``.
    """

    def __init__(self, inner: Any, **troubles: Callable[..., Any]) -> None:
        many = {"statuses": self._statuses} if "status" in troubles else {}
        super().__init__(inner, **many)
        self._job_troubles = troubles

    def _statuses(self, _: Any, keys: Any) -> Any:
        trouble = self._job_troubles["status"]
        return {key: trouble(lambda key=key: self._inner.statuses([key])[key]) for key in keys}

    def submit(self, job: Any) -> Any:
        return Troubled(self._inner.submit(job), **self._job_troubles)

    def find(self, key: Any) -> Any:
        found = self._inner.find(key)
        return found and Troubled(found, **self._job_troubles)


def broken(*_: Any, **__: Any) -> Any:
    """The operation always fails, as a zone in trouble does."""
    raise zone_error(Code.SYS_INTERNAL_ERR, "the zone", "broke on purpose")
