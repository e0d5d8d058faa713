"""What the policies make of a server's operations: the structs are of the shapes that a 5.0.2 server
handed to them. ``tests/integration/test_irods_arrivals.py`` has a real one hand them over."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from compute_to_data import configuration, policies, site_file
from compute_to_data.agent import policy

IN = "/z/home/alice/in"
CONTINUE = 5000000
O_RDONLY, O_WRONLY, O_CREAT, O_TRUNC = 0, 1, 64, 512


class CharArray:
    """The plugin gives no str, but what makes one."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text


class Agent:
    """A callback that knows which collections are tagged, and what was asked and passed on."""

    def __init__(self) -> None:
        self.tagged: set[str] = {IN}
        self.queries: list[str] = []
        self.log: list[str] = []
        self.passed_on: list[tuple[str, bool]] = []
        self.registered: list[tuple[str, str, int]] = []
        self.at_rest = True

    def msiMakeGenQuery(self, columns: str, condition: str, query: Any) -> Any:
        self.queries.append(condition)
        return {"code": 0, "status": True, "arguments": [columns, condition, condition]}

    def msiExecGenQuery(self, query: str, rows: Any) -> Any:
        if not any(f"'{one}'" in query or f"'{one}%'" in query for one in self.tagged):
            raise RuntimeError("[iRods__Error__Code:-808000] [-]\t/a/frame.cpp:1")
        return {"code": 0, "status": True, "arguments": [query, SimpleNamespace(rowCnt=1, continueInx=0)]}

    def writeLine(self, where: str, text: str) -> None:
        self.log.append(text)

    def arrived(self, callback: Any, rei: Any, path: str, written: bool) -> bool:
        assert callback is self
        self.passed_on.append((path, written))
        return self.at_rest

    def call(self, name: str, *arguments: Any) -> None:
        """As the server calls: the instance, the context, then the operation's arguments."""
        assert getattr(policies, f"pep_api_{name}")(["instance", "context", *arguments], self, None) == CONTINUE


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Agent]:
    agent = Agent()
    types = ModuleType("irods_types")
    types.GenQueryInp = types.GenQueryOut = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "irods_types", types)
    monkeypatch.setenv("COMPUTE_TO_DATA_CONFIGURATION", str(tmp_path / "site.json"))
    (tmp_path / "site.json").write_text('{"zone": {"kind": "irods"}}')
    importlib.reload(policies)  # an agent begins with nothing in mind
    monkeypatch.setattr(policy, "arrived", agent.arrived)
    monkeypatch.setattr(policy, "registered", lambda _, __, *given: agent.registered.append(given))
    yield agent
    importlib.reload(policies)


def data_obj(path: str, flags: int = 0, **keywords: str) -> SimpleNamespace:
    condition = SimpleNamespace(
        key=[CharArray(one) for one in keywords], value=[CharArray(one) for one in keywords.values()], len=len(keywords)
    )
    return SimpleNamespace(objPath=CharArray(path), openFlags=flags, condInput=condition)


def bulk(*paths: str) -> SimpleNamespace:
    table = {403: [CharArray(path) for path in paths], 421: ["33188"] * len(paths), 999998: ["2"] * len(paths)}
    columns = [SimpleNamespace(attriInx=number, row=cells.__getitem__) for number, cells in table.items()]
    return SimpleNamespace(
        objPath=CharArray(IN), attriArray=SimpleNamespace(sqlResult=columns, attriCnt=3, rowCnt=len(paths))
    )


def copy(source: str, target: str) -> SimpleNamespace:
    return SimpleNamespace(srcDataObjInp=data_obj(source), destDataObjInp=data_obj(target))


AT_ONCE = {
    "data_obj_put_post": data_obj(f"{IN}/x", 578),
    "data_obj_repl_post": data_obj(f"{IN}/x"),
    "data_obj_copy_post": copy("/z/home/alice/x", f"{IN}/x"),
    "data_obj_rename_post": copy("/z/home/alice/x", f"{IN}/x"),
    "phy_path_reg_post": data_obj(f"{IN}/x", filePath="/outside/x"),
    "bulk_data_obj_put_post": bulk(f"{IN}/x"),
}


@pytest.mark.parametrize("name", AT_ONCE)
def test_what_arrives_at_once(agent: Agent, name: str) -> None:
    agent.call(name, AT_ONCE[name])
    assert agent.passed_on == [(f"{IN}/x", False)]
    agent.passed_on.clear()
    agent.tagged.clear()
    agent.call(name, AT_ONCE[name])
    assert not agent.passed_on
    assert not agent.log


def test_a_bulk_upload_asks_once_for_each_collection(agent: Agent) -> None:
    agent.call("bulk_data_obj_put_post", bulk(f"{IN}/1", f"{IN}/sub/2", f"{IN}/3"))
    assert [path for path, _ in agent.passed_on] == [f"{IN}/1", f"{IN}/3"]
    assert len(agent.queries) == 2


@pytest.mark.parametrize("kind", ["data_obj", "replica"])
def test_what_is_opened_arrives_when_it_is_closed(agent: Agent, kind: str) -> None:
    agent.call(f"{kind}_open_post", data_obj(f"{IN}/x", O_WRONLY | O_CREAT | O_TRUNC))
    agent.call("data_obj_create_post", data_obj(f"{IN}/y", O_WRONLY | O_CREAT))
    assert not agent.passed_on
    agent.at_rest = False  # one of several streams
    agent.call(f"{kind}_close_post", SimpleNamespace(l1descInx=3))
    agent.at_rest = True
    agent.passed_on.clear()
    agent.call(f"{kind}_close_post", SimpleNamespace(l1descInx=3))
    assert sorted(agent.passed_on) == [(f"{IN}/x", True), (f"{IN}/y", True)]
    agent.passed_on.clear()
    agent.call(f"{kind}_close_post", SimpleNamespace(l1descInx=3))
    assert not agent.passed_on, "each once"


def test_reading_costs_no_query(agent: Agent) -> None:
    agent.call("data_obj_open_post", data_obj(f"{IN}/x", O_RDONLY))
    agent.call("data_obj_close_post", SimpleNamespace(l1descInx=3))
    assert not agent.queries and not agent.passed_on


def test_without_a_tag_writing_costs_one_query(agent: Agent) -> None:
    agent.tagged.clear()
    agent.call("data_obj_open_post", data_obj(f"{IN}/x", O_WRONLY))
    agent.call("data_obj_close_post", SimpleNamespace(l1descInx=3))
    assert len(agent.queries) == 1 and not agent.passed_on


def test_renaming_within_a_collection_is_no_arrival(agent: Agent) -> None:
    agent.call("data_obj_rename_post", copy(f"{IN}/x", f"{IN}/y"))
    assert not agent.queries


def test_a_registered_directory_is_looked_through_from_when_it_began(agent: Agent) -> None:
    directory = data_obj(IN, filePath="/outside", collection="")
    agent.call("phy_path_reg_post", directory)
    assert not agent.registered, "without a beginning nothing is new"
    agent.call("phy_path_reg_pre", directory)
    agent.call("phy_path_reg_post", directory)
    assert not agent.log
    ((path, outside, since),) = agent.registered
    assert (path, outside) == (IN, "/outside") and since > 1700000000


@pytest.mark.parametrize("collection", ["/z/it's", "/z/back\\slash"])
def test_a_name_that_a_query_would_misread_is_asked_for_with_a_wildcard(agent: Agent, collection: str) -> None:
    agent.call("data_obj_put_post", data_obj(f"{collection}/x"))
    ((condition),) = agent.queries
    assert collection not in condition and " like " in condition
    assert condition.count("'") == 4


def test_a_site_that_renames_its_avus_is_understood(agent: Agent, tmp_path: Path) -> None:
    document = '{"zone": {"kind": "irods"}, "attributes": {"prefix": "irods::lab"}}'
    (tmp_path / "site.json").write_text(document)
    agent.call("data_obj_put_post", data_obj(f"{IN}/x"))
    assert "'irods::lab::trigger'" in agent.queries[0]


FAULTS = {
    "arguments of another shape": ["a string"],
    "no arguments": [],
    "a struct without its fields": [SimpleNamespace()],
}


@pytest.mark.parametrize("name", policies.__all__)
@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_of_ours_reaches_the_operation(agent: Agent, name: str, fault: str) -> None:
    assert getattr(policies, name)(["instance", "context", *FAULTS[fault]], agent, None) == CONTINUE


@pytest.mark.parametrize("error", [RuntimeError("[iRods__Error__Code:-818000] x"), SystemExit(3), KeyError("x")])
def test_what_goes_wrong_is_logged(agent: Agent, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def broken(*_: Any, **__: Any) -> bool:
        raise error

    monkeypatch.setattr(policy, "arrived", broken)
    agent.call("data_obj_put_post", data_obj(f"{IN}/x"))
    (line,) = agent.log
    assert type(error).__name__ in line
    monkeypatch.setattr(agent, "writeLine", broken)
    agent.call("data_obj_put_post", data_obj(f"{IN}/x"))


def test_a_missing_configuration_is_logged_and_costs_no_put(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "site.json").unlink()
    agent.call("data_obj_put_post", data_obj(f"{IN}/x"))
    assert "site.json" in agent.log[0]


def test_what_stands_here_again_is_the_configurations_own() -> None:
    """Importing it would cost every agent of the zone more than the question that it saves."""
    assert (policies._SITE_FILE, policies._SITE_FILE_VARIABLE) == (
        site_file.PATH,
        site_file.VARIABLE,
    )
    assert configuration.Attributes().named("trigger") == policies._ATTRIBUTE
