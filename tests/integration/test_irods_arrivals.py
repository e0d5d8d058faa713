"""Policies on a real zone: every way in which a real client can store a data object.

``tests/support/terminal.py`` says what these tests need. In addition the server's ``core.py`` must
import the policies (``docs/arrivals.md``); set ``C2D_TEST_IRODS_POLICIES=1`` when it does.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.terminal import ADMINISTRATOR, PATIENCE, USER, Bench, Terminal, opened_bench, serving

from compute_to_data.records.state import State

POLICIES = "C2D_TEST_IRODS_POLICIES"
TAG, NOTE, STATE = (f"irods::compute_to_data::{name}" for name in ("trigger", "arrival", "state"))
CLAIM = "irods::compute_to_data_task"
PARALLEL = 40_000_000
"""In bytes: more than one buffer of 32 MiB, so that clients send in several streams."""
MANY = int(os.environ.get("C2D_TEST_IRODS_ARRIVALS", "24"))

pytestmark = pytest.mark.skipif(
    not all(os.environ.get(name) for name in (ADMINISTRATOR, USER, POLICIES)),
    reason=f"no real zone with policies is configured (set {ADMINISTRATOR}, {USER} and {POLICIES})",
)


class Inbox:
    """The user's tagged collection, one without a tag, and files to store."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench = bench
        self.user, self.administrator = bench.user, bench.administrator
        self.folder = folder
        self.out = f"{bench.home}/out"
        self.tagged, self.plain = f"{bench.home}/tagged", f"{bench.home}/plain"
        self.user.get("imkdir", self.tagged, self.plain)
        self.template = f"{bench.home}/template.json"
        self.user.put(self.template, self.document(self.tagged))
        self.tag(self.tagged, self.template)

    def document(self, collection: str, **changes: object) -> str:
        process = {"image": self.bench.image, "exec": "/bin/cat", "argv": [], **STREAMS}
        return self.bench.request(inputs=[{"arriving_in": collection}], process=process, **changes)

    def tag(self, collection: str, template: str) -> None:
        self.user.get("imeta", "add", "-C", collection, TAG, template)

    def file(self, name: str, size: int | None = None) -> str:
        path = self.folder / name
        path.write_text(f"{name}\n")
        if size is not None:
            os.truncate(path, size)
        return str(path)

    def avus(self, path: str, attribute: str, whose: Terminal | None = None) -> list[str]:
        listed = (whose or self.user).get("imeta", "ls", "-d", path, attribute)
        return re.findall(r"^value: (.*)$", listed, re.MULTILINE)

    def claims(self, path: str, output: str = "") -> list[str]:
        """The tasks that have claimed a data object. It waits until the first is queued, because a
        client that sends in several streams does not wait for its agent."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            found = self.avus(path, CLAIM)
            queued = found and self.user.run("imeta", "ls", "-C", f"{output or self.out}/{found[0]}", STATE)
            if queued and "value: " in queued.stdout:
                return found
            time.sleep(0.2)
        return self.avus(path, CLAIM)

    def tasks(self) -> set[str]:
        return set(re.findall(r"C- .*/([^/\n]+)$", self.user.get("ils", self.out), re.MULTILINE))

    def states(self, output: str) -> dict[str, State]:
        """The states of all tasks below a collection."""
        query = f"select COLL_NAME, META_COLL_ATTR_VALUE where COLL_PARENT_NAME = '{output}'"
        done = self.user.run("iquest", "--no-page", "%s %s", f"{query} and META_COLL_ATTR_NAME = '{STATE}'")
        rows = [line.split() for line in done.stdout.splitlines() if line.startswith(output)]
        return {name: State(state) for name, state in rows}

    def python(self, program: str, *arguments: str) -> None:
        """Run a program that uses python-irodsclient in a new process, as users do."""
        opened = "with iRODSSession(irods_env_file=sys.argv[1]) as session:"
        body = f"import sys\nfrom irods.session import iRODSSession\n{opened}\n    {program}\n"
        command = [sys.executable, "-c", body, self.user.environment_file, *arguments]
        subprocess.run(command, check=True, timeout=PATIENCE, env=self.user.environment)


STREAMS = {
    "input_adapter": {"input_type": "file", "input_parameters": {"file_type": "stream", "stream_name": "STDIN"}},
    "output_adapter": {
        "output_type": "file",
        "output_parameters": {"file_type": "stream", "stream_name": "STDOUT", "file_name": "copy"},
    },
}


@pytest.fixture(scope="module")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inbox]:
    with opened_bench(tmp_path_factory.mktemp("terminal")) as bench:
        yield Inbox(bench, tmp_path_factory.mktemp("files"))


def _recursive(inbox: Inbox, path: str, *options: str) -> None:
    """Store a directory with the collection's name in the parent collection."""
    directory = inbox.folder / f"for-{os.path.basename(path)}" / "tagged"
    directory.mkdir(parents=True)
    (directory / os.path.basename(path)).write_text("x")
    inbox.user.get("iput", *options, "-r", str(directory), os.path.dirname(os.path.dirname(path)))


def _moved(inbox: Inbox, path: str, *command: str) -> None:
    elsewhere = f"{inbox.plain}/{os.path.basename(path)}"
    inbox.user.put(elsewhere, "x")
    inbox.user.get(*command, elsewhere, path)


def _replicated(inbox: Inbox, path: str) -> None:
    """Replicate a data object that was there before the collection was tagged."""
    inbox.user.get("imeta", "rm", "-C", inbox.tagged, TAG, inbox.template)
    inbox.user.put(path, "x")
    inbox.tag(inbox.tagged, inbox.template)
    assert inbox.avus(path, CLAIM) == []
    inbox.user.get("irepl", "-R", inbox.bench.resource, path)


def _streamed(inbox: Inbox, path: str) -> None:
    done = inbox.user.run("istream", "write", path, content="x")
    assert done.returncode == 0, done.stderr


WAYS: dict[str, Callable[[Inbox, str], object]] = {
    "iput": lambda inbox, path: inbox.user.get("iput", inbox.file("small"), path),
    "iput-K": lambda inbox, path: inbox.user.get("iput", "-K", inbox.file("checked"), path),
    "iput-empty": lambda inbox, path: inbox.user.get("iput", inbox.file("nothing", 0), path),
    "iput-parallel": lambda inbox, path: inbox.user.get("iput", inbox.file("large", PARALLEL), path),
    "iput-r": _recursive,
    "iput-b": lambda inbox, path: inbox.user.get("iput", "-b", inbox.file(os.path.basename(path)), inbox.tagged),
    "irsync": lambda inbox, path: inbox.user.get("irsync", inbox.file("synced"), f"i:{path}"),
    "istream": _streamed,
    "icp": lambda inbox, path: _moved(inbox, path, "icp"),
    "imv": lambda inbox, path: _moved(inbox, path, "imv"),
    "irepl": _replicated,
    "prc-put": lambda inbox, path: inbox.python("session.data_objects.put(*sys.argv[2:])", inbox.file("small"), path),
    "prc-put-parallel": lambda inbox, path: inbox.python(
        "session.data_objects.put(*sys.argv[2:])", inbox.file("large", PARALLEL), path
    ),
    "prc-write": lambda inbox, path: inbox.python(
        "f = session.data_objects.open(sys.argv[2], 'w'); f.write(b'x'); f.close()", path
    ),
    "prc-create-then-write": lambda inbox, path: inbox.python(
        "o = session.data_objects.create(sys.argv[2]); f = o.open('w'); f.write(b'x'); f.close()", path
    ),
    "it's": lambda inbox, path: inbox.user.get("iput", inbox.file("small"), path),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_of_arriving_gives_one_task(inbox: Inbox, way: str) -> None:
    path = f"{inbox.tagged}/{way}"
    before = inbox.tasks()
    WAYS[way](inbox, path)
    (task_id,) = inbox.claims(path)
    assert inbox.tasks() - before == {task_id}
    collection = f"{inbox.bench.home}/out/{task_id}"
    assert inbox.user.avus(collection)["state"] == "QUEUED"
    assert json.loads(inbox.user.get("iget", f"{collection}/task.json", "-"))["inputs"] == [{"object": path}]
    inbox.user.get("iput", "-f", inbox.file("again"), path)
    inbox.python("f = session.data_objects.open(sys.argv[2], 'a'); f.write(b'x'); f.close()", path)
    inbox.user.run("irepl", "-R", inbox.bench.resource, path)
    assert inbox.claims(path) == [task_id], "later changes are not arrivals"
    assert inbox.tasks() - before == {task_id}


def test_a_registered_file_gets_a_task(inbox: Inbox) -> None:
    """An administrator registers it, because only they may, with a template of their own."""
    rods, name = inbox.administrator, f"{inbox.bench.resource}reg"
    home = f"/{rods.zone}/home/{rods.user}/{name}"
    outside = inbox.bench.place / "outside"
    outside.mkdir()
    (outside / "one").write_text("1")
    rods.get("imkdir", "-p", f"{home}/in", f"{home}/out")
    try:
        rods.put(f"{home}/t.json", inbox.document(f"{home}/in", output_collection=f"{home}/out"))
        rods.get("imeta", "add", "-C", f"{home}/in", TAG, f"{home}/t.json")
        rods.get("ireg", "-R", inbox.bench.resource, str(outside / "one"), f"{home}/in/one")
        assert len(inbox.avus(f"{home}/in/one", CLAIM, rods)) == 1
        assert inbox.avus(f"{home}/in/one", NOTE, rods) == []
        directory = outside / "directory"
        directory.mkdir()
        for name in ("two", "three"):
            (directory / name).write_text(name)
        rods.get("imeta", "rm", "-C", f"{home}/in", TAG, f"{home}/t.json")
        rods.put(f"{home}/in/older", "older")
        rods.get("imeta", "add", "-C", f"{home}/in", TAG, f"{home}/t.json")
        rods.get("ireg", "-f", "-r", "-R", inbox.bench.resource, str(directory), f"{home}/in")
        assert [len(inbox.avus(f"{home}/in/{name}", CLAIM, rods)) for name in ("two", "three", "older")] == [1, 1, 0]
    finally:
        rods.get("irm", "-rf", home)
        shutil.rmtree(outside)


def test_data_objects_that_start_no_task(inbox: Inbox) -> None:
    before = inbox.tasks()
    inbox.user.get("imkdir", f"{inbox.tagged}/below")
    inbox.user.get("iput", inbox.file("small"), f"{inbox.tagged}/below/x")
    inbox.user.get("iput", inbox.file("small"), f"{inbox.plain}/x")
    inbox.user.get("itouch", f"{inbox.tagged}/touched")
    inbox.user.put(f"{inbox.tagged}/in-itself.json", inbox.document(inbox.tagged))
    assert len(inbox.tasks() - before) == 1, "only the last"


def test_an_arrival_without_a_task_stays_and_says_why(inbox: Inbox) -> None:
    collection, template = f"{inbox.bench.home}/wrong", f"{inbox.bench.home}/wrong.json"
    inbox.user.get("imkdir", collection)
    inbox.user.put(template, inbox.document(collection, resource="no_such_resource"))
    inbox.tag(collection, template)
    inbox.user.get("iput", inbox.file("kept"), f"{collection}/kept")
    assert inbox.user.get("iget", f"{collection}/kept", "-") == "kept\n"
    (why,) = inbox.avus(f"{collection}/kept", NOTE)
    assert "no_such_resource" in why and inbox.avus(f"{collection}/kept", CLAIM) == []
    inbox.user.put(template, inbox.document(collection))
    inbox.user.get("iput", "-f", inbox.file("kept"), f"{collection}/kept")
    assert len(inbox.avus(f"{collection}/kept", CLAIM)) == 1
    assert inbox.avus(f"{collection}/kept", NOTE) == []


def test_a_tag_does_not_use_an_administrators_rights(inbox: Inbox) -> None:
    """The user tags a collection into which an administrator also stores files."""
    rods = inbox.administrator
    collection, template = f"{inbox.bench.home}/shared", f"{inbox.bench.home}/shared.json"
    inbox.user.get("imkdir", collection)
    inbox.user.get("ichmod", "own", rods.user, inbox.bench.home, collection, f"{inbox.bench.home}/out")
    inbox.user.put(template, inbox.document(collection))
    inbox.user.get("ichmod", "read", rods.user, template)
    inbox.tag(collection, template)
    before = inbox.tasks()
    try:
        rods.get("iput", inbox.file("theirs"), f"{collection}/theirs")
        assert inbox.tasks() == before
        (why,) = inbox.avus(f"{collection}/theirs", NOTE, rods)
        assert f"belongs to {inbox.user.user}#" in why
    finally:
        rods.get("irm", "-f", f"{collection}/theirs")


def test_of_many_arrivals_each_gets_one_task(inbox: Inbox) -> None:
    """Four clients store files at once while a worker runs their tasks. The worker's own replicas and
    results start no tasks."""
    collection, out = f"{inbox.bench.home}/many", f"{inbox.bench.home}/many-out"
    template = f"{inbox.bench.home}/many.json"
    inbox.user.get("imkdir", collection, out)
    inbox.user.put(template, inbox.document(collection, output_collection=out))
    inbox.tag(collection, template)
    each = MANY // 4
    names = {kind: [f"{kind}{number}" for number in range(each)] for kind in "abcd"}
    files = {name: inbox.file(name) for kind in names.values() for name in kind}
    directory = inbox.folder / "d" / "many"
    directory.mkdir(parents=True)
    for name in names["d"]:
        os.rename(files[name], directory / name)
    program = "[session.data_objects.put(f, sys.argv[2] + '/') for f in sys.argv[3:]]"
    ways = [
        lambda: [inbox.user.get("iput", files[name], collection) for name in names["a"]],
        lambda: inbox.user.get("iput", "-b", *(files[name] for name in names["b"]), collection),
        lambda: inbox.python(program, collection, *(files[name] for name in names["c"])),
        lambda: inbox.user.get("iput", "-r", str(directory), inbox.bench.home),
    ]
    with serving(inbox.bench):
        clients = [threading.Thread(target=way) for way in ways]
        for client in clients:
            client.start()
        for client in clients:
            client.join(4 * PATIENCE)
        paths = [f"{collection}/{name}" for kind in names.values() for name in kind]
        claims = {path: inbox.claims(path, out) for path in paths}
        assert [len(one) for one in claims.values()] == [1] * len(paths)
        states = inbox.states(out)
        deadline = time.monotonic() + 4 * PATIENCE
        while len(states) < len(paths) or not all(state.is_final for state in states.values()):
            assert time.monotonic() < deadline, states
            time.sleep(0.5)
            states = inbox.states(out)
    failed = {name: inbox.user.avus(name)["reason"] for name, state in states.items() if state is not State.COMPLETED}
    assert not failed, "\n".join(sorted(set(failed.values())))[:2000]
    assert set(states) == {f"{out}/{one[0]}" for one in claims.values()}
    for path in paths[:: max(1, each // 2)]:
        assert inbox.user.get("iget", f"{out}/{claims[path][0]}/copy", "-") == f"{os.path.basename(path)}\n"
