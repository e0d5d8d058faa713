"""Links between pages lead somewhere, and pages name files of the repository that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("containers/*/*.md")])
TOP = "compute_to_data|tests|examples|rules|packaging|containers|docs"
LINK = re.compile(r"\]\(([^)\s#:]*)(?:#([^)\s]+))?\)")
REPOSITORY_PATH = re.compile(rf"(?<![\w./-])(?:\./)?((?:{TOP})/[\w./*-]*)")
DOTTED_NAME = re.compile(r"(?<![\w./:-])compute_to_data\.(?!json)([A-Za-z_][\w.]*)")


def _page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _headings(page: Path) -> set[str]:
    """The anchors that links may name on a page."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in found}


@pytest.mark.parametrize("page", PAGES, ids=_page_name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for name, heading in LINK.findall(page.read_text(encoding="utf-8")):
        target = page.parent / name if name else page
        assert target.exists(), name
        if heading:
            assert heading in _headings(target), f"{name}#{heading}"


@pytest.mark.parametrize("page", PAGES, ids=_page_name)
def test_every_named_file_of_the_repository_exists(page: Path) -> None:
    """``compute_to_data/...``, ``tests/...`` and the like, in text and in commands; ``*`` matches any name."""
    for path in REPOSITORY_PATH.findall(page.read_text(encoding="utf-8")):
        assert list(ROOT.glob(path.rstrip("/."))), path


@pytest.mark.parametrize("page", PAGES, ids=_page_name)
def test_every_named_module_exists(page: Path) -> None:
    """``compute_to_data.package.module``, perhaps followed by a name that the module's source contains."""
    for dotted in DOTTED_NAME.findall(page.read_text(encoding="utf-8")):
        assert _exists(dotted.rstrip(".").split(".")), f"compute_to_data.{dotted}"


def _exists(names: list[str]) -> bool:
    place = ROOT / "compute_to_data"
    while names and (place / names[0]).is_dir():
        place = place / names.pop(0)
    if names and (place / f"{names[0]}.py").is_file():
        place = place / f"{names.pop(0)}.py"
    source = place if place.is_file() else place / "__init__.py"
    return not names or re.search(rf"\b{names[0]}\b", source.read_text(encoding="utf-8")) is not None
