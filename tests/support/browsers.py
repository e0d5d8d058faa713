"""Debian's Chromium, driven by playwright, for the tests of the gateway's pages and the pictures of them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from support.site import PATIENCE

SCRIPT = Path(__file__).with_name("chromium.sh")
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 900}


def need_chromium() -> str:
    """Where Chromium is. Installs it where it is missing, as root. Skips where that cannot be, with the reason; in CI
    that is a failure."""
    try:
        subprocess.run(["bash", str(SCRIPT)], check=True, capture_output=True, text=True, timeout=900)
    except (subprocess.SubprocessError, OSError) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{error} (tests/support/chromium.sh installs Chromium)")
    found = shutil.which("chromium")
    assert found is not None
    return found


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A running browser. It asks nobody but who a test names: no proxy."""
    words = [
        "--no-sandbox",
        "--disable-gpu",
        "--no-proxy-server",
        "--disable-component-update",
        "--disable-dev-shm-usage",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=need_chromium(), args=words)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def looking(browser: Browser, url: str, *, expected: str = "", **options: Any) -> Iterator[Page]:
    """A page of a new person's browser. What it complains about fails the test, except what ``expected`` finds."""
    context = browser.new_context(base_url=url, **{"viewport": DESK, **options})
    context.set_default_timeout(1000 * PATIENCE)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    try:
        yield page
        assert not [one for one in complaints if not expected or not re.search(expected, one)], complaints
    finally:
        context.close()


def sign_in(page: Page, name: str, password: str) -> None:
    """At the page for it, as a person does."""
    page.goto("/sign-in")
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").wait_for()


def barriers(page: Page) -> list[str]:
    """What axe-core finds on a page that keeps somebody out: WCAG 2.2 A and AA."""
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = Axe().run(page, options={"runOnly": {"type": "tag", "values": tags}})
    return [
        f"{page.url}: {one['id']}: {one['help']}: {[node['target'] for node in one['nodes']][:3]}"
        for one in found.response["violations"]
    ]


def drop(page: Page, selector: str, file: Path) -> None:
    """Drop a file or folder of this computer on a part of the page, as with a mouse."""
    box = page.locator(selector).bounding_box()
    assert box is not None
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        where = {"x": box["x"] + box["width"] / 2, "y": box["y"] + 12}
        session.send("Input.dispatchDragEvent", {"type": kind, "data": data, **where})
