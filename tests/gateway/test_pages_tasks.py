"""The pages of tasks, as they come from the gateway: what they show, to whom, and what strangers cannot do there."""

from __future__ import annotations

import calendar
import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.page_visitors import PageVisitor
from support.site import HOME, WAITS, TrialSite, wait_until

from compute_to_data.errors import Code, zone_error
from compute_to_data.model import Avu, DataObject, Entity, EntityKind
from compute_to_data.zones.embedded.session import EmbeddedSession

Visit = Callable[[str], PageVisitor]
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def ran(site: TrialSite, script: str, **more: Any) -> dict[str, str]:
    """A task that has ended, with its ``id``."""
    found = site.run(site.request("/bin/sh", "-c", script, **more))
    return {**found, "id": found["collection"].rpartition("/")[2]}


def test_a_task_that_completed(site: TrialSite, visit: Visit) -> None:
    task = ran(site, "printf 'a,b\\n1,2\\n' > t.csv; echo '# notes' > n.md; echo hello; echo oh >&2", name="first")
    alice = visit("alice")
    listed = alice.http.get("/tasks").text
    assert "first" in listed
    assert "Completed" in listed
    page = alice.http.get(f"/tasks/{task['id']}").text
    parts = ["Registering the results", "hello", '<th scope="col">a</th>', "<td>2</td>", "# notes", "In the queue"]
    for part in (*parts, f"c2d rerun {task['id']}", "Run again", "ro-crate-metadata.json", task["collection"]):
        assert part in page, part
    assert "Cancel</button>" not in page
    file = alice.http.get(f"/tasks/{task['id']}/files/t.csv").text
    assert "<td>1</td>" in file
    assert "sha2:" in file
    answer = alice.http.get(f"/tasks/{task['id']}/zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.read(f"{task['id']}/t.csv") == b"a,b\n1,2\n"
        assert f"{task['id']}/task.json" in archive.namelist()


def test_a_task_that_failed_says_why(site: TrialSite, visit: Visit) -> None:
    task = ran(site, "echo to stderr >&2; exit 3")
    page = visit("alice").http.get(f"/tasks/{task['id']}").text
    assert "Why it failed" in page
    assert page.count("exited with status 3") == 1
    assert "to stderr" in page


def test_the_list_of_one_state(site: TrialSite, visit: Visit) -> None:
    ran(site, "true", name="good")
    ran(site, "false", name="bad")
    alice = visit("alice").http
    listed = alice.get("/tasks?state=FAILED").text
    assert "bad" in listed and "good" not in listed
    unknown = alice.get("/tasks?state=LOST")
    assert unknown.status_code == 400
    assert "state LOST" in unknown.text and "COMPLETED" in unknown.text


def test_a_log_that_the_person_may_not_read(site: TrialSite, visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zone without strict access lists shows the rest of the task."""
    task = ran(site, "echo said")

    def refused(_: object, path: str) -> None:
        raise zone_error(Code.USER_FILE_DOES_NOT_EXIST, path, "no such data object")

    alice = visit("alice").http
    monkeypatch.setattr(EmbeddedSession, "open_to_read", refused)
    page = alice.get(f"/tasks/{task['id']}")
    assert page.status_code == 200
    assert "STDOUT.txt: you may not read it. Ask the task&#39;s owner" in page.text


def test_a_task_whose_input_changed_says_so(site: TrialSite, visit: Visit) -> None:
    task = ran(site, "true")
    named = site.configuration.attributes.named("inputs_changed")
    alice = visit("alice")
    assert "Inputs changed" not in alice.http.get(f"/tasks/{task['id']}").text
    changed = Avu(named, f"{HOME}/<b>.txt")
    site.alice.annotate(Entity(EntityKind.COLLECTION, task["collection"]), add=[changed])
    page = alice.http.get(f"/tasks/{task['id']}").text
    assert "Inputs changed" in page
    assert f"{HOME}/&lt;b&gt;.txt" in page


def test_cancel_rerun_and_remove(site: TrialSite, visit: Visit) -> None:
    alice = visit("alice")
    first = site.submit(site.request("/bin/sh", "-c", WAITS, name="to cancel"))
    with site.working():
        at = f"/tasks/{first.task_id}"
        site.outputs(first)
        assert "Why it waits" not in alice.http.get(at).text
        assert alice.send(at, f"{at}/cancel").headers["location"] == at
        assert site.ended(first)["state"] == "CANCELLED"
        assert "Cancelled" in alice.http.get(at).text
        answer = alice.send(at, f"{at}/cancel")
        assert answer.status_code == 422
        assert "has ended" in answer.text
        again = alice.send(at, f"{at}/rerun").headers["location"]
        assert again != at
        assert "to cancel" in alice.http.get(again).text
        assert alice.send(again, f"{again}/cancel").status_code == 303
        wait_until(lambda: "Cancelled</span>" in alice.http.get(again).text, "the second task to be cancelled")
    assert alice.send(at, f"{at}/remove").headers["location"] == "/tasks"
    assert alice.http.get(at).status_code == 404


def test_a_task_that_waits_says_why(site: TrialSite, visit: Visit) -> None:
    task = site.submit(site.request("/bin/true"))
    page = visit("alice").http.get(f"/tasks/{task.task_id}").text
    assert "Why it waits" in page
    assert "data-events" in page


def test_the_list_by_state_name_and_page(site: TrialSite, visit: Visit) -> None:
    for number in range(52):
        site.submit(site.request("/bin/true", name=f"task{number}"))
    alice = visit("alice")
    page = alice.http.get("/tasks").text
    assert len(re.findall(r"<strong>task\d+</strong>", page)) == 50
    older = re.search(r'rel="next" href="([^"]+)"', page)
    assert older
    page = alice.http.get(older[1].replace("&amp;", "&")).text
    assert re.findall(r"<strong>(task\d+)</strong>", page) == ["task1", "task0"]
    assert re.findall(r"<strong>(.*?)</strong>", alice.http.get("/tasks", params={"name": "ask51"}).text) == ["task51"]
    assert "No task of yours is like that" in alice.http.get("/tasks", params={"state": "FAILED"}).text
    assert alice.http.get("/tasks", params={"cursor": "x"}).status_code == 400


def test_somebody_elses_task_is_not_found(site: TrialSite, visit: Visit) -> None:
    task = ran(site, "echo secret > x.txt; echo secret > r.html; echo secret", name="secret")
    alice, bob = visit("alice"), visit("bob")
    at = f"/tasks/{task['id']}"
    paths = ("", "/zip", "/show/r.html", "/files/x.txt", "/files/task.json")
    for path in paths:
        assert alice.http.get(at + path).status_code == 200, path
        answer = bob.http.get(at + path)
        assert answer.status_code == 404, path
        assert "secret" not in answer.text
    for action in ("cancel", "rerun", "remove"):
        answer = bob.send("/tasks", f"{at}/{action}")
        assert answer.status_code == 404, action
    nobody = visit("")
    for path in paths:
        answer = nobody.http.get(at + path)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/sign-in?next=")
    assert "secret" not in bob.http.get("/tasks", params={"everybodys": "true"}).text


def test_changes_need_the_proof_of_the_form(site: TrialSite, visit: Visit) -> None:
    task = ran(site, "true")
    alice = visit("alice")
    for action in ("rerun", "cancel", "remove"):
        for form in ({}, {"proof": ""}, {"proof": "x" * 64}):
            answer = alice.http.post(f"/tasks/{task['id']}/{action}", data=form)
            assert answer.status_code in (403, 415), (action, form)
        assert alice.http.get(f"/tasks/{task['id']}/{action}").status_code in (404, 405)
    assert site.alice.stat(task["collection"])
    assert alice.http.get("/tasks").text.count("<strong>") == 1


def test_text_of_strangers_is_shown_as_text(site: TrialSite, visit: Visit) -> None:
    """By the name of a task, a line of its log, the name of a file, a cell of a table, and the reason of its end."""
    hostile = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    script = (
        f"printf '%s\\n' '{hostile}'; printf '\\033[31mred\\033[0m \\342\\200\\256 10%%\\r20%%\\n'; "
        f"mkdir 'd<b>'; printf '%s,x\\n1,2\\n' '{hostile}' > 'd<b>/{hostile.replace('/', '!')}.csv'; "
        f"printf '%s' '{hostile}' > t.txt; printf '%s\\n' '{hostile}' >&2; exit 1"
    )
    task = ran(site, script, name=HOSTILE, on_failure="keep")
    alice = visit("alice")
    pages = [alice.http.get(path).text for path in ("/tasks", f"/tasks/{task['id']}")]
    linked = re.findall(rf'href="(/tasks/{task["id"]}/files/[^"]+)"', pages[1])
    pages += [alice.http.get(one).text for one in linked]
    assert len(linked) > 3
    for page in pages:
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert not re.search(r"<b>\W", page)
        assert "\u202e" not in page
        assert "\x1b" not in page
    assert "&lt;script&gt;alert(1)" in pages[0]
    assert "red \\u202e 10%" not in pages[1]
    assert "20%" in pages[1]


def test_what_a_task_left_has_no_rights_of_the_page(site: TrialSite, visit: Visit) -> None:
    script = "echo '<script>alert(1)</script>' | tee r.html p.svg p.png x.js x.css x.pdf x.xhtml none > /dev/null"
    task = ran(site, script)
    alice = visit("alice")
    for name, kind in (
        ("r.html", "text/html; charset=utf-8"),
        ("p.svg", "image/svg+xml"),
        ("p.png", "image/png"),
        ("x.js", "application/octet-stream"),
        ("x.css", "application/octet-stream"),
        ("x.pdf", "application/octet-stream"),
        ("x.xhtml", "application/octet-stream"),
        ("none", "application/octet-stream"),
    ):
        answer = alice.http.get(f"/tasks/{task['id']}/show/{name}")
        policy = answer.headers["content-security-policy"]
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        assert policy.startswith("sandbox; default-src 'none'")
        assert "script" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        inline = kind != "application/octet-stream"
        assert answer.headers["content-disposition"].startswith("inline" if inline else "attachment"), name
    page = alice.http.get(f"/tasks/{task['id']}").text
    assert re.search(r'<iframe class="report" sandbox="" src="/tasks/[^"]+/show/r.html"', page)


def test_files_lead_nowhere_else(site: TrialSite, visit: Visit) -> None:
    site.alice.write(f"{HOME}/other.txt", b"other secret")
    task = ran(site, "mkdir d; echo x > d/x")
    alice = visit("alice")
    for way in ("show", "files"):
        for path in ("%2e%2e/%2e%2e/other.txt", "..%2f..%2fother.txt", "d/..%2f..%2f..%2fother.txt", "%2fetc%2fpasswd",
                     "x%00", "", "d", "d//x", "*", "none"):  # fmt: skip
            url = httpx.URL(f"/tasks/{task['id']}/{way}/{path}")
            answer = alice.http.get(url)
            assert answer.status_code == 404, (way, path, answer.text)
            assert "other secret" not in answer.text


def test_an_archive_holds_all_with_times_and_modes(site: TrialSite, visit: Visit) -> None:
    """An empty folder may mean something; and its owner's other programs may want to read what it holds."""
    task = ran(site, "mkdir -p d/none 'e #;%41'; echo x > 'd/a \\b'; : > zero")
    content = visit("alice").http.get(f"/tasks/{task['id']}/zip").content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        entries = {one.filename.partition("/")[2]: one for one in archive.infolist()}
    assert {"d/", "d/none/", "e #;%41/", "d/a %5Cb", "zero", "task.json"} <= set(entries)
    assert (entries["d/none/"].is_dir(), entries["zero"].file_size) == (True, 0)
    assert entries["zero"].external_attr >> 16 == 0o100644
    found = site.alice.stat(f"{task['collection']}/zero")
    assert isinstance(found, DataObject)
    assert abs(calendar.timegm((*entries["zero"].date_time, 0, 0, 0)) - found.modified) <= 2  # as zip rounds


def test_an_archive_of_a_damaged_file_breaks_off(site: TrialSite, visit: Visit) -> None:
    task = ran(site, "head -c 3000000 /dev/urandom > x; echo later > y")
    found = site.alice.stat(f"{task['collection']}/x")
    assert isinstance(found, DataObject)
    file = Path(found.replicas[0].physical_path)
    content = file.read_bytes()
    alice = visit("alice")
    for damaged in (content[:-1] + b"?" if content[-1:] != b"?" else content[:-1] + b"!", content[:1000]):
        file.write_bytes(damaged)
        with pytest.raises(httpx.RemoteProtocolError):
            alice.http.get(f"/tasks/{task['id']}/zip")
    file.write_bytes(content)
    assert alice.http.get(f"/tasks/{task['id']}/zip").status_code == 200
