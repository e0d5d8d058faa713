"""What stands on the pages is well-formed, also where it is not run: commands, options, documents, programs."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.pages import LANGUAGES, PAGES, ROOT, Block, blocks, calls, commands

from compute_to_data import site_file
from compute_to_data.cli.command import LateParser
from compute_to_data.cli.main import parser
from compute_to_data.documents.process_definition import parse_process

BLOCKS = [block for page in PAGES for block in blocks(page)]
INLINE = re.compile(r"(?<!`)`(c2d [^`\n]+)`(?!`)")


def of(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


def test_each_block_says_what_it_is() -> None:
    assert {block.place: block.language for block in BLOCKS if block.language not in LANGUAGES} == {}


def test_no_command_stands_in_a_text() -> None:
    typed = re.compile(r"^\s*(\$ |c2d )", re.MULTILINE)
    assert [block.place for block in of("text") if typed.search(block.content)] == []


@pytest.mark.parametrize("block", of("console"), ids=lambda block: block.place)
def test_each_command_and_option_exists(block: Block) -> None:
    for command in commands(block):
        for words in calls(command.text):
            assert accepts(words), f"{command.place}: c2d {' '.join(words)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_command_in_a_sentence_exists(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for typed in INLINE.findall(text):
        assert list(unknown(typed.split()[1:])) == [], f"`{typed}`"


@pytest.mark.parametrize("block", of("json"), ids=lambda block: block.place)
def test_each_document_can_be_read(block: Block, tmp_path: Path) -> None:
    document = json.loads(block.content)
    if "image" in document:
        parse_process(document)
    elif "images" in document:
        file = tmp_path / "compute_to_data.json"
        file.write_text(block.content, encoding="utf-8")
        site_file.load(str(file))


@pytest.mark.parametrize("block", of("python"), ids=lambda block: block.place)
def test_each_program_is_python(block: Block) -> None:
    compile(block.content, block.place, "exec")


def test_the_tutorial_says_how_much_of_a_log_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "compute_to_data.json"
    file.write_text('{"zone": {"kind": "irods"}}', encoding="utf-8")
    kept = site_file.load(str(file)).default_limits.log_bytes
    assert f"up to {kept >> 20} MiB" in (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")


def test_each_command_is_run_on_a_page() -> None:
    run = [words for block in of("console") if not block.reason for one in commands(block) for words in calls(one.text)]
    missing = [words for words in _commands(parser()) if not any(one[: len(words)] == words for one in run)]
    assert [" ".join(words) for words in missing] == []


def accepts(words: list[str]) -> bool:
    """Whether the command line is right, as far as one can see without a zone."""
    own = words[: words.index("--")] if "--" in words else words
    try:
        options, rest = parser().parse_known_args(own)
    except SystemExit as end:
        return end.code == 0  # --help, --version
    return hasattr(options, "run") and not rest and options.takes_program == ("--" in words)


def _commands(found: argparse.ArgumentParser, words: Sequence[str] = ()) -> Iterator[list[str]]:
    """The words of each command."""
    below = _below(found)
    if not below:
        yield list(words)
    for name, one in below.items():
        yield from _commands(one, (*words, name))


def _below(found: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands below a command."""
    if isinstance(found, LateParser):
        found.complete()
    for action in found._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def unknown(words: list[str]) -> Iterator[str]:
    """The words of a command in a sentence, perhaps shortened, that name no command and no option of it."""
    found: argparse.ArgumentParser = parser()
    for word in words:
        if word == "--":
            return
        below = _below(found)
        if below and not word.startswith("-"):
            if word not in below:
                yield word
                return
            found = below[word]
        elif word.startswith("-") and word.partition("=")[0] not in found._option_string_actions:
            yield word
