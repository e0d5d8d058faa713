"""Changes below a collection that a user may not see.

A zone tells a user which right they lack there, and that a name is taken. From both they could learn what is in
somebody else's collection. So when such a change fails, the gateway answers as if the collection did not exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from compute_to_data.errors import AccessDenied, AlreadyExists, Code, ComputeToDataError, NotFound
from compute_to_data.model import Access, parent_of
from compute_to_data.ports.zone import ClientCatalog
from compute_to_data.records.access import require

_REMEDY = "Make it first, or choose another"


@contextmanager
def below_hidden(catalog: ClientCatalog, logical_path: str) -> Iterator[None]:
    """Make something at ``logical_path``. Errors as below."""
    try:
        yield
    except ComputeToDataError as error:
        raise_as_seen(error, catalog, logical_path)
        raise


def raise_as_seen(error: ComputeToDataError, catalog: ClientCatalog, logical_path: str) -> None:
    """After making something has failed: NotFound when the user may not see the collection above, AccessDenied when
    they may see it, may change nothing there, and do not see what was to be made. Else, and for other errors, it
    returns."""
    if not isinstance(error, (AccessDenied, AlreadyExists, NotFound)):
        return
    if _is_visible(catalog, logical_path):
        return
    parent = parent_of(logical_path)
    if not _is_visible(catalog, parent):
        cause = f"no such collection, or {catalog.user} may not read it"
        raise NotFound(parent, cause, _REMEDY, code=Code.CAT_UNKNOWN_COLLECTION)
    require(catalog, parent, Access.MODIFY_OBJECT, "to make something there")


def _is_visible(catalog: ClientCatalog, logical_path: str) -> bool:
    try:
        catalog.stat(logical_path)
    except NotFound:
        return False
    return True
