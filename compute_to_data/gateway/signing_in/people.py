"""The people who have signed in, each with a session of their own in the zone."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from compute_to_data.client.signing_in.identity_provider import denied
from compute_to_data.client.site_access import SiteAccess
from compute_to_data.errors import AccessDenied, NotFound
from compute_to_data.gateway.metrics import Metrics
from compute_to_data.gateway.settings import SignIn
from compute_to_data.gateway.signing_in.openid import OpenId
from compute_to_data.gateway.signing_in.person import Person
from compute_to_data.gateway.signing_in.throttle import Throttle
from compute_to_data.gateway.signing_in.tokens import Tokens
from compute_to_data.gateway.signing_in.turns import Turns
from compute_to_data.model import User
from compute_to_data.zones.entrance import Entrance

_REMEMBERED_SECONDS = 60.0
_MOST_REMEMBERED = 1000


class People:
    """Who may do something here, and as whom. Threads may share it."""

    def __init__(
        self,
        entrance: Entrance,
        site_access: SiteAccess,
        rules: SignIn,
        metrics: Metrics,
        openid: OpenId | None = None,
    ) -> None:
        self.openid = openid
        self._entrance = entrance
        self._site_access = site_access
        self._metrics = metrics
        self._clock = time.monotonic
        self._throttle = Throttle()
        self.turns = Turns()
        self.tokens = Tokens(rules.idle_seconds, rules.absolute_seconds, _close)
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._remembered: OrderedDict[bytes, tuple[float, Person]] = OrderedDict()
        self._one_time: tuple[bytes, User] | None = None

    def named(self, name: str) -> User:
        """The user ``name``, or ``name#zone`` for a user of another zone."""
        return User.parse(name, self._entrance.zone)

    def with_password(self, name: str, password: str, address: str) -> Person:
        """The person, after their password was checked in the zone. HttpError 429 while they have to wait;
        AccessDenied (-826000) for a wrong one; the zone's errors."""
        user = self.named(name)
        attempt = self._throttle.begin(str(user), address)
        try:
            catalog = self._entrance.signed_in(user, password)
        except AccessDenied:
            self._metrics.sign_ins.labels("wrong").inc()
            raise
        except BaseException:
            attempt.undecided()
            raise
        attempt.right()
        self._metrics.sign_ins.labels("right").inc()
        return Person(catalog, self._site_access)

    def with_basic(self, name: str, password: str, address: str) -> Person:
        """As above; a check is remembered for a minute, by a hash with a key of this process."""
        found = self.remembered(name, password)  # by a request that came at the same time
        if found is not None:
            return found
        person = self.with_password(name, password, address)
        with self._lock:
            self._remembered[self._key_of(name, password)] = (self._clock() + _REMEMBERED_SECONDS, person)
        self._forget()
        return person

    def remembered(self, name: str, password: str) -> Person | None:
        """The person whose password was checked in the last minute, or None. Does not ask the zone."""
        with self._lock:
            until, person = self._remembered.get(self._key_of(name, password), (0.0, None))
        return person if self._clock() < until else None

    def _key_of(self, name: str, password: str) -> bytes:
        return hmac.digest(self._key, f"{name}\0{password}".encode("utf-8", "surrogatepass"), hashlib.sha256)

    def with_provider(self, token: str) -> Person:
        """The person whom the identity provider's token names. AccessDenied (-826000) for a token that is not right,
        and for a person without a user in the zone. A check is remembered as above, and not beyond the token's end."""
        if self.openid is None:
            raise denied("this gateway knows no identity provider")
        key = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        with self._lock:
            found = self._remembered.get(key)
            if found is not None and self._clock() < found[0]:
                return found[1]
        claims = self.openid.claims(token)
        person = self.named_by(claims)
        left = min(_REMEMBERED_SECONDS, float(claims["exp"]) - time.time())
        with self._lock:
            self._remembered[key] = (self._clock() + left, person)
        self._forget()
        return person

    def named_by(self, claims: Mapping[str, Any]) -> Person:
        """The person whom a right token's claims name. AccessDenied as above. An administrator of the zone signs in so
        only when the settings name this very person."""
        assert self.openid is not None
        name, is_named = self.openid.name_of(claims)
        user = self.named(name)
        try:
            if not is_named and self._entrance.is_administrator(user):
                raise denied("an administrator of the zone needs a line of their own in the gateway's settings")
            person = self.on_behalf_of(user)
        except NotFound:
            raise denied(f"there is no user {user} in the zone", "Ask an administrator") from None
        self._metrics.sign_ins.labels("provider").inc()
        return person

    def on_behalf_of(self, user: User) -> Person:
        """The person that somebody else has vouched for. NotFound for no such user."""
        return Person(self._entrance.on_behalf_of(user), self._site_access)

    def one_time_token(self, user: User) -> str:
        """A token with which this user can sign in once. It replaces an earlier one."""
        token = secrets.token_urlsafe(32)
        self._one_time = (hashlib.sha256(token.encode()).digest(), user)
        return token

    def with_one_time_token(self, token: str) -> Person | None:
        """The person, when this is the one-time token, which is then used up; else None."""
        given = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        with self._lock:
            if self._one_time is None or not hmac.compare_digest(self._one_time[0], given):
                return None
            user = self._one_time[1]
            self._one_time = None
        self._metrics.sign_ins.labels("one_time_token").inc()
        return self.on_behalf_of(user)

    def tend(self) -> None:
        """End what has expired."""
        self.tokens.tend()
        self._metrics.tokens.set(len(self.tokens))
        self._forget()

    def _forget(self) -> None:
        dropped = []
        with self._lock:
            now = self._clock()
            over = [key for key, (until, _) in self._remembered.items() if until < now]
            over += list(self._remembered)[: max(0, len(self._remembered) - len(over) - _MOST_REMEMBERED)]
            for key in over:
                found = self._remembered.pop(key, None)
                dropped += [found[1]] if found else []
        for person in dropped:
            _close(person)

    def close(self) -> None:
        """End all."""
        self.tokens.tend(everything=True)
        with self._lock:
            kept = [person for _, person in self._remembered.values()]
            self._remembered.clear()
        for person in kept:
            _close(person)


def _close(person: Person) -> None:
    """Connections in use close when their call ends."""
    person.catalog.close()
