"""The pages of workloads and resources."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from support.gateways import RunningGateway
from support.page_visitors import PageVisitor
from support.site import BOB, HOME, RODS, WAITS, TrialSite, wait_until

Visit = Callable[[str], PageVisitor]


@pytest.mark.usefixtures("working")
def test_workloads(site: TrialSite, visit: Visit, alice: httpx.Client) -> None:
    person = visit("alice")
    assert "You have no workloads" in person.http.get("/workloads").text
    started = alice.post("/api/v1/workloads", json={"image": site.image, "name": "<b>many</b>"})
    assert started.status_code == 201, started.text
    at = f"/workloads/{started.json()['workload']}"
    task = alice.post(f"/api/v1{at}/tasks", json={"command": ["sleep", "600"]}).json()
    assert "&lt;b&gt;many&lt;/b&gt;" in person.http.get("/workloads").text
    page = person.http.get(at).text
    assert f"/tasks/{task['task_id']}" in page
    assert "1 task<" in page
    bob = visit("bob")
    assert bob.http.get(at).status_code == 404
    assert bob.send("/workloads", f"{at}/stop").status_code == 404
    assert person.http.post(f"{at}/stop", data={"proof": "x"}).status_code == 403
    assert "Started" in person.http.get(at).text
    assert person.send(at, f"{at}/stop").headers["location"] == at
    assert "Stopped" in person.http.get(at).text
    wait_until(lambda: "Cancelled" in person.http.get(at).text, "the task to be cancelled")
    assert person.send(at, f"{at}/remove").headers["location"] == "/workloads"
    assert person.http.get(at).status_code == 404


@pytest.mark.usefixtures("working")
def test_resources_show_what_runs(site: TrialSite, visit: Visit, gateway: RunningGateway) -> None:
    running = site.submit(site.request("/bin/sh", "-c", WAITS))
    site.outputs(running)
    page = visit("alice").http.get("/resources").text
    assert "dsp_resc" in page
    assert "Alive" in page
    assert "Your unfinished tasks" in page
    assert f'href="/tasks/{running.task_id}"' in page
    bob = visit("bob").http.get("/resources").text
    assert running.task_id not in bob
    assert "alice" not in bob
    administrator = visit("")
    token = gateway.gateway.people.one_time_token(RODS)
    assert administrator.http.get("/", params={"token": token}).status_code == 200
    everybodys = administrator.http.get("/resources").text
    assert "Tasks of all users" in everybodys
    assert running.task_id in everybodys
    assert "alice#tempZone" in everybodys
    assert administrator.http.get(f"/tasks/{running.task_id}").status_code == 404  # being told is not reading
    site.let_go(running)
    assert site.ended(running)["state"] == "COMPLETED"


def test_a_browser_that_is_lost_gets_a_page(visit: Visit) -> None:
    alice = visit("alice")
    answer = alice.http.get("/nonsense/<b>")
    assert answer.status_code == 404
    assert "text/html" in answer.headers["content-type"]
    assert "<b>" not in answer.text
    assert alice.http.get("/nonsense", headers={"Accept": "*/*"}).json()["status"] == 404
    assert alice.http.get("/api/v1/nonsense").json()["status"] == 404
    assert visit("").http.get("/nonsense").status_code == 404
    assert BOB.name not in alice.http.get(f"/tasks/{HOME.replace('/', '%2F')}").text
