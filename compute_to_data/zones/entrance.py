"""What a gateway needs from a zone: sessions for the users who sign in there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from compute_to_data.model import Avu, Query, Row, User
from compute_to_data.ports.zone import ClientCatalog


@runtime_checkable
class FileOfThisHost(Protocol):
    """An open data object whose bytes are those of a file of this host, in their order."""

    def fileno(self) -> int:
        """The descriptor of the file, valid as long as the data object is open."""


class ArrivingDataObject(Protocol):
    """A new data object whose content arrives in pieces. One thread at a time uses it."""

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Append these bytes. ZoneError when the zone does not take them."""

    def finish(self, sha256: bytes) -> str:
        """All has arrived: make it a data object with a good replica. Returns the checksum, ``sha2:<base64>``.

        Errors as for :meth:`Catalog.write`; -314000 when the bytes that were written, or those that the zone has, do
        not have this SHA-256.
        """


class GatewayCatalog(ClientCatalog, Protocol):
    """A session of a user who signed in at a gateway."""

    def open_to_write(self, data_object: str, *, resource: str = "") -> AbstractContextManager[ArrivingDataObject]:
        """A new data object, by default on the zone's default resource. No user can read it before
        :meth:`ArrivingDataObject.finish`. When the context ends without that, the zone keeps nothing of it.

        Errors as for :meth:`Catalog.write` without ``force``, before anything is written.
        """

    def need_overwritable(self, data_object: str, *, resource: str = "") -> None:
        """Raises what :meth:`Catalog.write` with ``force`` would raise there for any content. Writes nothing."""


class Entrance(Protocol):
    """Opens sessions for many users of one zone. Threads may share it.

    Each session has exactly the rights of its user, and none of them registers files. Closing a session leaves the
    others as they are.
    """

    @property
    def zone(self) -> str:
        """The zone's name."""

    def check(self) -> None:
        """ZoneOutOfReach when the zone cannot be reached."""

    def signed_in(self, user: User, password: str) -> GatewayCatalog:
        """A session of a user who gave their password.

        AccessDenied (-826000) for a wrong password and for an unknown user, without saying which.
        """

    def is_administrator(self, user: User) -> bool:
        """Whether the user is a rodsadmin. NotFound (-827000) for no such user; ConfigurationError as below."""

    def on_behalf_of(self, user: User) -> GatewayCatalog:
        """A session of a user whom somebody else has vouched for. NotFound (-827000) for no such user;
        ConfigurationError when this entrance has no account that may do that."""

    def query(self, query: Query) -> tuple[Row, ...]:
        """Like :meth:`Storage.query`, regardless of access lists: for figures without names, and for somebody who
        :meth:`is_administrator`. ConfigurationError when this entrance has no account that may do that."""

    def avus_of_resources(self, *attributes: str) -> Mapping[str, tuple[Avu, ...]]:
        """As :meth:`Catalog.avus_of_resources`, with the gateway's own account. ConfigurationError as above."""

    def tend(self) -> None:
        """Close what sessions keep open without using it. Call this from time to time."""

    def close(self) -> None:
        """Close everything. Do not use the sessions afterwards."""
