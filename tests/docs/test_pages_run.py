"""Each command, program and request on the pages is run as it is written, in the shell of a new user."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.pages import PAGES, ROOT, blocks
from support.reader import FROM_NOTHING, Reader, images_of_the_pages

RUN = [page for page in PAGES if any(not one.reason and one.language != "text" for one in blocks(page))]


@pytest.fixture(scope="module")
def images(docker_answers: None) -> Iterator[None]:
    """The images of the pages, until the tests have ended."""
    with images_of_the_pages():
        yield


@pytest.mark.docker
@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_happens(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if page.name == "slurm.md":
        request.getfixturevalue("slurm_answers")
    reader = Reader(page, tmp_path, installs=str(page.relative_to(ROOT)) in FROM_NOTHING)
    with reader.shell:
        reader.prepare()
        found = blocks(page)
        for place, block in enumerate(found):
            after = found[place + 1] if place + 1 < len(found) else None
            if not block.reason:
                reader.follow(block, after.content if after and after.language == "text" else None)
