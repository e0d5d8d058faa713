"""What can go wrong, and the iRODS code each failure carries.

::

    ComputeToDataError          every error that this package raises on purpose
    ├── Incomplete              of several operations, some failed; the others were done
    ├── ZoneError               the zone refused an operation, or failed at it
    │   ├── NotFound            missing, or hidden from this user (iRODS does not say which)
    │   ├── AccessDenied        the client user lacks the access the operation needs
    │   ├── AlreadyExists       the name is taken
    │   └── ZoneOutOfReach      the zone does not answer at the moment (also an OutOfReach)
    │       └── ZoneDistrusted  its certificate is not trusted, or we disagree about TLS
    ├── Refused                 this product or the site does not run such a request
    │   ├── InvalidRequest      the request is malformed (names the JSON pointer)
    │   └── TooLarge            content, or a list of AVUs, beyond the bound of what reads it
    ├── ConfigurationError      the site's configuration is wrong
    ├── EngineError             the engine failed at an operation
    │   ├── ImageMissing        the engine does not hold the image
    │   └── EngineOutOfReach    the engine does not answer, or lost the job (also an OutOfReach)
    │       └── EngineNotReady  something that each job needs does not answer, before the job begins
    ├── OutOfReach              what does not answer may do so later
    │   └── ServedElsewhere     another worker has taken over this worker's resource
    └── TaskFailed              the task ran and did not succeed
        └── Cancelled           the owner or an administrator cancelled the task

An ``OutOfReach`` error does not decide a task's outcome: the worker leaves the task as it is and
continues it later. Every message names the object, the cause and, where there is one, the remedy.
Only the rule boundary (``rule.py``) turns an error into a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum
from typing import Any


class Code(IntEnum):
    """iRODS error codes, under the names of ``rodsErrorTable.h``."""

    SYS_HEADER_READ_LEN_ERR = -4000
    SYS_HEADER_WRITE_LEN_ERR = -5000
    SYS_NO_API_PRIV = -13000
    SYS_SVR_TO_SVR_CONNECT_FAILED = -22000
    SYS_COPY_LEN_ERR = -27000
    SYS_INVALID_FILE_PATH = -31000
    SYS_NOT_SUPPORTED = -66000
    SYS_RESC_DOES_NOT_EXIST = -78000
    SYS_RESC_IS_DOWN = -105000
    SYS_RESC_QUOTA_EXCEEDED = -110000
    SYS_SOCK_READ_TIMEDOUT = -115000
    SYS_SOCK_READ_ERR = -116000
    SYS_USER_NO_PERMISSION = -121000
    CANT_REG_IN_VAULT_FILE = -128000
    PATH_REG_NOT_ALLOWED = -129000
    SYS_INVALID_INPUT_PARAM = -130000
    SYS_INTERNAL_ERR = -154000
    SYS_SOCK_WRITE_ERR = -161000
    SYS_SOCK_CONNECT_ERR = -162000
    SYS_REPLICA_DOES_NOT_EXIST = -164000
    SYS_REPLICA_INACCESSIBLE = -168000
    USER_SOCK_CONNECT_ERR = -305000
    USER_FILE_DOES_NOT_EXIST = -310000
    OVERWRITE_WITHOUT_FORCE_FLAG = -312000
    USER_CHKSUM_MISMATCH = -314000
    USER_INPUT_PATH_ERR = -317000
    EXEC_CMD_OUTPUT_TOO_LARGE = -343000
    EXEC_CMD_ERROR = -344000
    OBJ_PATH_DOES_NOT_EXIST = -358000
    USER_INCOMPATIBLE_PARAMS = -402000
    INTERMEDIATE_REPLICA_ACCESS = -405000
    LOCKED_DATA_OBJECT_ACCESS = -406000
    CHECK_VERIFICATION_RESULTS = -407000
    UNIX_FILE_OPEN_ERR = -510000
    UNIX_FILE_STAT_ERR = -516000
    UNIX_FILE_MKDIR_ERR = -520000
    CATALOG_NOT_CONNECTED = -801000
    CAT_CONNECT_ERR = -803000
    CAT_NO_ROWS_FOUND = -808000
    CATALOG_ALREADY_HAS_ITEM_BY_THAT_NAME = -809000
    CAT_UNKNOWN_COLLECTION = -814000
    CAT_INVALID_ARGUMENT = -816000
    CAT_UNKNOWN_FILE = -817000
    CAT_NO_ACCESS_PERMISSION = -818000
    CAT_COLLECTION_NOT_EMPTY = -821000
    CAT_INVALID_AUTHENTICATION = -826000
    CAT_INVALID_USER = -827000
    CAT_INSUFFICIENT_PRIVILEGE_LEVEL = -830000
    CAT_NAME_EXISTS_AS_COLLECTION = -833000
    CAT_NAME_EXISTS_AS_DATAOBJ = -834000
    CAT_RECURSIVE_MOVE = -837000
    CAT_PASSWORD_EXPIRED = -840000
    HIERARCHY_ERROR = -1803000
    DIRECT_CHILD_ACCESS = -1816000
    RULE_ENGINE_ERROR = -1828000
    SSL_HANDSHAKE_ERROR = -2103000
    SSL_SHUTDOWN_ERROR = -2104000
    SSL_CERT_ERROR = -2105000


class ReasonCode(str, Enum):
    """Why a task ended as it did; the value is what the catalog records."""

    COMPLETED = "completed"
    NONZERO_EXIT = "nonzero_exit"
    WALLTIME_EXCEEDED = "walltime_exceeded"
    OUT_OF_MEMORY = "out_of_memory"
    OUTPUT_LIMIT = "output_limit"
    OUTPUT_REFUSED = "output_refused"
    OUTPUT_MISSING = "output_missing"
    VAULT_FULL = "vault_full"
    TRANSFER_FAILED = "transfer_failed"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    SYSTEM_ERROR = "system_error"


_LONGEST_SUBJECT = 240


def shortened_in_the_middle(text: str) -> str:
    """The beginning and the end of a text of more than 240 characters, such as a long path: the rest of a
    message must remain readable."""
    half = (_LONGEST_SUBJECT - 3) // 2
    return text if len(text) <= _LONGEST_SUBJECT else f"{text[:half]}...{text[-half:]}"


def sentence(subject: str, cause: str, remedy: str = "") -> str:
    """A message made of its three parts: what it is about, what is wrong, what to do."""
    shown = shortened_in_the_middle(subject)
    text = f"{shown}: {cause.rstrip('.')}" if subject else cause.rstrip(".")
    if not remedy:
        return f"{text}."
    return f"{text}. {remedy}" if remedy.endswith("?") else f"{text}. {remedy.rstrip('.')}."


class ComputeToDataError(Exception):
    """The base of all errors. ``code`` is the iRODS error code that a rule returns for it.

    >>> try:
    ...     raise NotFound("task 3f2a", "there is no such task", "List yours with: c2d list")
    ... except ComputeToDataError as error:
    ...     print(error, int(error.code), error.subject, sep="\\n")
    task 3f2a: there is no such task. List yours with: c2d list.
    -310000
    task 3f2a
    """

    code: Code = Code.SYS_INTERNAL_ERR

    def __init__(self, subject: str, cause: str, remedy: str = "", *, code: Code | None = None) -> None:
        super().__init__(sentence(subject, cause, remedy))
        self.subject = subject
        self.cause = cause
        self.remedy = remedy
        if code is not None:
            self.code = code


class ZoneError(ComputeToDataError):
    """The zone refused an operation, or failed at it; ``code`` is the one iRODS returned."""


class NotFound(ZoneError):
    """The named entity is missing, or the user's access to it is below read_object."""

    code = Code.USER_FILE_DOES_NOT_EXIST


class AccessDenied(ZoneError):
    """The client user lacks the access that the operation needs."""

    code = Code.CAT_NO_ACCESS_PERMISSION


class AlreadyExists(ZoneError):
    """There is already a data object, collection or file of that name."""

    code = Code.CATALOG_ALREADY_HAS_ITEM_BY_THAT_NAME


class Incomplete(ComputeToDataError):
    """Of several operations, some failed, and the others were done. ``failures``: the error of each, by
    what it is about."""

    _NAMED = 10

    def __init__(self, subject: str, cause: str, failures: Mapping[str, ComputeToDataError], remedy: str = "") -> None:
        self.failures = dict(failures)
        named = "; ".join(f"{shortened_in_the_middle(name)} ({self.failures[name].cause})" for name in self._shown)
        more = f"; and {len(self.failures) - self._NAMED} more" if len(self.failures) > self._NAMED else ""
        super().__init__(subject, f"{cause}: {named}{more}", remedy)

    @property
    def _shown(self) -> list[str]:
        return list(self.failures)[: self._NAMED]


class OutOfReach(ComputeToDataError):
    """The zone or the engine does not answer at the moment. The request may or may not have taken effect."""


class ServedElsewhere(OutOfReach):
    """Another worker has taken the resource over while this one did nothing for a minute, as on a host that hung. What
    this worker believes of its tasks may be outdated."""


class ZoneOutOfReach(ZoneError, OutOfReach):
    """The zone cannot be reached, or its server cannot reach the catalog's database or another server."""

    code = Code.USER_SOCK_CONNECT_ERR


class ZoneDistrusted(ZoneOutOfReach):
    """The zone's server answers, and its encryption is not what the environment requires: its certificate is not
    trusted, or the two disagree about TLS. That stays so until an administrator changes it."""


TLS_BETWEEN_SERVERS = frozenset({Code.SSL_HANDSHAKE_ERROR, Code.SSL_SHUTDOWN_ERROR, Code.SSL_CERT_ERROR})
BETWEEN_SERVERS = TLS_BETWEEN_SERVERS | frozenset(
    {
        Code.SYS_HEADER_READ_LEN_ERR,
        Code.SYS_HEADER_WRITE_LEN_ERR,
        Code.SYS_SVR_TO_SVR_CONNECT_FAILED,
        Code.SYS_SOCK_READ_TIMEDOUT,
        Code.SYS_SOCK_READ_ERR,
        Code.SYS_SOCK_WRITE_ERR,
        Code.SYS_SOCK_CONNECT_ERR,
    }
)
"""What a server answers when it cannot reach, or has lost, another server of the zone."""

_FAMILIES: dict[type[ZoneError], frozenset[Code]] = {
    ZoneOutOfReach: BETWEEN_SERVERS | {Code.USER_SOCK_CONNECT_ERR, Code.CATALOG_NOT_CONNECTED, Code.CAT_CONNECT_ERR},
    NotFound: frozenset(
        {
            Code.USER_FILE_DOES_NOT_EXIST,
            Code.OBJ_PATH_DOES_NOT_EXIST,
            Code.CAT_NO_ROWS_FOUND,
            Code.CAT_UNKNOWN_COLLECTION,
            Code.CAT_UNKNOWN_FILE,
            Code.SYS_RESC_DOES_NOT_EXIST,
            Code.CAT_INVALID_USER,
        }
    ),
    AccessDenied: frozenset(
        {
            Code.CAT_NO_ACCESS_PERMISSION,
            Code.SYS_USER_NO_PERMISSION,
            Code.CAT_INVALID_AUTHENTICATION,
            Code.CAT_PASSWORD_EXPIRED,
            Code.CAT_INSUFFICIENT_PRIVILEGE_LEVEL,
            Code.SYS_NO_API_PRIV,
            Code.PATH_REG_NOT_ALLOWED,
            Code.CANT_REG_IN_VAULT_FILE,
        }
    ),
    AlreadyExists: frozenset(
        {
            Code.CATALOG_ALREADY_HAS_ITEM_BY_THAT_NAME,
            Code.OVERWRITE_WITHOUT_FORCE_FLAG,
            Code.CAT_NAME_EXISTS_AS_COLLECTION,
            Code.CAT_NAME_EXISTS_AS_DATAOBJ,
        }
    ),
}


def zone_error(code: Code, subject: str, cause: str, remedy: str = "") -> ZoneError:
    """The :class:`ZoneError` subclass that ``code`` belongs to, as an instance ready to raise."""
    for family, codes in _FAMILIES.items():
        if code in codes:
            return family(subject, cause, remedy, code=code)
    return ZoneError(subject, cause, remedy, code=code)


class Refused(ComputeToDataError):
    """The request is well formed, but the site's rules or the user's access forbid it."""

    code = Code.SYS_INVALID_INPUT_PARAM
    reason = ReasonCode.REFUSED


class InvalidRequest(Refused):
    """The request is malformed; the subject holds the JSON pointer of the wrong value."""


class TooLarge(Refused):
    """A data object has more bytes, or an entity more AVUs, than its reader takes. The reader has read no more.

    ``first``: of too many AVUs, as many as are read.
    """

    def __init__(self, subject: str, cause: str, remedy: str = "", *, first: tuple[Any, ...] = ()) -> None:
        super().__init__(subject, cause, remedy)
        self.first = first


class ConfigurationError(ComputeToDataError):
    """The site's configuration is wrong; the subject holds the file and the JSON pointer."""

    code = Code.SYS_INVALID_INPUT_PARAM


class EngineError(ComputeToDataError):
    """The engine (Docker, ...) failed at an operation."""

    reason = ReasonCode.SYSTEM_ERROR


class EngineOutOfReach(EngineError, OutOfReach):
    """The engine does not answer, gives an answer that makes no sense, or does not hold the job (any more)."""


class EngineNotReady(EngineOutOfReach):
    """Something that each job needs does not answer: the engine itself, or a helper of ours. The job has not begun."""


class ImageMissing(EngineError):
    """The engine does not hold the image. Tasks never pull images."""

    reason = ReasonCode.REFUSED


class TaskFailed(ComputeToDataError):
    """The task ran and did not succeed; ``reason`` says why.

    >>> process = {"image": image, "exec": "sh", "argv": ["-c", "exit 3"]}
    >>> with c2d.connect() as session:
    ...     task = session.submit({"role": "CONTAINER", "inputs": [], "process": process})
    ...     _ = task.wait()
    ...     try:
    ...         task.results()
    ...     except c2d.TaskFailed as error:
    ...         print(error.reason.value)
    nonzero_exit
    """

    _CODES = {
        ReasonCode.OUTPUT_LIMIT: Code.EXEC_CMD_OUTPUT_TOO_LARGE,
        ReasonCode.CANCELLED: Code.EXEC_CMD_ERROR,
        ReasonCode.NONZERO_EXIT: Code.EXEC_CMD_ERROR,
        ReasonCode.WALLTIME_EXCEEDED: Code.EXEC_CMD_ERROR,
        ReasonCode.OUT_OF_MEMORY: Code.EXEC_CMD_ERROR,
        ReasonCode.OUTPUT_REFUSED: Code.SYS_INVALID_FILE_PATH,
        ReasonCode.OUTPUT_MISSING: Code.EXEC_CMD_ERROR,
        ReasonCode.VAULT_FULL: Code.SYS_RESC_QUOTA_EXCEEDED,
        ReasonCode.TRANSFER_FAILED: Code.SYS_COPY_LEN_ERR,
    }

    def __init__(self, reason: ReasonCode, subject: str, cause: str, remedy: str = "") -> None:
        super().__init__(subject, cause, remedy, code=self._CODES.get(reason))
        self.reason = reason


class Cancelled(TaskFailed):
    """The owner or an administrator cancelled the task."""

    def __init__(self, subject: str, cause: str) -> None:
        super().__init__(ReasonCode.CANCELLED, subject, cause)
