"""The gateway's pages in Chromium on a real zone: a person with a native password, from an upload to a download.

``tests/support/irods_site.py`` says what the tests need.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, Page, expect
from support.browsers import chromium, drop, looking, sign_in
from support.irods_site import ENVIRONMENT, NO_ZONE, RealSite, let_go, sandboxed_site
from support.reading import ENOUGH
from support.real_gateway import serving
from support.site import PATIENCE, WAITS

if TYPE_CHECKING:
    from contract.irods_zone import IrodsZoneUnderTest

pytestmark = [
    pytest.mark.skipif(not os.environ.get(ENVIRONMENT), reason=NO_ZONE),
    pytest.mark.docker,
]
expect.set_options(timeout=1000 * PATIENCE)


@pytest.fixture(scope="module")
def site(zone: IrodsZoneUnderTest, docker_answers: None) -> RealSite:
    return sandboxed_site(zone)


@pytest.fixture(scope="module")
def gateway(site: RealSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(site, tmp_path_factory.mktemp("gateway")) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "measurements"
    (place / "deep").mkdir(parents=True)
    (place / "input.dat").write_text("1\n5\n7\n")
    (place / "deep" / "b.csv").write_text("x,y\n1,2\n")
    return place


def a_command(page: Page, command: str, name: str, compute: str) -> None:
    """Fill in the form for a command, which is open."""
    page.get_by_label("Command").fill(command)
    page.get_by_label("Resource").select_option(compute)
    page.get_by_label("Name of the task").fill(name)


def test_from_a_dropped_folder_to_downloaded_results(
    browser: Browser, gateway: str, site: RealSite, zone: IrodsZoneUnderTest, compute: str, folder: Path
) -> None:
    user = site.alice.user
    with looking(browser, gateway) as page:
        sign_in(page, user.name, zone.password(user))
        page.get_by_role("link", name="Datasets").click()
        drop(page, ".drop", folder)
        expect(page.locator("[data-said]")).to_contain_text("2 files")
        page.get_by_role("button", name="Upload").click()
        expect(page.get_by_role("heading", name="measurements")).to_be_visible()
        dataset = page.url.rpartition("/")[2]
        with page.expect_download() as begun:
            page.get_by_role("link", name="Download as zip").click()
        assert contents(Path(begun.value.path()))["input.dat"] == b"1\n5\n7\n"
        page.get_by_role("link", name="Use in a task").click()
        page.get_by_role("link", name="A command in an image").click()
        assert page.get_by_role("checkbox", name="measurements").is_checked()
        script = f"echo first line; {WAITS}; sort -r /inputs/input.dat | tee /outputs/sorted.txt"
        a_command(page, f"/bin/sh -c '{script}'", "to follow", compute)
        page.get_by_role("button", name="Submit the task").click()
        expect(page.get_by_role("heading", name="to follow")).to_be_visible()
        task = page.url.rpartition("/")[2]
        log = page.get_by_role("log", name="stdout")
        expect(log).to_contain_text("first line")
        collection = f"/{user.zone}/home/{user.name}/c2d_results/{task}"
        let_go(site, collection, compute)
        expect(page.locator(".lead .state")).to_have_text(re.compile("Completed|Failed"))
        expect(log).to_contain_text("7")
        expect(page.locator(".lead .state")).to_have_text("Completed")
        assert site.alice.read(f"{collection}/sorted.txt", ENOUGH) == b"7\n5\n1\n"
        with page.expect_download() as begun:
            page.get_by_role("link", name="Fetch as zip").click()
        assert contents(Path(begun.value.path()))["sorted.txt"] == b"7\n5\n1\n"
        page.goto(f"/datasets/{dataset}")
        expect(page.get_by_role("link", name=task)).to_be_visible()


def contents(archive: Path) -> dict[str, bytes]:
    """The files of a zip archive, by their names without folders."""
    with zipfile.ZipFile(io.BytesIO(archive.read_bytes())) as opened:
        return {name.rpartition("/")[2]: opened.read(name) for name in opened.namelist()}


def test_a_task_is_cancelled_and_run_again(
    browser: Browser, gateway: str, site: RealSite, zone: IrodsZoneUnderTest, compute: str
) -> None:
    user = site.alice.user
    with looking(browser, gateway) as page:
        sign_in(page, str(user), zone.password(user))
        page.goto("/new/command")
        a_command(page, "/bin/sh -c 'echo begun; sleep 600'", "to cancel", compute)
        page.get_by_role("button", name="Submit the task").click()
        expect(page.get_by_role("log", name="stdout")).to_contain_text("begun")
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator(".lead .state")).to_have_text("Cancelled")
        page.get_by_role("button", name="Run again").click()
        expect(page.get_by_role("log", name="stdout")).to_contain_text("begun")
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator(".lead .state")).to_have_text("Cancelled")
        page.get_by_role("link", name="Tasks").first.click()
        expect(page.get_by_role("row", name="to cancel")).to_have_count(2)
        page.get_by_role("button", name="Sign out").click()
        expect(page).to_have_url(re.compile("/sign-in$"))


def test_somebody_else(browser: Browser, gateway: str, site: RealSite, zone: IrodsZoneUnderTest, compute: str) -> None:
    """A wrong password opens nothing, and with the right one of another user alice's tasks cannot be found."""
    bob = zone.make_user()
    submitted = site.submit(site.request("/bin/true", role=site.role, name="of alice"))
    site.ended(submitted)
    with looking(browser, gateway, expected="401|404") as page:
        page.goto("/sign-in")
        page.get_by_label("User name").fill(bob.name)
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("password")
        sign_in(page, bob.name, zone.password(bob))
        expect(page.get_by_text("of alice")).to_have_count(0)
        answer = page.goto(f"/tasks/{submitted.task_id}")
        assert answer is not None
        assert answer.status == 404
