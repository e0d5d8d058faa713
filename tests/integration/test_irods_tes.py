"""GA4GH TES on a real zone: ``/ga4gh/tes/v1`` of a gateway that knows nobody but the zone's own users.

``tests/support/irods_site.py`` says what the tests need.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import tes
from support.irods_site import ENVIRONMENT, NO_ZONE, RealSite, sandboxed_site
from support.reading import ENOUGH
from support.real_gateway import serving
from support.site import PATIENCE, wait_until
from support.tes import second_image, shell

from compute_to_data.model import Entity, EntityKind, User

if TYPE_CHECKING:
    from contract.irods_zone import IrodsZoneUnderTest

pytestmark = [
    pytest.mark.skipif(not os.environ.get(ENVIRONMENT), reason=NO_ZONE),
    pytest.mark.docker,
]
TASKS = "/ga4gh/tes/v1/tasks"
Client = Callable[[User], httpx.Client]


@pytest.fixture(scope="module")
def site(zone: IrodsZoneUnderTest, docker_answers: None) -> RealSite:
    return sandboxed_site(zone, second_image())


@pytest.fixture(scope="module")
def gateway(site: RealSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(site, tmp_path_factory.mktemp("gateway")) as address:
        yield address


@pytest.fixture
def client(gateway: str, zone: IrodsZoneUnderTest) -> Iterator[Client]:
    """Makes clients that sign each request with a user's native password."""
    made: list[httpx.Client] = []

    def client(user: User) -> httpx.Client:
        signed = (str(user), zone.password(user))
        made.append(httpx.Client(base_url=gateway, timeout=PATIENCE, trust_env=False, auth=signed))
        return made[-1]

    yield client
    for one in made:
        one.close()


def submitted(client: httpx.Client, compute: str, *executors: dict[str, Any], **more: Any) -> str:
    document = {"executors": list(executors), "resources": {"zones": [compute]}, **more}
    answer = client.post(TASKS, json=document)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def shown(client: httpx.Client, task_id: str, view: str = "FULL") -> dict[str, Any]:
    answer = client.get(f"{TASKS}/{task_id}", params={"view": view})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def state(client: httpx.Client, task_id: str) -> str:
    return str(shown(client, task_id, "MINIMAL")["state"])


def ended(client: httpx.Client, task_id: str) -> dict[str, Any]:
    last = ("COMPLETE", "EXECUTOR_ERROR", "SYSTEM_ERROR", "CANCELED")
    wait_until(lambda: state(client, task_id) in last, "the end of the task")
    return shown(client, task_id)


def test_two_executors_from_an_input_to_an_output_of_the_zone(site: RealSite, compute: str, client: Client) -> None:
    alice = client(site.alice.user)
    source, target = site.put("of_tes", b"axbxc\n", compute), f"{site.home}/made/by tes.txt"
    task_id = submitted(
        alice,
        compute,
        shell("tr -d x < /data/in > /between/plain; cat /etc/which 2>/dev/null; echo first"),
        shell("cat /between/plain > /made/out.txt; cat /etc/which", second_image()),
        name="two steps",
        inputs=[{"url": f"irods://{source}", "path": "/data/in"}],
        outputs=[{"path": "/made/out.txt", "url": f"irods://{target.replace(' ', '%20')}"}],
        volumes=["/between"],
        tags={"of": "a real zone"},
    )
    found = ended(alice, task_id)
    assert found["state"] == "COMPLETE", found
    (log,) = found["logs"]
    assert [(one["exit_code"], one["stdout"]) for one in log["logs"]] == [(0, "first\n"), (0, "second\n")]
    assert log["outputs"][0]["size_bytes"] == "4"
    assert site.alice.read(target, ENOUGH) == b"abc\n"
    assert site.replicas(target) == {compute: "GOOD"}
    assert site.replicas(source) == {compute: "GOOD"}, "nothing was copied"
    avus = site.alice.avus(Entity(EntityKind.DATA_OBJECT, target), site.configuration.attributes.named("task_id"))
    assert [one.value for one in avus] == [task_id]


def test_a_result_replaces_that_of_an_earlier_task(site: RealSite, compute: str, client: Client) -> None:
    """When the task that would replace it fails, the earlier one is there again."""
    alice = client(site.alice.user)
    target = f"{site.home}/replaced/result"

    def ran(script: str) -> str:
        output = {"path": "/made/out", "url": f"irods://{target}"}
        return str(ended(alice, submitted(alice, compute, shell(script), outputs=[output]))["state"])

    def there() -> tuple[bytes, list[str]]:
        names = [one.logical_path.rpartition("/")[2] for one in site.alice.children(f"{site.home}/replaced")]
        return site.alice.read(target, ENOUGH), names

    site.alice.create_collection(f"{site.home}/replaced")
    assert ran("echo one > /made/out") == "COMPLETE"
    assert there() == (b"one\n", ["result"])
    assert ran("echo two > /made/out") == "COMPLETE"
    assert there() == (b"two\n", ["result"])
    assert ran("echo three > /made/out; exit 4") == "EXECUTOR_ERROR"
    assert there() == (b"two\n", ["result"])
    assert site.replicas(target) == {compute: "GOOD"}


def test_a_failing_executor(site: RealSite, compute: str, client: Client) -> None:
    alice = client(site.alice.user)
    found = ended(alice, submitted(alice, compute, shell("echo why >&2; exit 7"), shell("echo never")))
    assert found["state"] == "EXECUTOR_ERROR"
    assert [(one["exit_code"], one["stderr"]) for one in found["logs"][0]["logs"]] == [(7, "why\n")]


def test_tasks_are_listed_and_canceled_by_their_owner_only(
    zone: IrodsZoneUnderTest, site: RealSite, compute: str, client: Client
) -> None:
    alice, bob = client(site.alice.user), client(zone.make_user())
    ids = [submitted(alice, compute, shell("sleep 600"), name=f"to cancel {n}", tags={"n": str(n)}) for n in range(2)]
    for wanted, expected in (
        ({"name_prefix": "to cancel"}, ids[::-1]),
        ({"tag_key": "n", "tag_value": "0"}, ids[:1]),
        ({"name_prefix": "to cancel", "page_size": "1"}, ids[1:]),
    ):
        answer = alice.get(TASKS, params=wanted)
        assert [one["id"] for one in answer.json()["tasks"]] == expected, answer.text
    token = answer.json()["next_page_token"]
    rest = alice.get(TASKS, params={"name_prefix": "to cancel", "page_size": 1, "page_token": token})
    assert [one["id"] for one in rest.json()["tasks"]] == ids[:1]
    assert bob.get(TASKS).json() == {"tasks": []}
    assert bob.get(f"{TASKS}/{ids[0]}").status_code == 404
    assert bob.post(f"{TASKS}/{ids[0]}:cancel").status_code == 404
    wait_until(lambda: state(alice, ids[0]) == "RUNNING", "the first task to run")
    for task_id in ids:
        answer = alice.post(f"{TASKS}/{task_id}:cancel")
        assert (answer.status_code, answer.json()) == (200, {})
    assert [ended(alice, task_id)["state"] for task_id in ids] == ["CANCELED"] * 2
    assert httpx.get(f"{alice.base_url}{TASKS}", trust_env=False, timeout=PATIENCE).status_code == 401


def test_py_tes(site: RealSite, compute: str, gateway: str, zone: IrodsZoneUnderTest) -> None:
    user = site.alice.user
    client = tes.HTTPClient(gateway, timeout=int(PATIENCE), user=user.name, password=zone.password(user))
    task = tes.Task(
        inputs=[tes.Input(path="/inputs/word", content="hello\n", type="FILE")],
        resources=tes.Resources(cpu_cores=1, ram_gb=0.5, zones=[compute]),
        executors=[tes.Executor(image=site.image, command=["cat", "/inputs/word"])],
    )
    task_id = client.create_task(task)
    assert client.wait(task_id, timeout=PATIENCE).state == "COMPLETE"
    assert client.get_task(task_id, view="FULL").logs[0].logs[0].stdout == "hello\n"
