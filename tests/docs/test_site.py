"""The site of the pages (``make docs``): it builds without a warning, has every page and needs no other server."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "docs" / "site"
PAGES = [path.relative_to(ROOT) for path in (*ROOT.glob("docs/**/*.md"), *ROOT.glob("containers/*/*.md"))]
_LOADED = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=\"?(https?://[^\s\">]+)")

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="Zensical needs Python 3.11")


def run(step: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Call a function of docs/site/build.py."""
    code = "import pathlib, sys, build; sys.exit(getattr(build, sys.argv[1])(pathlib.Path(sys.argv[2])))"
    command = [sys.executable, "-c", code, step, str(directory)]
    return subprocess.run(command, cwd=TOOLS, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("docs")
    for step in ("collect", "build"):
        done = run(step, directory)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "arning" not in done.stdout + done.stderr
    return directory / "site"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_each_page_is_in_the_site_and_in_its_navigation(site: Path, page: Path) -> None:
    built = page.with_name("index.html") if page.name == "README.md" else page.with_suffix(".html")
    assert (site / built).is_file()
    assert f'href="./{built}" class="md-nav__link"' in (site / "index.html").read_text(encoding="utf-8")


def test_a_page_asks_no_other_server_for_anything(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        assert _LOADED.findall(page.read_text(encoding="utf-8")) == [], page


@pytest.mark.parametrize(
    ("written", "said"),
    [("[a](nowhere.md)", "page does not exist"), ("[a](states.md#no-such-state)", "anchor does not exist")],
)
def test_a_broken_link_or_anchor_fails_the_build(tmp_path: Path, written: str, said: str) -> None:
    assert run("collect", tmp_path / "docs").returncode == 0
    with (tmp_path / "docs" / "pages" / "docs" / "tutorial.md").open("a", encoding="utf-8") as page:
        page.write(f"\n{written}\n")
    done = run("build", tmp_path / "docs")
    assert done.returncode == 1
    assert said in done.stdout + done.stderr
