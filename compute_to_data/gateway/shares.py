"""How many requests each user has under way, so that nobody takes all connections from the others.

A download or a log that is followed is a request until its end.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from starlette.requests import Request
from starlette.types import Scope

from compute_to_data.gateway.problems import HttpError

_COUNTED = "counted"


class Shares:
    """The requests under way of one gateway. Only for its event loop. ``most``: of each user."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._under_way: Counter[str] = Counter()

    def begin(self, request: Request, user: str) -> None:
        """Count a request as the user's, once. HttpError 503 when that is one too many."""
        state: dict[str, Any] = request.scope["state"]
        if _COUNTED in state:
            return
        if self._under_way[user] >= self.most:
            cause = f"you have {self.most} requests under way, and each user may have as many of the connections"
            raise HttpError(503, "the request", cause, "End some of them", headers={"Retry-After": "5"})
        self._under_way[user] += 1
        state[_COUNTED] = user

    def end(self, scope: Scope) -> None:
        """A request has been answered, or its client has gone."""
        user = scope.get("state", {}).get(_COUNTED, "")
        if user:
            self._under_way[user] -= 1
            if not self._under_way[user]:
                del self._under_way[user]
