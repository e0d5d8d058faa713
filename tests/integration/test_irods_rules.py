"""The rules on a real zone, called with ``irule`` from a user's terminal.

``tests/support/terminal.py`` says what they need.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator

import pytest
from support.terminal import ADMINISTRATOR, NATIVE, NO_ZONE, USER, Bench, opened_bench, serving

pytestmark = pytest.mark.skipif(not (os.environ.get(ADMINISTRATOR) and os.environ.get(USER)), reason=NO_ZONE)

LONG = 300.0
"""Seconds. The delay server looks for rules every 30 seconds, and a busy machine needs longer for what then follows."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with opened_bench(tmp_path_factory.mktemp("terminal")) as opened:
        yield opened


@pytest.fixture
def sign_of_life(bench: Bench) -> Iterator[None]:
    """A heartbeat on the resource without a worker, so that tasks are accepted and stay queued."""
    name, now = bench.configuration.attributes.named("worker"), int(time.time())
    signs = [(name, "test:0", str(now + seconds)) for seconds in range(0, int(LONG), 50)]  # one of them is fresh
    for sign in signs:
        bench.administrator.get("imeta", "add", "-R", bench.resource, *sign)
    yield
    for sign in signs:
        bench.administrator.get("imeta", "rm", "-R", bench.resource, *sign)


@pytest.fixture
def worker(bench: Bench) -> Iterator[None]:
    with serving(bench):
        yield


def dispatch(request: str, resource: str = "", task_id: str = "") -> str:
    return f'container_dispatch("containers.run", "{request}", "{resource}", "", "{task_id}");'


def test_a_task_from_the_users_terminal_to_its_results(bench: Bench, worker: None) -> None:
    done = bench.user.irule(dispatch(bench.written(), task_id="whole"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "task whole COMPLETED" in done.stdout
    assert bench.user.get("iget", f"{bench.home}/out/whole/y.txt", "-") == "cba\n"
    listed = bench.user.get("ils", "-l", f"{bench.home}/out/whole")
    assert re.search(rf"{bench.user.user} +0 {bench.resource} .* & y.txt", listed), listed
    assert re.search(rf" 1 {bench.resource} .* & x.txt", bench.user.get("ils", "-l", f"{bench.home}/in"))


def test_a_failing_task_tells_why_and_gives_its_code(bench: Bench, worker: None) -> None:
    request = bench.written(process={"image": bench.image, "exec": "/bin/sh", "argv": ["-c", "echo no >&2; exit 3"]})
    output = bench.user.irule(dispatch(request, task_id="fails"))
    assert "task fails FAILED" in output.stdout
    assert "(iRODS code -344000)" in output.stdout
    coded = bench.user.irule(dispatch(request, task_id="fails-too"), "-r", NATIVE)
    assert coded.returncode != 0
    assert "task fails-too FAILED" in coded.stdout, "irule -r shows the sentence, too"
    assert "-344000" in coded.stderr


def test_submitting_returns_the_id_at_once(bench: Bench, sign_of_life: None) -> None:
    body = '*id = ""; container_submit("containers.run", "%s", "", "", *id); writeLine("stdout", "id=*id");'
    done = bench.user.irule(body % bench.written(), "-r", NATIVE)
    found = re.search(r"^id=([0-9a-f-]{36})$", done.stdout, re.MULTILINE)
    assert found, done.stdout + done.stderr
    collection = f"{bench.home}/out/{found[1]}"
    facts = bench.user.avus(collection)
    assert (facts["state"], facts["role"], facts["resource"]) == ("QUEUED", "CONTAINER", bench.resource)
    assert json.loads(bench.user.get("iget", f"{collection}/task.json", "-"))["version"] == 1


def test_a_delayed_rule_queues_and_does_not_wait(bench: Bench, sign_of_life: None) -> None:
    settings = f"<PLUSET>1s</PLUSET><INST_NAME>{NATIVE}</INST_NAME>"
    body = f'delay("{settings}") {{ {dispatch(bench.written(), task_id="later")} }}'
    assert bench.user.irule(body).returncode == 0
    collection, deadline = f"{bench.home}/out/later", time.monotonic() + LONG
    while bench.user.run("imeta", "ls", "-C", collection, "irods::compute_to_data::state").stdout.count("QUEUED") == 0:
        assert time.monotonic() < deadline, "the delay server has not queued the task"
        time.sleep(0.5)
    while bench.user.get("iqstat").strip().startswith("id"):
        assert time.monotonic() < deadline, "the delayed rule has not ended"
        time.sleep(0.5)
    assert bench.user.avus(collection)["state"] == "QUEUED"


REFUSALS = {
    "another docker command": (lambda b: dispatch(b.written()).replace("containers.run", "images.pull"), -130000),
    "no such request": (lambda b: dispatch(f"{b.home}/none.json"), -358000),
    "a collection as request": (lambda b: dispatch(f"{b.home}/in"), -358000),
    "not JSON": (lambda b: dispatch(f"{b.home}/in/x.txt"), -130000),
    "an option in the path": (lambda b: dispatch(f"{b.home}/none.json++++openFlags=O_RDWR"), -317000),
    "unknown resource": (lambda b: dispatch(b.written(), "no_such_resource"), -78000),
    "no compute resource": (lambda b: dispatch(b.written(), b.administrator.default_resource), -130000),
    "a role it does not bear": (lambda b: dispatch(b.written(role="SIGNAL_PROCESSING")), -130000),
    "missing input": (lambda b: dispatch(b.written(inputs=[f"{b.home}/in/none.txt"])), -310000),
    "another user's input": (lambda b: dispatch(b.written(inputs=[_foreign(b)])), -310000),
    "another user's collection": (lambda b: dispatch(b.written(output_collection=_foreign(b))), -310000),
    "image not allowed": (lambda b: dispatch(b.written(process={"image": "no/such:1", "exec": "x"})), -130000),
    "malformed": (lambda b: dispatch(b.written(limits={"walltime_seconds": "long"})), -130000),
    "a path as task id": (lambda b: dispatch(b.written(), task_id="../x"), -130000),
    "too few arguments": (lambda b: 'container_dispatch("containers.run");', -130000),
}


def _foreign(bench: Bench) -> str:
    return f"/{bench.administrator.zone}/home/{bench.administrator.user}"


@pytest.mark.parametrize("name", REFUSALS)
def test_mistakes_are_reported_with_their_code(bench: Bench, sign_of_life: None, name: str) -> None:
    body, code = REFUSALS[name]
    called = body(bench)
    before = bench.seen()
    output = bench.user.irule(called)
    assert f"(iRODS code {code})" in output.stdout, output.stdout + output.stderr
    coded = bench.user.irule(called, "-r", NATIVE)
    assert coded.returncode != 0
    assert f"status = {code} " in coded.stderr
    assert "container_dispatch: " in coded.stdout
    assert bench.seen() == before


def test_without_a_worker_nothing_is_queued(bench: Bench) -> None:
    if bench.configuration.worker.on_demand:
        pytest.skip("this site starts workers on demand")
    request, before = bench.written(), bench.seen()
    output = bench.user.irule(dispatch(request))
    assert "has no live worker" in output.stdout
    assert bench.seen() == before
