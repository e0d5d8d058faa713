"""The pictures of the pages: the script makes them out of the commands on the pages, and they are committed."""

from __future__ import annotations

import re
import shutil
from html import unescape
from pathlib import Path

import pytest
from support import gateway_pictures
from support.pages import PAGES, blocks, commands
from support.reader import images_of_the_pages
from support.screenshots import IMAGES, drawn, main

PICTURES = {block.picture: block for page in PAGES for block in blocks(page) if block.picture}

TERMINALS = [name for name in PICTURES if name.endswith(".svg")]
REPORTS = [*(name for name in PICTURES if name.endswith(".png")), *gateway_pictures.NAMES]


def words(picture: str) -> str:
    """What stands in a picture, without spaces and ``>``, which may stand where a line ends."""
    return bare("".join(unescape(one) for one in re.findall(r"<text [^>]*>(.*?)</text>", picture)))


def bare(text: str) -> str:
    return re.sub(r"[\s>]", "", text)


def shows_its_commands(name: str, picture: str) -> bool:
    return all(bare(one.text) in words(picture) for one in commands(PICTURES[name]))


def test_the_words_of_a_picture_can_be_read() -> None:
    assert words(drawn("\x1b[1mc2d run\x1b[0m <a>\nb")) == "c2drun<ab"


@pytest.mark.parametrize("name", TERMINALS)
def test_each_picture_is_there_and_small_and_shows_the_commands_of_its_page(name: str) -> None:
    picture = (IMAGES / name).read_text(encoding="utf-8")
    assert shows_its_commands(name, picture)
    assert len(picture) < 60_000
    assert set(re.findall(r"https?://[\w.]+", picture)) <= {"http://www.w3.org", "https://www.textualize.io"}
    assert "/tmp/" not in picture


@pytest.mark.parametrize("name", REPORTS)
def test_each_picture_of_a_report_is_there_and_small(name: str) -> None:
    assert (IMAGES / name).stat().st_size < 120_000


def test_each_picture_on_a_page_is_one_that_the_script_makes() -> None:
    for page in PAGES:
        for name in re.findall(r"!\[[^\]]+\]\((?:docs/)?images/([^)]+)\)", page.read_text(encoding="utf-8")):
            assert name in {*PICTURES, *gateway_pictures.NAMES}
    assert {file.name for file in IMAGES.iterdir()} == {*PICTURES, *gateway_pictures.NAMES}


@pytest.mark.docker
def test_the_script_makes_them(docker_answers: None, tmp_path: Path) -> None:
    with images_of_the_pages():
        made = main(["--directory", str(tmp_path)])
    assert made == (0 if shutil.which("chromium") else 1)
    for name in REPORTS if made == 0 else []:
        assert (tmp_path / name).stat().st_size > 5_000
    for name in TERMINALS:
        assert shows_its_commands(name, (tmp_path / name).read_text(encoding="utf-8"))
