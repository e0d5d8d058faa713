"""New data objects whose content arrives in pieces: drafts in the vault, which the catalog knows at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

from compute_to_data.errors import Code, zone_error
from compute_to_data.irods_names import check_in_zone
from compute_to_data.local_files import Digest
from compute_to_data.zones.embedded import disk
from compute_to_data.zones.embedded.files import Draft, Stage
from compute_to_data.zones.embedded.store import Store, Who
from compute_to_data.zones.embedded.writing import Plan, Planner, record


class Arriving:
    """An :class:`~compute_to_data.zones.entrance.ArrivingDataObject`: a draft on each leaf."""

    def __init__(
        self, store: Store, who: Who, data_object: str, resource: str, plan: Plan, stage: Stage, opened: ExitStack
    ) -> None:
        self._store = store
        self._who = who
        self._data_object = data_object
        self._resource = resource
        self._plan = plan
        self._stage = stage
        self._opened = opened
        self._digest = Digest()
        self._drafts = stage.drafts([leaf.proper_path(data_object) for leaf in plan.leaves])
        self._files: list[tuple[Draft, BinaryIO]] = [
            (draft, opened.enter_context(disk.new_file(draft.physical_path))) for draft in self._drafts
        ]

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        for piece in pieces:
            self._digest.update(piece)  # each piece at a time, while it is in the processor's cache
            for draft, file in self._files:
                try:
                    file.write(piece)
                except OSError as error:
                    raise disk.failure(Code.UNIX_FILE_OPEN_ERR, error, draft.physical_path) from error

    def finish(self, sha256: bytes) -> str:
        self._digest.need(sha256)
        try:
            self._opened.close()
        except OSError as error:
            raise disk.failure(Code.UNIX_FILE_OPEN_ERR, error, self._drafts[0].physical_path) from error
        with self._store.database.writing() as connection:
            now = Planner(connection, self._who(connection), self._resource, force=False).plan(self._data_object)
            if now.leaves != self._plan.leaves:
                cause = "the resource has changed while the content arrived"
                raise zone_error(Code.HIERARCHY_ERROR, self._data_object, cause, "Send it again")
            files = [(draft, self._digest) for draft in self._drafts]
            record(connection, self._stage, now, files, self._data_object)
        return self._digest.text


def plan(store: Store, who: Who, data_object: str, resource: str, *, force: bool) -> Plan:
    """What writing the data object would do. Errors as for ``Catalog.write``."""
    check_in_zone(data_object, store.zone)
    with store.database.reading() as connection:
        return Planner(connection, who(connection), resource, force).plan(data_object)


@contextmanager
def arriving(store: Store, who: Who, data_object: str, resource: str) -> Iterator[Arriving]:
    """As ``GatewayCatalog.open_to_write``."""
    planned = plan(store, who, data_object, resource, force=False)
    # The stage removes the drafts that the catalog does not know when the context ends.
    with store.files.stage() as stage, ExitStack() as opened:
        yield Arriving(store, who, data_object, resource, planned, stage, opened)
