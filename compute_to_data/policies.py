"""Policies: a task for each data object that arrives in a tagged collection.

Opt-in: an administrator's ``core.py`` takes these names (``docs/arrivals.md``). Each is a
policy enforcement point (PEP) of the server's API; together they see every way in which a client
brings a data object into a collection, and each asks the catalog one question: does the collection
bear the site's trigger AVU? Everything else is imported and done only where it does.

Every agent of the zone loads this module, so it imports nothing. What a PEP does can never fail
the operation that it follows: it always answers "continue", which also lets the rule engines after
Python's have their say, and what goes wrong goes to the server's log.
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

_attribute: list[str] = []  # the site's, once it was looked up
_being_written: set[str] = set()  # what this agent's client opened for writing, in tagged collections
_registering: dict[str, tuple[str, int]] = {}  # from which directory, and since when (Unix seconds)


def _policy(follow: Callable[[list[Any], Any, Any], None]) -> Callable[[list[Any], Any, Any], int]:
    """A PEP of ``follow(arguments, callback, rei)``, which does something about an operation's
    arguments (as the server's structs) and may fail as it likes."""

    def policy(rule_args: list[Any], callback: Any, rei: Any) -> int:
        try:
            follow(rule_args[2:], callback, rei)
        except BaseException as error:  # noqa: BLE001 - the operation has succeeded, and stays so
            _tell(callback, f"compute_to_data policies: {type(error).__name__}: {error}")
        return _CONTINUE

    policy.__doc__ = follow.__doc__
    return policy


def _tell(callback: Any, text: str) -> None:
    try:  # noqa: SIM105 - contextlib would be an import in every agent
        callback.writeLine("serverLog", text)
    except BaseException:  # noqa: BLE001 - there is nobody left to tell
        pass


def _parent(logical_path: str) -> str:
    return logical_path.rpartition("/")[0] or "/"


def _site_attribute() -> str:
    """The trigger AVU's name. Reading JSON costs more than asking the catalog: so the site's
    configuration is read only where it seems to rename its AVUs."""
    if not _attribute:
        import os

        name = _ATTRIBUTE
        path = os.environ.get(_SITE_FILE_VARIABLE) or _SITE_FILE
        with open(path, "rb") as file:
            content = file.read()
        if b"prefix" in content or b"\\u" in content:
            from compute_to_data import configuration

            name = configuration.load(path).attributes.named("trigger")
        _attribute.append(name)
    return _attribute[0]


def _is_tagged(callback: Any, collection: str, below: bool = False) -> bool:
    """Whether a collection (or, ``below``, one anywhere in it) seems to bear the trigger AVU.

    Names with what a query would misread are asked for with wildcards; who gets a yes looks again.
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
    """Data objects have come: those in tagged collections get their tasks."""
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
    """``iput -b``: a table of small files."""
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
    """``ireg`` begins. Afterwards its arguments name the last file instead of the directory."""
    import time

    directory = _keywords(arguments[0]).get("filePath", "")
    _registering[str(arguments[0].objPath)] = (directory, int(time.time()))


@_policy
def pep_api_phy_path_reg_post(arguments: list[Any], callback: Any, rei: Any) -> None:
    """``ireg`` of a file, of a replica, or of a directory with all that is in it."""
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
    """Closing names a descriptor, no path: so each object being written is looked at."""
    for path in [*_being_written]:
        from compute_to_data.agent import policy

        if policy.arrived(callback, rei, path, written=True):
            _being_written.discard(path)


@_policy
def pep_api_data_obj_open_post(arguments: list[Any], callback: Any, rei: Any) -> None:
    """python-irodsclient opens, for its ``put`` as well."""
    _opened(arguments, callback)


@_policy
def pep_api_data_obj_create_post(arguments: list[Any], callback: Any, rei: Any) -> None:
    """python-irodsclient creates."""
    _opened(arguments, callback)


@_policy
def pep_api_replica_open_post(arguments: list[Any], callback: Any, rei: Any) -> None:
    """``istream`` and other clients in C++ open."""
    _opened(arguments, callback)


@_policy
def pep_api_data_obj_close_post(arguments: list[Any], callback: Any, rei: Any) -> None:
    """The end of writing."""
    _closed(callback, rei)


@_policy
def pep_api_replica_close_post(arguments: list[Any], callback: Any, rei: Any) -> None:
    """The end of writing, for clients in C++; for one stream of several, nothing yet."""
    _closed(callback, rei)
