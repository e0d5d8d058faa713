"""An ordinary user with iCommands floods a real zone, and tampers with records. Others must hardly notice.

``tests/support/irods_site.py`` says what the tests need; those of tagged collections also need what
``tests/support/irods_server.py`` says. ``tests/benchmarks/neighbour.py`` measures the same floods, and larger ones.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import statistics
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from support.floods import FLOODS, Sizes, going_on
from support.irods_server import CORE, rules
from support.irods_site import ENVIRONMENT, NO_ZONE
from support.neighbours import UNTIL_STOPPED, ICommandHands, Neighbours, SessionHands, real_neighbours
from support.reading import ENOUGH
from support.terminal import Terminal

from compute_to_data import bounds
from compute_to_data.errors import Code
from compute_to_data.model import Access, Avu, Entity, EntityKind

if TYPE_CHECKING:
    from contract.irods_zone import IrodsZoneUnderTest

pytestmark = pytest.mark.skipif(not os.environ.get(ENVIRONMENT), reason=NO_ZONE)

TIMES, LONGEST = 3.0, 5.0
"""What a neighbour's ``true`` may take under a flood: so many times as long as alone (median), and seconds (each)."""
HEARD = 2.0
"""Seconds until the worker has heard of a request to cancel. The task's end then costs as much as any task's."""
MOST_MEMORY = 150 << 20
SIZES = Sizes(records=2, avus=1200, collections=120, tasks=40, outputs=200, metadata=20)
WITHOUT_CONTAINERS = [name for name in FLOODS if name != "moving directories"]


@pytest.fixture(scope="module")
def scene(zone: IrodsZoneUnderTest) -> Iterator[Neighbours]:
    tools = zone.make_place("tools")
    with real_neighbours(zone, {"name": "process", "images": {"tools": str(tools)}}, "tools").served() as made:
        made.seconds_of_true()
        yield made


def hands_of(scene: Neighbours) -> Terminal:
    assert isinstance(scene.hands, ICommandHands)
    return scene.hands.terminal


@pytest.mark.parametrize("name", WITHOUT_CONTAINERS)
def test_a_neighbour_hardly_notices(scene: Neighbours, name: str) -> None:
    alone = [scene.seconds_of_true() for _ in range(3)]
    with FLOODS[name](scene, SIZES):
        under = [scene.seconds_of_true() for _ in range(5)]
        cancelled = scene.seconds_of_cancel()
    hold(name, alone, under)
    assert cancelled <= HEARD + TIMES * statistics.median(alone), f"cancelled in {cancelled:.2f} s"
    assert scene.worker.most_memory < MOST_MEMORY


def hold(name: str, alone: list[float], under: list[float]) -> None:
    """The bounds of what a neighbour may notice; on a busy machine, all takes longer."""
    seen = f"{name}: alone {[round(one, 2) for one in alone]}, under it {[round(one, 2) for one in under]}"
    print(seen)
    assert statistics.median(under) <= TIMES * statistics.median(alone), seen
    assert max(under) <= max(LONGEST, TIMES * max(alone)), seen


POLICIES = """
from compute_to_data.policies import *
"""


@pytest.mark.skipif(not os.environ.get(CORE), reason=f"{NO_ZONE[:-1]} and {CORE})")
def test_a_tagged_collection_that_many_share(zone: IrodsZoneUnderTest, scene: Neighbours) -> None:
    """The neighbour tags it, and all may write there. The flooder adds tags by the thousand, and uploads all the time.
    The neighbour's uploads there and elsewhere go on, and so do the neighbour's tasks."""
    assert scene.site is not None
    neighbour = Terminal(zone.environment_of(scene.neighbour.user), scene.folder)
    shared, own, template = (f"{scene.neighbours_home}/{name}" for name in ("inbox", "own", "template.json"))
    neighbour.get("imkdir", shared, own)
    scene.neighbour.set_access(scene.neighbours_home, scene.flooder.user, Access.READ_OBJECT)
    scene.neighbour.set_access(shared, scene.flooder.user, Access.OWN)
    scene.neighbour.set_inheritance(shared, True)
    document = {**scene.request("/bin/true"), "output_collection": f"{scene.neighbours_home}/out"}
    neighbour.put(template, json.dumps({**document, "inputs": [{"arriving_in": shared}]}))
    trigger = scene.configuration.attributes.named("trigger")
    neighbour.get("imeta", "add", "-C", shared, trigger, template)
    file = scene.folder / "arriving"
    file.write_text("x")
    number = itertools.count()

    def upload(terminal: Terminal, collection: str) -> float:
        began = time.monotonic()
        terminal.get("iput", str(file), f"{collection}/{terminal.user}{next(number)}")
        return time.monotonic() - began

    with contextlib.ExitStack() as inside:
        installed = inside.enter_context(rules(zone, scene.site))
        installed.write_core(installed.block() + POLICIES)
        upload(neighbour, shared)
        tasks = [scene.seconds_of_true() for _ in range(3)]
        alone = {place: [upload(neighbour, place) for _ in range(3)] for place in (shared, own)}
        scene.hands.tag([(shared, Avu(trigger, f"{scene.home}/template{number}")) for number in range(SIZES.avus)])
        inside.enter_context(going_on(lambda: upload(hands_of(scene), shared)))
        hold("tagged collection", tasks, [scene.seconds_of_true() for _ in range(4)])
        for place, before in alone.items():
            hold(f"an upload into {place}", before, [upload(neighbour, place) for _ in range(4)])


def test_a_record_that_is_overwritten_while_its_task_runs(scene: Neighbours) -> None:
    """Its owner may do that. The task goes on as it was read, and others' tasks do, too."""
    submitted = scene.submit(*UNTIL_STOPPED)
    scene.runs(scene.flooder, submitted)
    junk = scene.folder / "junk.json"
    junk.write_text("[")
    scene.hands.put(junk, f"{submitted.collection}/task.json")
    alone = scene.seconds_of_true()
    assert scene.cancelled(scene.flooder, submitted) < HEARD + TIMES * alone


@pytest.mark.parametrize("fact", ["reason", "state", "cancel", "reads"])
def test_more_avus_than_are_read_on_a_running_task(scene: Neighbours, fact: str) -> None:
    """One attribute of the worker's own has more values than it reads at once. Its owner can still cancel the task as
    soon as any other, the worker removes them all, and others notice nothing."""
    submitted = scene.submit(*UNTIL_STOPPED)
    scene.runs(scene.flooder, submitted)
    attributes = scene.configuration.attributes
    attribute = attributes.state if fact == "state" else attributes.named(fact)
    value = "RUNNING" if fact == "state" else "x"
    flood = [Avu(attribute, value, f"{number}") for number in range(bounds.MOST_AVUS + 1)]
    SessionHands(scene.flooder).tag([(submitted.collection, avu) for avu in flood])  # iCommands would take minutes
    listed = hands_of(scene).get("iquest", "--no-page", "%s", "select count(META_COLL_ATTR_ID) where COLL_NAME = "
                                 f"'{submitted.collection}' and META_COLL_ATTR_NAME = '{attribute}'")  # fmt: skip
    assert int(listed) > bounds.MOST_AVUS
    alone = scene.seconds_of_true()
    others, own = scene.seconds_of_cancel(), scene.cancelled(scene.flooder, submitted)
    print(f"{fact}: alone {alone:.2f}, another's cancelled in {others:.2f} s, its own in {own:.2f} s")
    assert max(others, own) < HEARD + TIMES * alone
    left = scene.flooder.avus(Entity(EntityKind.COLLECTION, submitted.collection), attribute)
    assert len(left) <= 1
    assert scene.worker.most_memory < MOST_MEMORY


class TestWhatIsRefused:
    """With iCommands as with anything else, a user changes nothing that is not theirs."""

    def test_avus_on_a_resource(self, scene: Neighbours) -> None:
        for attribute in ("COMPUTE_RESOURCE_ROLE", scene.configuration.attributes.named("worker")):
            done = hands_of(scene).run("imeta", "add", "-R", scene.resource, attribute, "x")
            assert done.returncode != 0
            assert str(int(Code.CAT_INSUFFICIENT_PRIVILEGE_LEVEL)) in done.stderr, done.stderr

    def test_the_record_of_another_users_task_in_a_shared_collection(self, scene: Neighbours) -> None:
        """The neighbour shares a collection and all that will be made there. A task of theirs is sealed."""
        shared = f"{scene.neighbours_home}/shared"
        scene.neighbour.create_collection(shared)
        scene.neighbour.set_access(scene.neighbours_home, scene.flooder.user, Access.READ_OBJECT)
        scene.neighbour.set_access(shared, scene.flooder.user, Access.OWN)
        scene.neighbour.set_inheritance(shared, True)
        document = {**scene.request(*UNTIL_STOPPED), "output_collection": shared}
        submitted = scene.submitted(scene.neighbour, document)
        scene.runs(scene.neighbour, submitted)
        before = scene.neighbour.read(f"{submitted.collection}/task.json", ENOUGH)
        other = scene.folder / "other.json"
        other.write_text(json.dumps({**json.loads(before), "name": "another"}))
        task, named = submitted.collection, scene.configuration.attributes.named
        tried = [
            ("iput", "-f", str(other), f"{task}/task.json"),
            ("irm", "-f", f"{task}/task.json"),
            ("imv", f"{task}/task.json", f"{shared}/gone.json"),
            ("iput", str(other), f"{task}/more.json"),
            ("ichmod", "own", scene.flooder.user.name, task),
            ("imeta", "add", "-C", task, named("cancel"), str(scene.flooder.user), scene.resource),
            ("imeta", "add", "-C", task, scene.configuration.attributes.state, "COMPLETED", scene.resource),
            ("imeta", "add", "-d", f"{task}/task.json", "x", "y"),
        ]
        done = {words: hands_of(scene).run(*words).returncode for words in tried}
        assert [words for words, code in done.items() if code == 0] == []
        assert scene.neighbour.read(f"{submitted.collection}/task.json", ENOUGH) == before
        scene.cancelled(scene.neighbour, submitted)
