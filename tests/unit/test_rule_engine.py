"""What a rule's catalog makes of the plugin's answers. A scripted callback stands for the agent;
``tests/integration/test_irods_rules.py`` asks a real one."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from support.reading import ENOUGH

from compute_to_data import bounds
from compute_to_data.agent import boundary
from compute_to_data.errors import AccessDenied, Code, InvalidRequest, NotFound, TooLarge, ZoneError
from compute_to_data.model import Access, Avu, Collection, DataObject, Entity, EntityKind, Query, User
from compute_to_data.zones.rule_engine import Agent, AgentCatalog, paths, reading

HOME = "/z/home/alice"
COLLECTION = [HOME, "alice", "z", "1", "01700000000"]


def refusal(number: int) -> RuntimeError:
    return RuntimeError(f"[iRods__Error__Code:{number}] [-]\t/a/frame.cpp:1\n[-]\t/another.cpp:2")


class Script:
    """A callback with scripted answers for each microservice; it records the calls."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.answers: dict[str, Callable[..., Any]] = {}

    def __getattribute__(self, name: str) -> Any:
        if name in ("asked", "answers", "__class__"):
            return object.__getattribute__(self, name)

        def call(*arguments: Any) -> Any:
            self.asked.append((name, *arguments))
            answer = self.answers[name](*arguments) if name in self.answers else 0
            if isinstance(answer, BaseException):
                raise answer
            if isinstance(answer, int):
                return {"code": answer, "status": answer >= 0, "arguments": list(arguments)}
            return {"code": 0, "status": True, "arguments": answer}

        return call


class Buffer:
    def __init__(self) -> None:
        self.content: bytes | None = b""

    def set_buffer(self, content: bytes) -> None:
        self.content = content

    def get_bytes(self) -> list[int]:
        assert self.content is not None, "used after it was freed"
        return list(self.content)

    def clear_buffer(self) -> None:
        self.content = None


class Answer(list[list[str]]):
    """The rows of a query. ``read``: how many the product has fetched."""

    is_closed = False
    read = 0

    def __iter__(self) -> Iterator[list[str]]:
        for row in super().__iter__():
            self.read += 1
            yield row

    def close(self) -> None:
        self.is_closed = True


class Zone:
    """A catalog over a script. Each query gets the table that its first column names."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.script = Script()
        self.conditions: list[str] = []
        self.answered: list[Answer] = []
        self.rows: dict[str, list[list[str]]] = {}
        session = ModuleType("session_vars")
        client = {"user_name": "alice", "irods_zone": "z"}
        session.get_map = lambda rei: {
            "client_user": client,
            "connection": {"option": rei.option, "socket": rei.socket},
        }  # type: ignore[attr-defined]
        genquery = ModuleType("genquery")
        genquery.AS_LIST = object()  # type: ignore[attr-defined]
        genquery.Query = self._query  # type: ignore[attr-defined]
        types = ModuleType("irods_types")
        types.BytesBuf = Buffer  # type: ignore[attr-defined]
        for module in (session, genquery, types):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        self.agent = Agent(self.script, SimpleNamespace(option="irule", socket=-1))
        self.catalog = AgentCatalog(self.agent)

    def _query(self, callback: Any, columns: list[str], conditions: str, output: Any) -> Answer:
        assert callback is self.script
        self.conditions.append(conditions)
        order, _, column = columns[0].rstrip(")").rpartition("(")
        answer = self.rows.get(column, [])
        if order:
            answer = sorted(answer, key=lambda row: int(row[0]), reverse=order == "ORDER_DESC")
        self.answered.append(Answer(answer))
        return self.answered[-1]


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Zone:
    return Zone(monkeypatch)


def replica(name: str, number: int = 0, status: int = 1, size: int = 4) -> list[str]:
    times = ["01700000000", "01700000001"]
    return [name, str(number), "dsp", str(status), str(size), f"/vault/{name}", "", "alice", "z", *times, HOME]


def test_the_catalog_acts_for_the_client_user(zone: Zone) -> None:
    assert zone.catalog.user == User("alice", "z")
    assert zone.agent.client_program == "irule"


@pytest.mark.parametrize(
    ("option", "privilege", "is_ours"),
    [("compute-to-data", 5, True), ("compute-to-data", 3, False), ("iput", 5, False), ("compute-to-data", None, False)],
)
def test_a_workers_own_connection_is_recognised(
    zone: Zone, monkeypatch: pytest.MonkeyPatch, option: str, privilege: int | None, is_ours: bool
) -> None:
    """The application name alone is not enough: any client may use it."""
    session = sys.modules["session_vars"].get_map(SimpleNamespace(option=option, socket=-1))
    if privilege is not None:
        session["proxy_user"] = {"authentication_info": {"privilege_level": privilege}}
    monkeypatch.setattr(sys.modules["session_vars"], "get_map", lambda rei: session)
    assert Agent(zone.script, None).by_service is is_ours


def test_a_client_that_hangs_up_is_noticed(zone: Zone) -> None:
    ours, client = socket.socketpair()
    with ours, client:
        agent = Agent(zone.script, SimpleNamespace(option="irule", socket=ours.fileno()))
        client.send(b"still here")
        assert not agent.client_is_gone()
        client.close()
        assert agent.client_is_gone()
    assert not zone.agent.client_is_gone(), "without a socket, no client can disconnect"


def test_a_refusal_reaches_the_user_through_stdout_and_the_error_stack(zone: Zone) -> None:
    def some_rule(site: object, path: str) -> int:
        raise InvalidRequest(path, "is \ud800 \0 text")

    zone.script.answers["msiExit"] = lambda code, text: refusal(int(code))
    attached = SimpleNamespace(compute_to_data_session=lambda: (None, None))
    assert boundary.call(some_rule, ["/z/x"], zone.script, attached) == -130000
    sentence = "some_rule: /z/x: is \\ud800 \\x00 text. (iRODS code -130000)"
    assert zone.script.asked == [("writeLine", "stdout", sentence), ("msiExit", "-130000", sentence)]


def test_an_unexpected_error_is_logged_and_does_not_reach_the_engine(zone: Zone) -> None:
    def some_rule(site: object) -> int:
        raise KeyError("secret")

    attached = SimpleNamespace(compute_to_data_session=lambda: (None, None))
    assert boundary.call(some_rule, [], zone.script, attached) == -154000
    written = {where: text for name, where, text in zone.script.asked if name == "writeLine"}
    assert "secret" in written["serverLog"]
    assert "secret" not in written["stdout"]


def test_outside_an_agent_is_not_supported() -> None:
    with pytest.raises(ZoneError) as caught:
        Agent(Script(), object())
    assert caught.value.code is Code.SYS_NOT_SUPPORTED


def refusal_43(number: int) -> RuntimeError:
    """As iRODS 4.3 says it."""
    text = f"iRODS Exception:\n    file: /a/frame.cpp\n    function: int f()\n    line: 17\n    code: {number} (X)\n"
    return RuntimeError(f"{text}    message:\n        no access\nstack trace:\n")


REFUSALS = [
    (refusal(-818000), AccessDenied, Code.CAT_NO_ACCESS_PERMISSION),
    (refusal_43(-1084000), ZoneError, Code.SYS_INTERNAL_ERR),
    (refusal_43(-818000), AccessDenied, Code.CAT_NO_ACCESS_PERMISSION),
    (refusal(-814000), NotFound, Code.CAT_UNKNOWN_COLLECTION),
    (refusal(-510013), ZoneError, Code.UNIX_FILE_OPEN_ERR),
    (-808000, NotFound, Code.CAT_NO_ROWS_FOUND),
    (refusal(-424242), ZoneError, Code.SYS_INTERNAL_ERR),
]


@pytest.mark.parametrize(("answer", "kind", "code"), REFUSALS, ids=lambda one: str(one)[:40])
def test_raised_and_returned_errors_become_zone_errors(
    zone: Zone, answer: Any, kind: type[ZoneError], code: Code
) -> None:
    zone.script.answers["msiCollCreate"] = lambda *_: answer
    with pytest.raises(kind) as caught:
        zone.catalog.create_collection(f"{HOME}/a")
    assert (caught.value.code, caught.value.subject) == (code, f"{HOME}/a")
    assert "frame.cpp" not in str(caught.value)


def test_what_the_atomic_call_of_43_does_not_find_gets_its_avus_one_by_one(
    zone: Zone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it keeps an old state until the new one is there."""
    zone.script.answers["msi_atomic_apply_metadata_operations"] = lambda *_: refusal(-130000)
    entity = Entity(EntityKind.DATA_OBJECT, f"{HOME}/it's/x")
    monkeypatch.setattr(reading, "avus", lambda *_: (Avu("a", "1"), Avu("b", "2")))
    zone.catalog.annotate(entity, add=[Avu("b", "2"), Avu("c", "3", "u")], remove=[Avu("a", "1"), Avu("d", "4")])
    calls = [call[1:] for call in zone.script.asked if call[0] == "msiModAVUMetadata"]
    assert calls == [("-d", entity.name, "add", "c", "3", "u"), ("-d", entity.name, "rm", "a", "1", "")]
    with pytest.raises(ZoneError) as caught:
        zone.catalog.annotate(Entity(EntityKind.DATA_OBJECT, f"{HOME}/x"), add=[Avu("b", "2"), Avu("c", "3")])
    assert caught.value.code is Code.SYS_INVALID_INPUT_PARAM


@pytest.mark.parametrize(
    ("code", "others"), [(0, []), (-809000, []), (-818000, ["msi_atomic_apply_metadata_operations"])]
)
def test_one_avu_goes_without_the_atomic_call(zone: Zone, code: int, others: list[str]) -> None:
    """So an arrival's note costs the upload less. One that is there already is no error, and the atomic call says why
    another one is refused."""
    if code:
        zone.script.answers["msiModAVUMetadata"] = lambda *_: refusal(code)
    zone.catalog.annotate(Entity(EntityKind.DATA_OBJECT, f"{HOME}/x"), add=[Avu("b", "2", "u")])
    assert zone.script.asked[0] == ("msiModAVUMetadata", "-d", f"{HOME}/x", "add", "b", "2", "u")
    assert [call[0] for call in zone.script.asked[1:]] == others


def test_an_error_of_the_plugin_itself_is_not_translated(zone: Zone) -> None:
    zone.script.answers["msiCollCreate"] = lambda *_: RuntimeError("boost::bad_any_cast")
    with pytest.raises(RuntimeError, match="bad_any_cast"):
        zone.catalog.create_collection(f"{HOME}/a")


@pytest.mark.parametrize("path", [f"{HOME}/x++++openFlags=O_RDWR", "relative", f"{HOME}/../bob", f"{HOME}/\0"])
def test_paths_that_microservices_would_misread_do_not_reach_the_server(zone: Zone, path: str) -> None:
    attempts: list[Callable[[], object]] = [
        lambda: zone.catalog.read(path, ENOUGH),
        lambda: zone.catalog.write(path, b""),
        lambda: zone.catalog.create_collection(path),
        lambda: zone.catalog.remove(path),
        lambda: zone.catalog.set_access(path, User("bob", "z"), Access.OWN),
        lambda: zone.catalog.avus(Entity(EntityKind.COLLECTION, path)),
        lambda: zone.catalog.children(path),
    ]
    for attempt in attempts:
        with pytest.raises(ZoneError):
            attempt()
    assert not zone.script.asked
    assert not zone.conditions


@pytest.mark.parametrize(
    ("version", "is_taken"),
    [('{"irods_version": "5.0.2"}', True), ('{"irods_version": "4.3.5"}', False), ("[]", False), (None, False)],
)
def test_a_name_that_43_breaks_is_refused_before_anything_is_made(
    zone: Zone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, is_taken: bool
) -> None:
    file = tmp_path / "version.json.dist"
    if version is not None:
        file.write_text(version)
    monkeypatch.setattr(paths, "_VERSION_FILE", str(file))
    path = f"{HOME}/it's this and that"
    zone.script.answers["msiCollCreate"] = lambda *_: refusal(-809000)
    with pytest.raises(ZoneError) as caught:
        zone.catalog.create_collection(path)
    assert caught.value.code is (Code.CATALOG_ALREADY_HAS_ITEM_BY_THAT_NAME if is_taken else Code.USER_INPUT_PATH_ERR)
    made = [call[0] for call in zone.script.asked]
    assert made == (["msiCollCreate"] if is_taken else [])
    if not is_taken:
        with pytest.raises(ZoneError, match="Choose another name"):
            zone.catalog.write(path, b"")
        assert not [call for call in zone.script.asked if call[0] == "msiDataObjCreate"]


def test_what_43_breaks_because_its_collection_was_renamed_is_not_opened(zone: Zone) -> None:
    """An agent of 4.3 that opens it ends. Without a version file, this server may be one."""
    path = f"{HOME}/it's this and that"
    zone.rows["DATA_NAME"] = [replica("it's this and that")]
    for use in (
        lambda: zone.catalog.read(path, ENOUGH),
        lambda: zone.catalog.write(path, b"", force=True),
        lambda: zone.catalog.remove(path),
    ):
        with pytest.raises(ZoneError, match="Rename it") as caught:
            use()
        assert caught.value.code is Code.USER_INPUT_PATH_ERR
    assert not zone.script.asked


def test_a_quote_in_a_name_becomes_a_wildcard_and_rows_are_compared_again(zone: Zone) -> None:
    zone.rows["COLL_NAME"] = [["/z/itXs", *COLLECTION[1:]], ["/z/it's", *COLLECTION[1:]]]
    found = zone.catalog.stat("/z/it's")
    assert zone.conditions == ["COLL_NAME = '/z' and DATA_NAME like 'it_s'", "COLL_NAME like '/z/it_s'"]
    assert isinstance(found, Collection)
    assert (found.logical_path, found.inherits) == ("/z/it's", True)


def test_a_data_object_has_all_its_replicas(zone: Zone) -> None:
    zone.rows["DATA_NAME"] = [replica("x", 1, status=0, size=9), replica("x", 0)]
    found = zone.catalog.stat(f"{HOME}/x")
    assert isinstance(found, DataObject)
    assert [(one.number, one.status, one.size) for one in found.replicas] == [(0, 1, 4), (1, 0, 9)]
    assert (found.owner, found.created, found.modified) == (User("alice", "z"), 1700000000.0, 1700000001.0)


def test_reading_ends_where_the_plugin_gives_no_buffer(zone: Zone) -> None:
    zone.rows["DATA_NAME"] = [replica("x")]
    buffers: list[Buffer] = []

    def read(descriptor: int, size: int, buffer: Buffer) -> list[Any]:
        assert descriptor == 7
        if len(buffers) == 2:
            return [descriptor, size, None]
        buffer.set_buffer(b"ab")
        buffers.append(buffer)
        return [descriptor, size, buffer]

    zone.script.answers["msiDataObjOpen"] = lambda keys, _: [keys, 7]
    zone.script.answers["msiDataObjRead"] = read
    assert zone.catalog.read(f"{HOME}/x", ENOUGH) == b"abab"
    assert [buffer.content for buffer in buffers] == [None, None], "their memory is given back"
    assert zone.script.asked[-1] == ("msiDataObjClose", 7, 0)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (0, Code.SYS_REPLICA_DOES_NOT_EXIST),
        (2, Code.INTERMEDIATE_REPLICA_ACCESS),
        (4, Code.LOCKED_DATA_OBJECT_ACCESS),
    ],
)
def test_nothing_is_read_without_a_good_replica(zone: Zone, status: int, code: Code) -> None:
    zone.rows["DATA_NAME"] = [replica("x", status=status)]
    with pytest.raises(ZoneError) as caught:
        zone.catalog.read(f"{HOME}/x", ENOUGH)
    assert caught.value.code is code
    assert not zone.script.asked


def test_a_failing_write_closes_and_removes_what_it_made(zone: Zone) -> None:
    def create(path: str, keys: str, _: int) -> list[Any]:
        zone.rows["DATA_NAME"] = [replica("x", status=2)]
        return [path, keys, 5]

    zone.script.answers["msiDataObjCreate"] = create
    zone.script.answers["msiDataObjWrite"] = lambda *_: refusal(-110000)
    with pytest.raises(ZoneError) as caught:
        zone.catalog.write(f"{HOME}/x", b"content", resource="dsp")
    assert caught.value.code is Code.SYS_RESC_QUOTA_EXCEEDED
    names = [call[0] for call in zone.script.asked]
    assert names == ["msiDataObjCreate", "msiDataObjWrite", "msiDataObjClose", "msiDataObjUnlink"]
    assert zone.script.asked[0] == ("msiDataObjCreate", f"{HOME}/x", "destRescName=dsp", 0)


def test_only_a_replica_on_the_named_resource_is_overwritten(zone: Zone) -> None:
    zone.rows["DATA_NAME"] = [replica("x"), replica("x", number=3)]
    zone.rows["DATA_NAME"][1][2] = "lts"
    zone.script.answers["msiDataObjOpen"] = lambda keys, _: [keys, 5]
    zone.catalog.write(f"{HOME}/x", b"content", resource="lts", force=True)
    assert zone.script.asked[0][1] == f"objPath={HOME}/x++++openFlags=O_WRONLYO_TRUNC++++replNum=3"
    zone.script.asked.clear()
    with pytest.raises(ZoneError) as caught:
        zone.catalog.write(f"{HOME}/x", b"content", resource="elsewhere", force=True)
    assert caught.value.code is Code.HIERARCHY_ERROR
    assert not zone.script.asked


def test_existing_data_objects_are_not_overwritten_without_force(zone: Zone) -> None:
    zone.rows["DATA_NAME"] = [replica("x")]
    with pytest.raises(ZoneError) as caught:
        zone.catalog.write(f"{HOME}/x", b"content")
    assert caught.value.code is Code.OVERWRITE_WITHOUT_FORCE_FLAG
    assert not zone.script.asked


def test_the_level_is_the_highest_of_the_users_and_their_groups(zone: Zone) -> None:
    zone.rows["USER_GROUP_ID"] = [["1", "alice", "z"], ["2", "alice", "z"]]
    zone.rows["DATA_ACCESS_TYPE"] = [["1050", "1", HOME, "x"], ["1120", "2", HOME, "x"], ["1200", "3", HOME, "x"]]
    assert zone.catalog.access(f"{HOME}/x") is Access.MODIFY_OBJECT
    zone.rows["DATA_ACCESS_TYPE"] = [["1040", "1", HOME, "x"]]
    assert zone.catalog.access(f"{HOME}/x") is Access.NULL, "below read_object nothing is there"


def test_one_call_removes_avus_first_and_then_adds(zone: Zone) -> None:
    entity = Entity(EntityKind.COLLECTION, HOME)
    zone.catalog.annotate(entity, add=[Avu("a", "数", "u")], remove=[Avu("b", "it's")])
    ((name, text, _),) = zone.script.asked
    assert name == "msi_atomic_apply_metadata_operations"
    assert text.index('"remove"') < text.index('"add"')
    assert "数" in text
    with pytest.raises(ZoneError):
        zone.catalog.annotate(entity, add=[Avu("a", "")])
    assert len(zone.script.asked) == 1


def test_find_returns_each_entity_once_oldest_first(zone: Zone) -> None:
    zone.rows["COLL_ID"] = [["30", "/z/b", "a"], ["7", "/z/c", "a"], ["30", "/z/b", "a"]]
    assert zone.catalog.find(Query(EntityKind.COLLECTION, "a")) == ("/z/c", "/z/b")
    assert zone.catalog.find(Query(EntityKind.COLLECTION, "a", limit=1)) == ("/z/c",)


def test_find_reads_no_more_than_it_returns(zone: Zone, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent's memory, and its time, must not depend on how many collections others have tagged."""
    zone.rows["COLL_ID"] = [[str(number), f"/z/{number}", "a"] for number in range(1000)]
    query = Query(EntityKind.COLLECTION, "a", limit=2)
    assert zone.catalog.find(query) == ("/z/0", "/z/1")
    assert zone.catalog.find(replace(query, newest_first=True, offset=1)) == ("/z/998", "/z/997")
    assert all(answer.read <= 4 and answer.is_closed for answer in zone.answered)
    monkeypatch.setattr(bounds, "MOST_FOUND", 999)
    with pytest.raises(TooLarge, match="more than 999"):
        zone.catalog.find(replace(query, limit=None))
    monkeypatch.setattr(bounds, "MOST_FOUND", 1000)
    assert len(zone.catalog.find(replace(query, limit=None))) == 1000


def test_find_asks_for_named_collections_one_by_one(zone: Zone) -> None:
    """And not for all, to look for the named ones among them."""
    zone.rows["COLL_ID"] = [["3", "/z/b", "a"], ["2", "/z/c", "a"], ["1", "/z/d", "a"]]
    query = Query(EntityKind.COLLECTION, "a", among=("/z/b", "/z/c"))
    assert zone.catalog.find(query) == ("/z/c", "/z/b")
    assert [condition.split(" and ")[-1] for condition in zone.conditions] == [
        "COLL_NAME = '/z/b'",
        "COLL_NAME = '/z/c'",
    ]
    assert zone.catalog.find(replace(query, newest_first=True, limit=1)) == ("/z/b",)


def test_how_a_query_becomes_a_genquery(zone: Zone) -> None:
    """The agent itself checks conditions that GenQuery cannot express safely."""
    zone.rows["COLL_ID"] = [
        ["30", "v1", "/z/b", "a", "alice", "z"],
        ["7", "v1", "/z/c", "a", "alice", "z"],
        ["30", "v2", "/z/b", "a", "alice", "z"],
        ["8", "w", "/z/d", "a", "alice", "z"],
        ["9", "v", "/z/e/1", "a", "alice", "z"],
    ]
    query = Query(EntityKind.COLLECTION, "a", beginning="v", owner=zone.catalog.user, excluding=("/z/e", "/y"))
    assert zone.catalog.find(query) == ("/z/c", "/z/b")
    assert zone.catalog.find(replace(query, newest_first=True)) == ("/z/b", "/z/c")
    assert zone.catalog.find(replace(query, offset=1, limit=5)) == ("/z/b",)
    assert "COLL_OWNER_NAME = 'alice' and COLL_OWNER_ZONE = 'z'" in zone.conditions[0]
    zone.rows["DATA_ID"] = [["3", "/z/b", "x", "a", "alice", "z"], ["2", "/z/b", "y", "a", "alice", "z"]]
    query = Query(EntityKind.DATA_OBJECT, "a", owner=zone.catalog.user, within="/z/b")
    assert zone.catalog.find(query) == ("/z/b/y", "/z/b/x")
    assert "COLL_NAME = '/z/b'" in zone.conditions[-1]
    assert "DATA_OWNER_NAME = 'alice' and DATA_OWNER_ZONE = 'z'" in zone.conditions[-1]


def test_the_avus_of_all_resources_take_a_query_for_each_attribute(zone: Zone) -> None:
    zone.rows["RESC_NAME"] = [["b", "a", "w", ""], ["a", "a", "v", "u"], ["b", "a", "v", ""]]
    expected = {"a": (Avu("a", "v", "u"),), "b": (Avu("a", "v"), Avu("a", "w"))}
    assert zone.catalog.avus_of_resources("a") == expected
    assert zone.conditions == ["META_RESC_ATTR_NAME = 'a'"]
    with pytest.raises(ValueError, match="no attribute"):
        zone.catalog.avus_of_resources()


@pytest.mark.parametrize("part", [{"owner": User("alice", "z")}, {"within": "/z"}, {"excluding": ("/z",)}])
@pytest.mark.parametrize("kind", [EntityKind.RESOURCE, EntityKind.USER])
def test_a_query_for_the_collection_or_owner_of_a_resource_is_an_error(kind: EntityKind, part: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="has no owner, and is in no collection"):
        Query(kind, "a", **part)


def test_an_agent_refuses_the_workers_operations(zone: Zone) -> None:
    attempts: list[Callable[[], object]] = [
        lambda: zone.catalog.replicate(f"{HOME}/x", "dsp"),
        lambda: zone.catalog.trim(f"{HOME}/x", 1),
        lambda: zone.catalog.register("dsp", []),
        lambda: zone.catalog.unregister([f"{HOME}/x"]),
        lambda: zone.catalog.rename(f"{HOME}/x", f"{HOME}/y"),
        lambda: zone.catalog.checksum(f"{HOME}/x"),
        lambda: zone.catalog.set_inheritance(HOME, True),
    ]
    for attempt in attempts:
        with pytest.raises(ZoneError) as caught:
            attempt()
        assert caught.value.code is Code.SYS_NOT_SUPPORTED
    assert not zone.script.asked
