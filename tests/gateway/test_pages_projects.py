"""The page of projects, and what a chosen project changes on the others."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect
from support.browsers import barriers, looking, sign_in
from support.gateways import PASSWORDS, RunningGateway
from support.page_visitors import PageVisitor
from support.site import BOB, HOME, PATIENCE, TrialSite

from compute_to_data.errors import NotFound
from compute_to_data.model import Access, Collection

expect.set_options(timeout=1000 * PATIENCE)
Visit = Callable[[str], PageVisitor]


def test_a_project_is_made_and_chosen(visit: Visit, site: TrialSite, no_worker: None) -> None:
    alice = visit("alice")
    assert f"{HOME}</strong><small>home" in alice.http.get("/projects").text
    assert alice.send("/projects", "/projects/create", path="study").headers["location"] == "/projects"
    page = alice.http.get("/projects").text
    assert re.search(rf'aria-current="true">.*<strong>{HOME}/study</strong>', page)
    assert "alice#tempZone</td><td>own" in page
    assert f"{HOME}/study/results" in page
    sent = [("files", ("a.csv", b"x,y\n1,2\n"))]
    form = {"proof": re.search(r'name="proof" value="([^"]+)"', page)[1], "name": "here"}  # type: ignore[index]
    assert alice.http.post("/datasets", data=form, files=sent).status_code == 303
    assert "here</strong>" in alice.http.get("/datasets").text
    answer = alice.send("/new/command", "/new/command", command="/bin/true", image=site.image)
    assert answer.status_code == 303, answer.text
    task = answer.headers["location"].rpartition("/")[2]
    assert isinstance(site.alice.stat(f"{HOME}/study/results/{task}"), Collection)
    assert alice.send("/projects", "/projects/choose", path=HOME).status_code == 303
    assert "here</strong>" not in alice.http.get("/datasets").text
    assert alice.http.get(f"/tasks/{task}").status_code == 200


def test_what_cannot_be_a_project(visit: Visit, site: TrialSite) -> None:
    alice = visit("alice")
    site.alice.write(f"{HOME}/file", b"")
    site.alice.create_collection(f"{HOME}/there")
    chosen = ("missing", "file", "/other/home", "a\nb", "../bob", "<script>alert(1)</script>", "x" * 2000, "")
    created = ("", "there", "file", "missing/deeper", "/tempZone/home/bob/mine", "/tempZone/mine", "../x", "<b>/c")
    for action, path in (*(("choose", one) for one in chosen), *(("create", one) for one in created)):
        answer = alice.send("/projects", f"/projects/{action}", path=path)
        assert answer.status_code in (400, 403, 404, 409), (action, path, answer.text)
        assert 'role="alert"' in answer.text, path
        assert "<script>alert" not in answer.text
        assert "set-cookie" not in answer.headers
    for action in ("choose", "create"):
        assert alice.http.post(f"/projects/{action}", data={"path": "there"}).status_code == 403
        assert visit("").http.post(f"/projects/{action}", data={"path": "there"}).status_code == 401
    with pytest.raises(NotFound):
        site.alice.stat(f"{HOME}/missing")


def test_a_project_is_that_of_one_user(visit: Visit, site: TrialSite) -> None:
    """And a cookie that somebody made up gives nothing."""
    site.alice.create_collection(f"{HOME}/shared")
    site.alice.set_access(f"{HOME}/shared", BOB, Access.READ_OBJECT)
    alice = visit("alice")
    alice.send("/projects", "/projects/choose", path="shared")
    assert "bob#tempZone</td><td>read object" in alice.http.get("/projects").text
    alice.send("/projects", "/sign-out")
    assert alice.sign_in("bob").status_code == 303
    assert (
        'aria-current="true"><td class="what"><strong>/tempZone/home/bob</strong>' in alice.http.get("/projects").text
    )
    bob = visit("bob")
    for owner, path in (
        ("bob#tempZone", f"{HOME}/private"),
        ("bob#tempZone", "/tempZone/home/alice"),
        ("bob#tempZone", "relative"),
        ("bob#tempZone", "/" + "x" * 5000),
        ("alice#tempZone", f"{HOME}/shared"),
        ("bob#tempZone", "/tempZone/\0"),
        ("bob#tempZone", "/tempZone/<b>"),
        ("%", "%"),
    ):
        cookie = f"{quote(owner, safe='')}&{quote(path, safe='')}" if owner != "%" else "%&%ff%"
        bob.http.cookies.set("c2d_project", cookie)
        answer = bob.http.get("/projects")
        assert answer.status_code == 200, (path, answer.text)
        assert "<b>" not in answer.text
        assert "alice#tempZone" not in answer.text
        assert bob.http.get("/tasks").status_code == 200
        bob.http.cookies.delete("c2d_project")


def test_a_project_that_is_gone(visit: Visit, site: TrialSite) -> None:
    alice = visit("alice")
    alice.send("/projects", "/projects/create", path="study")
    site.alice.remove(f"{HOME}/study", recursive=True)
    answer = alice.http.get("/projects")
    assert "does not exist, or you may not read it. Choose another" in answer.text
    for page in ("/datasets", "/new/command"):
        answer = alice.http.get(page)
        assert answer.status_code == 404
        assert "does not exist, or you may not read it" in answer.text
        assert 'href="/projects"' in answer.text
    assert alice.http.get("/tasks").status_code == 200
    alice.send("/projects", "/projects/choose", path=HOME)
    assert alice.http.get("/datasets").status_code == 200


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_in_a_browser_by_keyboard(browser: Browser, gateway: RunningGateway, tmp_path: Path, script: bool) -> None:
    with looking(browser, gateway.url, java_script_enabled=script) as page:
        sign_in(page, "alice", PASSWORDS["alice"])
        page.get_by_role("link", name="Projects").focus()
        page.keyboard.press("Enter")
        page.wait_for_url("**/projects")
        page.get_by_label("A new project").focus()
        page.keyboard.type("study")
        page.keyboard.press("Enter")
        chosen = page.get_by_role("row", name=f"{HOME}/study")
        expect(chosen).to_contain_text("You work here")
        if script:
            assert barriers(page) == []
        page.get_by_role("link", name="Datasets").click()
        (tmp_path / "a.txt").write_text("content")
        page.get_by_label("Single files").set_input_files(tmp_path / "a.txt")
        page.get_by_role("button", name="Upload").click()
        expect(page.get_by_role("heading", name="a.txt")).to_be_visible()
        page.get_by_role("link", name="Projects").click()
        page.get_by_role("button", name=f"Work in {HOME}", exact=True).focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("row", name=f"{HOME} home")).to_contain_text("You work here")
        page.get_by_role("link", name="Datasets").click()
        expect(page.get_by_text("You have no datasets yet")).to_be_visible()
