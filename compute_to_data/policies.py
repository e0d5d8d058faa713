"""Policies: a task for each data object that arrives in a tagged collection.

They are opt-in: an administrator's ``core.py`` imports these names (``docs/arrivals.md``). Each
is a policy enforcement point (PEP) of the server's API. Together they see every way in which a client
can bring a data object into a collection. Each asks the catalog one question: does the collection
have the site's trigger AVU? Only then it imports and does the rest.

Every agent of the zone loads this module, so it imports nothing. A PEP can never make the client's
operation fail: it always returns "continue", so the rule engines after Python's run as well, and its
errors go to the server's log.
"""

from __future__ import annotations

__all__ = [
    "pep_api_bulk_data_obj_put_post",
    "pep_api_data_obj_close_post",
    "pep_api_data_obj_copy_post",
    "pep_api_data_obj_create_post",
    "pep_api_data_obj_open_post",
    "pep_api_data_obj_put_post",
    "pep_api_data_obj_rename_post",
    "pep_api_data_obj_repl_post",
    "pep_api_phy_path_reg_post",
    "pep_api_phy_path_reg_pre",
    "pep_api_replica_close_post",
    "pep_api_replica_open_post",
]

TYPE_CHECKING = False  # the name is enough for a type checker, and costs no import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

_CONTINUE = 5000000  # RULE_ENGINE_CONTINUE
_NO_ROWS = -808000  # CAT_NO_ROWS_FOUND
_LOGICAL_PATH = 403  # the column of a bulk upload's table
_ACCESS_MODE, _CREATES = 0o3, 0o100  # of openFlags: O_ACCMODE, O_CREAT
_ATTRIBUTE = "irods::compute_to_data::trigger"
_SITE_FILE, _SITE_FILE_VARIABLE = "/etc/irods/compute_to_data.json", "COMPUTE_TO_DATA_CONFIGURATION"  # a test compares

_attribute: list[str] = []  # the site's name of the AVU, once it is known
_being_written: set[str] = set()  # data objects in tagged collections that this agent's client has opened for writing
_registering: dict[str, tuple[str, int]] = {}  # logical path -> the registered directory, and the start in Unix seconds


def _policy(follow: Callable[[list[Any], Any, Any], None]) -> Callable[[list[Any], Any, Any], int]:
    """Make a PEP from ``follow(arguments, callback, rei)``. The arguments are those of the operation,
    as the server's structs. ``follow`` may raise any error."""

    def policy(rule_args: list[Any], callback: Any, rei: Any) -> int:
        try:
            follow(rule_args[2:], callback, rei)
        except BaseException as error:  # noqa: BLE001 - the operation has succeeded, and must stay so
            _tell(callback, f"compute_to_data policies: {type(error).__name__}: {error}")
        return _CONTINUE

    policy.__doc__ = follow.__doc__
    return policy


def _tell(callback: Any, text: str) -> None:
    try:  # noqa: SIM105 - contextlib would be an import in every agent
        callback.writeLine("serverLog", text)
    except BaseException:  # noqa: BLE001 - there is no other place to report to
        pass


def _parent(logical_path: str) -> str:
    return logical_path.rpartition("/")[0] or "/"


def _site_attribute() -> str:
    """The trigger AVU's name. Parsing JSON costs more than a query to the catalog, so the site's
    configuration is parsed only when it may rename the AVUs."""
    if not _attribute:
        import os

        name = _ATTRIBUTE
        path = os.environ.get(_SITE_FILE_VARIABLE) or _SITE_FILE
        with open(path, "rb") as file:
            content = file.read()
        if b"prefix" in content or b"\\u" in content:
            from compute_to_data import site_file

            name = site_file.load(path).attributes.named("trigger")
        _attribute.append(name)
    return _attribute[0]


def _is_tagged(callback: Any, collection: str, below: bool = False) -> bool:
    """Whether a collection (with ``below``, also any collection in it) may have the trigger AVU.

    Characters that a query would misread become wildcards, so after a yes the caller checks again.
    """
    import irods_types  # type: ignore[import-not-found]  # only an agent has it

    name = collection.replace("'", "_").replace("\\", "_")
    match = f"COLL_NAME = '{name}'" if name == collection else f"COLL_NAME like '{name}'"
    if below:
        match = f"COLL_NAME like '{name}%'"
    condition = f"META_COLL_ATTR_NAME = '{_site_attribute()}' and {match}"
    query = callback.msiMakeGenQuery("COLL_ID", condition, irods_types.GenQueryInp())["arguments"][2]
    try:
        answer = callback.msiExecGenQuery(query, irods_types.GenQueryOut())
    except RuntimeError as error:
        if f"[iRods__Error__Code:{_NO_ROWS}]" in str(error):
            return False
        raise
    if answer["code"] == _NO_ROWS:
        return False
    rows = answer["arguments"][1]
    found: bool = rows.rowCnt > 0
    if rows.continueInx > 0:
        callback.msiCloseGenQuery(query, rows)
    return found


def _arrived(paths: Iterable[str], callback: Any, rei: Any) -> None:
    """Make the tasks of data objects that have arrived in tagged collections."""
    tagged = {}
    for path in paths:
        collection = _parent(path)
        if collection not in tagged:
            tagged[collection] = _is_tagged(callback, collection)
        if tagged[collection]:
            from compute_to_data.agent import policy

            policy.arrived(callback, rei, path, written=False)


@_policy
def pep_api_data_obj_put_post(arguments: list[Any], callback: Any, rei: Any) -> None:
    """``iput``, also ``-f``, ``-r`` and in parallel, ``irsync``."""
    _arrived([str(arguments[0].objPath)], callback, rei)


@_policy
def pep_api_bulk_data_obj_put_post(arguments: list[Any], callback: Any, rei: Any) -> None:
    """``iput -b``, which sends a table of small files."""
    table = arguments[0].attriArray
    columns = [table.sqlResult[number] for number in range(table.attriCnt)]
    paths = [
        str(column.row(row)) for column in columns if column.attriInx == _LOGICAL_PATH for row in range(table.rowCnt)
    ]
    _arrived(paths, callback, rei)


@_policy
def pep_api_data_obj_repl_post(arguments: list[Any], callback: Any, rei: Any) -> None:
    """``irepl``."""
    _arrived([str(arguments[0].objPath)], callback, rei)


@_policy
def pep_api_data_obj_copy_post(arguments: list[Any], callback: Any, rei: Any) -> None:
    """``icp``."""
    _arrived([str(arguments[0].destDataObjInp.objPath)], callback, rei)


@_policy
def pep_api_data_obj_rename_post(arguments: list[Any], callback: Any, rei: Any) -> None:
    """``imv``, when it moves a data object in from another collection."""
    source, target = str(arguments[0].srcDataObjInp.objPath), str(arguments[0].destDataObjInp.objPath)
    if _parent(source) != _parent(target):
        _arrived([target], callback, rei)


@_policy
def pep_api_phy_path_reg_pre(arguments: list[Any], callback: Any, rei: Any) -> None:
    """``ireg`` begins. We note the directory now, because at the end the arguments name its last file."""
    import time

    directory = _keywords(arguments[0]).get("filePath", "")
    _registering[str(arguments[0].objPath)] = (directory, int(time.time()))


@_policy
def pep_api_phy_path_reg_post(arguments: list[Any], callback: Any, rei: Any) -> None:
    """``ireg`` of a file, of a replica, or of a directory with its content."""
    path = str(arguments[0].objPath)
    began = _registering.pop(path, None)
    if "collection" not in _keywords(arguments[0]):
        _arrived([path], callback, rei)
    elif began is not None and _is_tagged(callback, path, below=True):
        from compute_to_data.agent import policy

        policy.registered(callback, rei, path, *began)


def _keywords(struct: Any) -> dict[str, str]:
    given = struct.condInput
    return {str(given.key[number]): str(given.value[number]) for number in range(given.len)}


def _opened(arguments: list[Any], callback: Any) -> None:
    flags, path = arguments[0].openFlags, str(arguments[0].objPath)
    if (flags & _ACCESS_MODE or flags & _CREATES) and _is_tagged(callback, _parent(path)):
        _being_written.add(path)


def _closed(callback: Any, rei: Any) -> None:
    """Check every data object being written, because closing names a descriptor instead of a path."""
    for path in [*_being_written]:
        from compute_to_data.agent import policy

        if policy.arrived(callback, rei, path, written=True):
            _being_written.discard(path)


@_policy
def pep_api_data_obj_open_post(arguments: list[Any], callback: Any, rei: Any) -> None:
    """python-irodsclient opens a data object, also in its ``put``."""
    _opened(arguments, callback)


@_policy
def pep_api_data_obj_create_post(arguments: list[Any], callback: Any, rei: Any) -> None:
    """python-irodsclient creates a data object."""
    _opened(arguments, callback)


@_policy
def pep_api_replica_open_post(arguments: list[Any], callback: Any, rei: Any) -> None:
    """``istream`` or another C++ client opens a data object."""
    _opened(arguments, callback)


@_policy
def pep_api_data_obj_close_post(arguments: list[Any], callback: Any, rei: Any) -> None:
    """A client has finished writing."""
    _closed(callback, rei)


@_policy
def pep_api_replica_close_post(arguments: list[Any], callback: Any, rei: Any) -> None:
    """A C++ client has finished writing, or has closed one of several streams, which changes nothing yet."""
    _closed(callback, rei)
