"""The pages in Chromium, as people use them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from support.browsers import DESK, PHONE, barriers, drop, looking, sign_in
from support.gateways import PASSWORDS, RunningGateway
from support.notebook_sites import notebook_site
from support.site import COMPUTE, HOME, PATIENCE, WAITS, TrialSite

from compute_to_data.client import datasets, processes
from compute_to_data.submission.submit import Submitted

expect.set_options(timeout=1000 * PATIENCE)
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEklEQVR4nGNgYPiPAw0tCQYGAFJNP8E4k7XnAAAAAElFTkSuQmCC"


@pytest.fixture
def site(tmp_path: Path) -> TrialSite:
    return notebook_site(tmp_path)


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    """It takes parameters, prints, draws and writes."""
    sources = [
        "threshold = 3  # what counts as large\nfile = '/inputs/input.dat'\nword = 'values'",
        "values = [float(line) for line in open(file)]\n"  # the process engine knows /inputs in parameters only
        "print(sum(one > threshold for one in values), word, 'are large')",
        f"import base64\nopen('picture.png', 'wb').write(base64.b64decode({PICTURE!r}))\n"
        "open('table.csv', 'w').write('name,value\\nfirst,1\\n')",
    ]
    cells = [
        {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "execution_count": None}
        for source in sources
    ]
    cells[0]["metadata"] = {"tags": ["parameters"]}
    path = tmp_path / "large.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "measurements"
    (place / "deep" / "er").mkdir(parents=True)
    (place / "input.dat").write_text("1\n5\n7\n")
    (place / "deep" / "er" / "b.csv").write_text("x,y\n1,2\n")
    return place


def as_alice(page: Page) -> None:
    sign_in(page, "alice", PASSWORDS["alice"])


@pytest.mark.usefixtures("working")
def test_a_task_is_followed_and_cancelled(browser: Browser, gateway: RunningGateway, site: TrialSite) -> None:
    begins, ends = "echo first line; printf 'at 10%%\\rat 20%%\\r'", "echo; echo '<b>last</b> line'"
    waits = site.submit(site.request("/bin/sh", "-c", f"{begins}; {WAITS}; {ends}", name="to follow"))
    with looking(browser, gateway.url) as page:
        as_alice(page)
        page.get_by_role("link", name="to follow").click()
        log = page.get_by_role("log", name="stdout")
        expect(log).to_contain_text("first line")
        expect(log).to_contain_text("at 20%")
        expect(log).not_to_contain_text("at 10%")
        assert page.get_by_role("heading", name="Results").count() == 0
        site.let_go(waits)
        expect(log).to_contain_text("<b>last</b> line")  # as text
        expect(page.locator(".lead .state")).to_have_text("Completed")  # without a reload
        expect(page.get_by_role("heading", name="Results")).to_be_visible()
        page.get_by_role("button", name="Run again").click()
        expect(log).to_contain_text("first line")
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator(".lead .state")).to_have_text("Cancelled")
        page.get_by_role("link", name="Tasks").first.click()
        expect(page.get_by_role("row", name="to follow")).to_have_count(2)
        page.get_by_role("button", name="Sign out").click()
        expect(page).to_have_url(re.compile("/sign-in$"))
        page.goto("/tasks")
        expect(page).to_have_url(re.compile("/sign-in"))


@pytest.mark.usefixtures("working")
def test_from_a_dropped_folder_and_a_notebook_to_its_report(
    browser: Browser, gateway: RunningGateway, notebook: Path, folder: Path
) -> None:
    with looking(browser, gateway.url, expected="Blocked script execution") as page:  # those of the report
        as_alice(page)
        page.get_by_role("link", name="Datasets").click()
        drop(page, ".drop", folder)
        expect(page.locator("[data-said]")).to_contain_text("2 files")
        page.get_by_role("button", name="Upload").click()
        expect(page.get_by_role("heading", name="measurements")).to_be_visible()
        expect(page.get_by_role("link", name="deep/")).to_be_visible()
        page.get_by_role("link", name="Use in a task").click()
        page.get_by_label("Of this computer").set_input_files(notebook)
        page.get_by_role("button", name="Upload and go on").click()
        assert page.get_by_label("word").input_value() == "values"
        expect(page.get_by_text("what counts as large")).to_be_visible()
        assert page.get_by_role("checkbox", name="measurements").is_checked()
        page.get_by_label("threshold").fill("4")
        page.get_by_label("file", exact=True).fill("/inputs/input.dat")
        page.get_by_label("Image").select_option("tools")
        page.get_by_role("button", name="Submit the task").click()
        expect(page.locator(".lead .state")).to_have_text("Completed")
        expect(page.get_by_role("log", name="stdout")).to_contain_text("2 values are large")
        report = page.frame_locator("iframe.report")
        expect(report.locator("body")).to_contain_text("2 values are large")
        shown = page.get_by_role("img", name="picture.png")
        shown.scroll_into_view_if_needed()
        page.wait_for_function(
            "name => document.querySelector(`img[alt='${name}']`).naturalWidth === 8", arg="picture.png"
        )
        expect(page.get_by_role("cell", name="first")).to_be_visible()
        with page.expect_download() as begun:
            page.get_by_role("link", name="Fetch as zip").click()
        assert Path(begun.value.path()).read_bytes().startswith(b"PK")


def test_a_session_that_ends_loses_nothing(browser: Browser, gateway: RunningGateway, folder: Path) -> None:
    """Neither what was dropped nor what was typed."""

    def end_session() -> None:
        gateway.gateway.people.tokens.tend(everything=True)

    with looking(browser, gateway.url, expected="status of 401") as page:
        as_alice(page)
        page.goto("/datasets")
        said, out = page.locator("[data-said]"), page.locator("[data-signed-out]")
        drop(page, ".drop", folder)
        expect(said).to_contain_text("2 files")
        drop(page, ".drop", folder / "input.dat")
        expect(said).to_contain_text("3 files")
        drop(page, ".drop", folder)
        expect(said).to_contain_text("3 files")  # those of the folder took the place of the ones before
        end_session()
        page.get_by_role("button", name="Upload").click()
        expect(out).to_be_visible()
        with page.context.expect_page() as opened:
            out.get_by_role("link").click()
        as_alice(opened.value)
        page.get_by_role("button", name="Upload").click()
        expect(page.get_by_role("heading", name="input.dat and 1 more")).to_be_visible()
        expect(out).to_have_count(0)
        page.goto("/new/command")
        page.get_by_label("Command").fill("echo 'typed by hand'")
        page.get_by_label("Image").select_option("tools")
        end_session()
        page.get_by_role("button", name="Submit the task").click()
        assert barriers(page) == []
        page.get_by_label("User name").fill("alice")
        page.get_by_label("Password").fill(PASSWORDS["alice"])
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_text("echo 'typed by hand'")).to_be_visible()
        assert barriers(page) == []
        page.get_by_role("button", name="Change it first").click()
        expect(page.get_by_label("Command")).to_have_value("echo 'typed by hand'")
        page.get_by_role("button", name="Submit the task").click()
        page.wait_for_url("**/tasks/*-*")


@pytest.mark.usefixtures("working")
def test_what_strangers_wrote_runs_nothing(browser: Browser, gateway: RunningGateway, site: TrialSite) -> None:
    """In the name of a task, its log while it is written, a file's name, and a report."""
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    report = f"<h1>report</h1>{hostile}<script>top.location='/sign-in'; fetch('/tasks')</script>"
    writes = f"echo '{hostile}' > '<img src=x onerror=alert(3)>.txt'; echo \"{report}\" > r.html"
    script = f"echo '{hostile}'; {WAITS}; {writes}"
    task = site.submit(site.request("/bin/sh", "-c", script, name=hostile))
    asked: list[str] = []
    with looking(browser, gateway.url, expected='document\'s frame is sandboxed|"img-src data:"') as page:
        page.on("dialog", lambda dialog: asked.append(dialog.message))
        page.on("dialog", lambda dialog: dialog.dismiss())
        as_alice(page)
        page.goto(f"/tasks/{task.task_id}")
        expect(page.get_by_role("log", name="stdout")).to_contain_text("<script>alert(2)")
        site.let_go(task)
        expect(page.locator(".lead .state")).to_have_text("Completed")
        frame = page.frame_locator("iframe.report")
        expect(frame.get_by_role("heading", name="report")).to_be_visible()
        (inner,) = page.main_frame.child_frames
        assert inner.evaluate("window.origin") == "null"
        page.goto("/tasks")
        expect(page.get_by_role("link", name="<script>alert(2)")).to_be_visible()
        assert asked == []
        assert page.evaluate("document.querySelectorAll('main img, main script').length") == 0


@pytest.mark.usefixtures("working")
def test_without_javascript(browser: Browser, gateway: RunningGateway, site: TrialSite, folder: Path) -> None:
    with looking(browser, gateway.url, java_script_enabled=False) as page:
        as_alice(page)
        page.get_by_role("link", name="Datasets").click()
        page.get_by_label("A folder").set_input_files(folder)
        page.get_by_role("button", name="Upload").click()
        expect(page.get_by_role("heading", name="measurements")).to_be_visible()
        expect(page.get_by_role("link", name="input.dat", exact=True)).to_be_visible()
        page.get_by_role("link", name="New task").click()
        page.get_by_role("link", name="A command in an image").click()
        page.get_by_label("Command").fill(f"/bin/sh -c 'echo begun; {WAITS}; echo x > /outputs/a.txt'")
        page.get_by_role("checkbox", name="measurements").check()
        page.get_by_role("button", name="Submit the task").click()
        page.wait_for_url("**/tasks/*-*")
        task = page.url.rpartition("/")[2]
        site.outputs(Submitted(task, f"{HOME}/c2d_results/{task}", COMPUTE, False))
        page.get_by_role("link", name="Show the log so far").click()
        expect(page.get_by_role("log", name="stdout")).to_contain_text("begun")
        page.get_by_role("button", name="Cancel").click()
        until_it_is(page, "Cancelled")
        page.get_by_role("button", name="Run again").click()
        page.get_by_role("button", name="Cancel").click()
        until_it_is(page, "Cancelled")
        page.get_by_role("button", name="Sign out").click()
        expect(page).to_have_url(re.compile("/sign-in$"))


def until_it_is(page: Page, state: str) -> None:
    """Reload until the task is in this state."""
    for _ in range(1000):
        if page.locator(".lead .state").text_content() == state:
            return
        page.reload()
    raise AssertionError(f"the task never was {state}")


@pytest.mark.usefixtures("working")
def test_by_keyboard(browser: Browser, gateway: RunningGateway, site: TrialSite) -> None:
    site.outputs(site.submit(site.request("/bin/sh", "-c", WAITS, name="only one")))
    with looking(browser, gateway.url) as page:
        page.goto("/sign-in")
        page.keyboard.type("alice")  # the field has the focus
        page.keyboard.press("Tab")
        page.keyboard.type(PASSWORDS["alice"])
        page.keyboard.press("Enter")
        page.wait_for_url("**/tasks")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Enter")
        seen = []
        for _ in range(12):
            page.keyboard.press("Tab")
            seen.append(page.evaluate("document.activeElement.textContent || document.activeElement.name").strip())
            if "only one" in seen[-1]:
                break
        assert "Sign out" not in seen  # the head of the page was skipped
        assert "only one" in seen[-1]
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="only one")).to_be_visible()
        page.get_by_role("button", name="Cancel").focus()
        page.keyboard.press("Enter")
        expect(page.locator(".lead .state")).to_have_text("Cancelled")


@pytest.mark.parametrize(("size", "scheme"), [(DESK, "light"), (PHONE, "dark")])
def test_pages_keep_nobody_out(
    browser: Browser, gateway: RunningGateway, site: TrialSite, folder: Path, size: dict[str, int], scheme: str
) -> None:
    """axe-core finds nothing, and nothing is wider than the screen."""
    bench = gateway.gateway.people.on_behalf_of(site.alice.user).workbench()
    schema = {"properties": {"lines": {"type": "integer", "description": "how many"}, "mode": {"enum": ["a", "b"]}}}
    definition = {"exec": "x", "image": "tools", "argv": ["${lines}", "${mode}"], "parameters": schema}
    process = processes.create(bench, definition, "a-definition")
    dataset = datasets.upload(bench, str(folder)).dataset
    script = (
        "echo 'a,b\n1,2' > t.csv; echo long/$(printf 'x%.0s' $(seq 300)); echo no >&2; echo '<p>Hi' > r.html; exit 1"
    )
    site.run(site.request("/bin/sh", "-c", script, name="failed " + "name" * 40))
    waiting = site.submit(
        site.request("/bin/true", name="waits", inputs=[f"{HOME}/datasets/{dataset}/files/input.dat"])
    )
    site.submit(site.request("/bin/true"))
    with looking(browser, gateway.url, viewport=size, color_scheme=scheme) as page:
        page.goto("/sign-in")
        found = barriers(page)
        as_alice(page)
        page.get_by_role("link", name="failed").click()
        page.wait_for_url("**/tasks/*")
        failed = page.url.removeprefix(gateway.url)
        for path in (
            failed, f"{failed}/files/failed/t.csv", "/tasks", f"/tasks/{waiting.task_id}", "/new", "/new/command",
            f"/new/process/{process.id}", "/datasets", f"/datasets/{dataset}", "/workloads", "/projects", "/resources",
        ):  # fmt: skip
            page.goto(path)
            found += barriers(page)
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= size["width"], (path, width)
        assert found == []
