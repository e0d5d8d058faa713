"""What runs the pages finds what is wrong with them: the notation of tests/support/pages.py, and the shell."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
from support import pages
from support.console import Page, Shell
from support.pages import blocks, calls, commands


def page(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pages, "ROOT", folder)
    file = folder / "page.md"
    file.write_text(text, encoding="utf-8")
    return file


def test_commands_go_on_and_show_what_they_print(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "# A\n\n```console\n$ one \\\n>     two\nsaid\n\nmore\n$ three\n```\n"
    (block,) = blocks(page(tmp_path, text, monkeypatch))
    first, second = commands(block)
    assert (first.place, first.text, first.shown) == ("page.md:4", "one \\\n    two", "said\n\nmore")
    assert (second.place, second.text, second.shown) == ("page.md:9", "three", None)


def test_a_mark_is_for_one_block_or_for_all_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = "```text\n```\n\n"
    text = f"{block}<!-- not run: a -->\n\n{block}{block}<!-- not run below: b -->\n\nA sentence.\n\n{block}{block}"
    assert [one.reason for one in blocks(page(tmp_path, text, monkeypatch))] == ["", "a", "", "b", "b"]


@pytest.mark.parametrize("text", ["<!-- not run: a -->\n\nNo block.\n", "```text\nno end\n"])
def test_a_mark_without_a_block_and_a_block_without_an_end_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    with pytest.raises(ValueError, match=r"no block|does not end"):
        blocks(page(tmp_path, text, monkeypatch))


@pytest.mark.parametrize(
    ("shown", "printed", "right"),
    [
        ("a\nb", "a\nb\n", True),
        ("a\nb", "a\nb", True),
        ("a", "a\nb\n", False),
        ("a\nb", "a\n", False),
        ("a\n...\nd", "a\nb\nc\nd\n", True),
        ("a\n...\nd", "a\nd\n", True),
        ("a\n...\nd", "a\nb\nc\n", False),
        ("took ... s", "took 1.3 s\n", True),
        ("took ... s", "took 1.3\n s\n", False),
        ("a.c", "abc\n", False),
    ],
)
def test_dots_stand_for_what_varies(shown: str, printed: str, right: bool) -> None:
    assert Page().shows(shown, printed) is right


def test_an_id_stands_for_the_one_that_appears() -> None:
    seen = Page()
    assert seen.shows("d-4f0c2a97b311", "d-000000000001\n")
    assert seen.shows("task 3f2a7c1e-8d42-4b6e-9c55-0a1b2c3d4e5f", "task 11111111-2222-3333-4444-555555555555\n")
    assert seen.command("c2d fetch 3f2a d-4f0c2a97b311 out-3f2a") == "c2d fetch 1111 d-000000000001 out-1111"
    assert seen.shows("3f2a7c1e d-4f0c2a97b311", "11111111 d-000000000001\n")
    assert not seen.shows("3f2a7c1e", "22222222\n")
    assert not seen.shows("7b10e2c4", "no id\n")


def test_a_short_id_is_learned_first_and_the_whole_one_begins_with_it() -> None:
    seen = Page()
    assert seen.shows("3f2a7c1e", "11111111\n")
    assert not seen.shows("3f2a7c1e-8d42-4b6e-9c55-0a1b2c3d4e5f", "22222222-2222-3333-4444-555555555555\n")
    assert seen.shows("3f2a7c1e-8d42-4b6e-9c55-0a1b2c3d4e5f", "11111111-2222-3333-4444-555555555555\n")
    assert seen.command("c2d status 3f2a7c1e-8d42") == "c2d status 11111111-2222"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("c2d list", [["list"]]),
        ("c2d list | cut -f1; c2d status 3f2a && echo c2d", [["list"], ["status", "3f2a"]]),
        ("task=$(c2d list --limit 1 | cut -f1)", [["list", "--limit", "1"]]),
        ('echo "{\\"a\\": \\"$(c2d list)\\"}"', [["list"]]),
        ('c2d status "$(c2d list)" --wait', [["status", "$(c2d list)", "--wait"], ["list"]]),
        ("c2d submit - <<END\n{}\nEND\nc2d list", [["submit", "-"], ["list"]]),
        ("c2d run IMAGE -- sh -c 'c2d | wc; ls'", [["run", "IMAGE", "--", "sh", "-c", "c2d | wc; ls"]]),
        ("A=1 c2d run IMAGE \\\n -- ls > out", [["run", "IMAGE", "--", "ls"]]),
    ],
)
def test_the_calls_of_a_program_are_found_in_shell_commands(text: str, found: list[list[str]]) -> None:
    assert calls(text) == found


def test_a_shell_keeps_its_state_and_tells_how_a_command_ended(tmp_path: Path) -> None:
    with Shell(tmp_path, dict(os.environ), tmp_path) as shell:
        assert shell.run("mkdir a; cd a; x=1; echo out; echo error >&2; false") == (1, "out\nerror\n")
        assert shell.run("echo $? $x; basename $PWD; cat") == (0, "1 1\na\n")
        with pytest.raises(AssertionError, match="without an end"):
            shell.run("sleep 60", seconds=0.2)


def test_the_end_of_a_shell_takes_what_left_its_session(tmp_path: Path) -> None:
    """As a worker on demand does. It is gone when the block ends, after the time that its end takes."""
    script = "trap 'sleep 0.3; echo ended > end; exit' TERM; echo ready > ready; while :; do sleep 0.05; done"
    with Shell(tmp_path, dict(os.environ), tmp_path) as shell:
        shell.run(f"setsid sh -c {shlex.quote(script)} > /dev/null 2>&1 &")
        assert shell.run("until [ -s ready ]; do sleep 0.05; done") == (0, "")
    assert (tmp_path / "end").read_text() == "ended\n"
