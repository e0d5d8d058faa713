"""Who may change a task's record and request.

A worker acts with the owner's rights on what ``task.json`` says, so another user who could write to it would gain
those rights.
"""

from __future__ import annotations

from collections.abc import Iterable

from compute_to_data.bounds import MOST_PERMISSIONS
from compute_to_data.errors import AccessDenied, Code, NotFound, Refused
from compute_to_data.model import Access, Collection, DataObject, Permission, User, UserKind, parent_of
from compute_to_data.ports.zone import Catalog


def seal(catalog: Catalog, owner: User, *paths: str) -> None:
    """Remove the access of all users but the owner to change these paths. Users with higher access keep read_object.

    In a collection that inherits a group's access, every member of the group could change them. The owner may have
    had access only as a member of such a group, so the owner gets a row of their own first.
    """
    for logical_path in paths:
        rows = catalog.permissions(logical_path, MOST_PERMISSIONS)
        if not any(row.user == owner and row.access is Access.OWN for row in rows):
            catalog.set_access(logical_path, owner, Access.OWN)
        for row in rows:
            if _could_tamper(row.user, row.kind, row.access, owner):
                catalog.set_access(logical_path, row.user, Access.READ_OBJECT)


def sealed_owner(catalog: Catalog, request: str, collection: str) -> User:
    """The owner of a request, after checking that nobody else could have changed it or its task's collection.

    NotFound when there is no such data object; Refused when another user, administrators aside, could have changed one
    of the two, and as :func:`refuse_displaced`.
    """
    found = catalog.stat(request)
    if not isinstance(found, DataObject):
        raise NotFound(request, "is not a data object", code=Code.OBJ_PATH_DOES_NOT_EXIST)
    refuse_displaced(catalog, found)
    for logical_path in (request, collection):
        refuse_tampering(logical_path, catalog.permissions(logical_path, MOST_PERMISSIONS), found.owner)
    return found.owner


def refuse_tampering(logical_path: str, rows: Iterable[Permission], owner: User) -> None:
    """Refused when the access list lets a user other than the owner and administrators write there."""
    for row in rows:
        if _could_tamper(row.user, row.kind, row.access, owner):
            raise Refused(
                logical_path,
                f"{row.user} has {row.access.name.lower()} on it, so the request may not be what {owner} asked for",
                "Remove that access, and submit the task again",
                code=Code.CAT_NO_ACCESS_PERMISSION,
            )


def refuse_displaced(catalog: Catalog, data_object: DataObject) -> None:
    """Refused when a data object is in another user's collection.

    When a collection passes its access list on, a data object that Alice puts into Bob's collection
    also belongs to Bob. Bob could then change its content, remove his own access and make it look
    like Alice's request. Bob gets no such access to a collection of Alice's own.
    """
    collection = parent_of(data_object.logical_path)
    found = catalog.stat(collection)
    if isinstance(found, Collection) and found.owner != data_object.owner:
        raise Refused(
            data_object.logical_path,
            f"belongs to {data_object.owner}, but its collection belongs to {found.owner}, who may have put it there",
            "Put it into a collection of your own",
            code=Code.CAT_NO_ACCESS_PERMISSION,
        )


def _could_tamper(user: User, kind: UserKind, access: Access, owner: User) -> bool:
    """Whether a row gives a user other than the owner and administrators the right to change things.

    Any group counts, whoever its members are today, except the group of the owner's own name.
    """
    if user == owner or kind is UserKind.RODSADMIN:
        return False
    return access > Access.READ_OBJECT


FIND_IT = "Check the path with ils, or ask its owner for access"
MAKE_IT = "Make it with imkdir -p, or name another one"


def seen(catalog: Catalog, logical_path: str, missing: str = FIND_IT) -> DataObject | Collection:
    """What is at a logical path. NotFound, with the remedy ``missing``, when the session's user sees nothing there."""
    try:
        return catalog.stat(logical_path)
    except NotFound as error:
        raise NotFound(logical_path, error.cause, missing, code=error.code) from error


def require(catalog: Catalog, logical_path: str, needed: Access, purpose: str, missing: str = FIND_IT) -> None:
    """NotFound or AccessDenied unless the session's user has at least ``needed`` access to a path.

    ``purpose`` completes the error's sentence: "to claim inputs there". ``missing``: the remedy when it is not there.
    """
    actual = catalog.access(logical_path)
    if actual >= needed:
        return
    seen(catalog, logical_path, missing)
    raise AccessDenied(
        logical_path,
        f"{catalog.user} has {actual.name.lower()} and needs {needed.name.lower()} {purpose}",
        f"Ask its owner to run: ichmod {needed.name.lower()} {catalog.user.name} {logical_path}",
    )
