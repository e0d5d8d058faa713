"""Registers files where they are, many in one call, and unregisters them.

The call is ``BULK_DATA_OBJ_REG`` (688). A session that the service account opened on behalf of a
user may use it, and the user owns the data objects. It registers up to 50 files in one transaction.
The server does not check the files, so the caller must have done so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from irods.api_number import api_number
from irods.connection import Connection
from irods.message import DataObjInfo_for_session, GenQueryResponse, GenQueryResponseColumn, Message, StringStringMap
from irods.message.property_types import SubmessageProperty

from compute_to_data.errors import Code, ZoneError, zone_error
from compute_to_data.model import Access, DataObject, Registration, ReplicaStatus, User, parent_of
from compute_to_data.zones.irods import lookup
from compute_to_data.zones.irods.failures import about, shown, translated
from compute_to_data.zones.irods.query import Column
from compute_to_data.zones.irods.wire import ServerError, about_object, ask

BATCH: Final = 50
"""The most files in one call (MAX_NUM_BULK_OPR_FILES)."""
_COLUMNS_SENT: Final = 50
"""The packing instruction of a query's rows needs exactly this many columns (MAX_SQL_ATTR)."""
_DATA_TYPE, _DATA_MODE, _RESC_NAME, _RESC_ID, _OPERATION = 406, 421, 409, 423, 999999
_ALL_REPLICAS: Final = -1
_REFUSALS: Final = (Code.SYS_NO_API_PRIV, -12000, -15000)
"""The codes of a server that refuses the bulk call: no right, unknown API number, another layout."""


def batches(files: Sequence[Registration]) -> Iterator[Sequence[Registration]]:
    """The files in batches that fit into one call."""
    return (files[start : start + BATCH] for start in range(0, len(files), BATCH))


def need_room(connection: Connection, user: User, files: Sequence[Registration]) -> None:
    """Check, before anything is written, for missing collections, missing rights and taken names."""
    names = {file.logical_path for file in files}
    if len(names) < len(files):
        twice = next(file for number, file in enumerate(files) if file in files[:number])
        raise _taken(twice.logical_path)
    for collection in dict.fromkeys(parent_of(file.logical_path) for file in files):
        if lookup.find_collection(connection, collection) is None:
            raise lookup.missing(collection, Code.CAT_UNKNOWN_COLLECTION)
        if lookup.access(connection, collection, user) < Access.MODIFY_OBJECT:
            cause = f"{user} may not write there"
            raise zone_error(Code.CAT_NO_ACCESS_PERMISSION, shown(collection), cause)
        for member in lookup.children(connection, collection):
            if member.logical_path in names:
                raise _taken(member.logical_path)


def _taken(logical_path: str) -> ZoneError:
    cause = "something of that name is there, or in this registration twice"
    return zone_error(Code.CATALOG_ALREADY_HAS_ITEM_BY_THAT_NAME, shown(logical_path), cause)


def register(connection: Connection, resource: str, resource_id: int, files: Sequence[Registration]) -> None:
    """One call for at most :data:`BATCH` files: all of them or none. ServerError."""
    count = len(files)
    columns = [
        _column(Column.DATA_NAME, [file.logical_path for file in files]),
        _column(_DATA_TYPE, ["generic"] * count),
        _column(Column.DATA_SIZE, [str(file.size) for file in files]),
        _column(_RESC_NAME, [resource] * count),
        _column(Column.DATA_PATH, [file.physical_path for file in files]),
        _column(_DATA_MODE, ["33188"] * count),
        _column(_OPERATION, ["register"] * count),
        _column(Column.DATA_REPL_NUM, ["0"] * count),
        _column(Column.DATA_CHECKSUM, [file.checksum for file in files]),
        _column(_RESC_ID, [str(resource_id)] * count),
    ]
    padding = [_column(0, []) for _ in range(_COLUMNS_SENT - len(columns))]
    request = GenQueryResponse(
        rowCnt=count,
        attriCnt=len(columns),
        continueInx=0,
        totalRowCount=count,
        SqlResult_PI=[*columns, *padding],
    )
    ask(connection, api_number["BULK_DATA_OBJ_REG_AN"], request)


def _column(number: int, values: Sequence[str]) -> GenQueryResponseColumn:
    longest = max((len(value.encode("utf-8")) + 1 for value in values), default=0)
    return GenQueryResponseColumn(attriInx=number, reslen=longest, value=values)


def is_refusal(error: ServerError) -> bool:
    """Whether the server does not take the bulk call at all, so that another way is worth trying."""
    return error.code // 1000 * 1000 in _REFUSALS or -16000 < error.code <= -15000


def register_one(connection: Connection, resource: str, file: Registration) -> None:
    """The ordinary call, for one file. iRODS refuses it to ordinary users, in words of its own."""
    options = {
        "filePath": file.physical_path,
        "destRescName": resource,
        "dataType": "generic",
        "dataSize": str(file.size),
        **({"chksum": file.checksum} if file.checksum else {}),
    }
    with about(file.physical_path):
        ask(connection, api_number["PHY_PATH_REG_AN"], about_object(file.logical_path, options, size=file.size))


def present(connection: Connection, files: Sequence[Registration], leaf: str = "") -> list[Registration]:
    """The files that the catalog has with this physical path.

    With a ``leaf``, only those whose resource, size, checksum and status are right, too.
    """
    found: dict[str, DataObject] = {}
    for collection in dict.fromkeys(parent_of(file.logical_path) for file in files):
        found.update({each.logical_path: each for each in lookup.objects_in(connection, collection)})
    return [file for file in files if file.logical_path in found and _is(found[file.logical_path], file, leaf)]


def _is(found: DataObject, file: Registration, leaf: str) -> bool:
    for replica in found.replicas:
        if replica.physical_path == file.physical_path:
            facts = (replica.leaf, replica.size, replica.checksum, replica.status)
            return not leaf or facts == (leaf, file.size, file.checksum, ReplicaStatus.GOOD)
    return False


def unregister(connection: Connection, data_object: str) -> None:
    """Unregister one data object, and keep its file. Does nothing if it is missing or hidden.

    The call is ``UNREG_DATA_OBJ`` (620), which only removes the rows of the catalog. The server
    refuses the usual call (an unlink that only unregisters) for files in a vault (-355000).
    """
    try:
        about_all = description(connection, data_object, _ALL_REPLICAS)
        request = _Unregistration(DataObjInfo_PI=about_all, KeyValPair_PI=StringStringMap({}))
        ask(connection, api_number["UNREG_DATA_OBJ_AN"], request)
    except ServerError as error:
        if lookup.find_object(connection, data_object) is not None:
            raise translated(error, data_object) from error


class _Unregistration(Message):  # type: ignore[misc]  # python-irodsclient has no type hints
    """``UnregDataObj_PI``: a description of the replicas, and options."""

    _name = "UnregDataObj_PI"
    DataObjInfo_PI = SubmessageProperty()
    KeyValPair_PI = SubmessageProperty(StringStringMap)


def description(connection: Connection, data_object: str, number: int) -> Message:
    """iRODS's ``DataObjInfo`` for a replica, empty except for the path and the replica's number."""
    numbers = ("dataSize", "replStatus", "dataId", "collId", "dataMapId", "flags", "dataAccessInx", "writeFlag")
    words = ("rescName", "rescHier", "dataType", "chksum", "version", "filePath", "dataOwnerName", "dataOwnerZone")
    more = ("statusString", "dataComments", "dataMode", "dataExpiry", "dataCreate", "dataModify", "dataAccess")
    last = ("destRescName", "backupRescName", "subPath", "in_pdmo", "dataAccessTime")
    return DataObjInfo_for_session(connection)(
        **dict.fromkeys((*words, *more, *last), ""),
        **dict.fromkeys((*numbers, "specColl", "regUid", "otherFlags", "next", "rescId"), 0),
        objPath=data_object,
        replNum=number,
        KeyValPair_PI=StringStringMap({}),
    )
