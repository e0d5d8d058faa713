"""The blocks of the pages, and what the pages say about them.

A page has blocks of these languages:

``console``
    Lines that begin with ``$ `` are commands; ``> `` continues one. What follows is what the command prints,
    both streams together, down to the next command. A command without lines below it may print anything.
    ``...`` stands for text that varies: within a line for a part of it, alone on a line for any number of
    lines. An id (``d-4f0c2a97b311``, ``3f2a7c1e``, a whole UUID) stands for the one that appears in its
    place, here and in all commands below it. A command must succeed, unless the next one is ``echo $?``.
``python``
    A program. The block ``text`` right below it is what it prints.
``json``
    A document. A request, and a task with a process definition, are submitted, and must end as COMPLETED.
    A configuration is loaded.
``text``, ``dockerfile``
    Anything else. No command stands there.

``<!-- picture: NAME.svg -->`` right above a ``console`` block: ``make screenshots`` makes docs/images/NAME.svg of it.
``<!-- picture: NAME.png of FILE -->``: it makes the picture of FILE, a page that the block's commands have brought.
``<!-- not run: REASON -->`` right above a block, or ``<!-- not run below: REASON -->`` for all blocks after it, says
why a block is only checked: its ``c2d`` commands are parsed, its documents read.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/*/README.md")])
LANGUAGES = ("console", "python", "json", "text", "dockerfile", "nginx")
_FENCE = re.compile(r"^( *)```(.*)$")
_MARK = re.compile(r"^<!-- not run( below)?: (.+) -->$")
_PICTURE = re.compile(r"^<!-- picture: ([\w-]+\.(?:svg|png))(?: of (\S+))? -->$")
_PUNCTUATION = frozenset("();<>|&\n")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page. ``reason``: why it is not run ('' when it is). ``picture``: the name of its
    picture, or '', and ``pictured``: the page that it shows instead of the commands, or ''."""

    page: Path
    line: int
    language: str
    content: str
    reason: str
    picture: str
    pictured: str

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A command of a ``console`` block with the output that the page shows, None when it shows none."""

    place: str
    text: str
    shown: str | None


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order. ValueError for a block or mark that is not as described above."""
    return list(_blocks(page, page.read_text(encoding="utf-8").splitlines()))


def _blocks(page: Path, lines: list[str]) -> Iterator[Block]:
    below, once, picture = "", "", ("", "")
    rest = iter(enumerate(lines, 1))
    for number, line in rest:
        marked, fence, pictured = _MARK.match(line), _FENCE.match(line), _PICTURE.match(line)
        if marked and marked[1]:
            below = marked[2]
        elif marked:
            once = marked[2]
        elif pictured:
            picture = pictured[1], pictured[2] or ""
        elif fence:
            content = list(_until_the_fence(rest, fence[1]))
            yield Block(page, number, fence[2], "".join(f"{one}\n" for one in content), once or below, *picture)
            once, picture = "", ("", "")
        elif line.strip() and (once or picture[0]):
            raise ValueError(f"{page}:{number}: the mark above has no block below it")


def _until_the_fence(rest: Iterator[tuple[int, str]], indent: str) -> Iterator[str]:
    for _, line in rest:
        if line == f"{indent}```":
            return
        yield line.removeprefix(indent)
    raise ValueError("a block does not end")


def commands(block: Block) -> list[Command]:
    """The commands of a ``console`` block. ValueError when it does not begin with one."""
    found: list[tuple[int, list[str], list[str]]] = []
    for number, line in enumerate(block.content.splitlines(), block.line + 1):
        if line.startswith("$ "):
            found.append((number, [line[2:]], []))
        elif not found:
            raise ValueError(f"{block.place}: the block does not begin with a command")
        elif line.startswith("> ") or line == ">":
            found[-1][1].append(line[2:])
        else:
            found[-1][2].append(line)
    return [
        Command(f"{block.page.relative_to(ROOT)}:{number}", "\n".join(words), "\n".join(shown) if shown else None)
        for number, words, shown in found
    ]


def calls(text: str, program: str = "c2d") -> list[list[str]]:
    """The words of each call of ``program`` in shell commands, also in pipes and in ``$(...)``.

    A variable stays as it is written.
    """
    found: list[list[str]] = []
    inner: list[list[str]] = []
    for line in _without_documents(text.replace("\\\n", " ")):
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
        lexer.whitespace_split = True
        begins = within = False
        for word in (";", *lexer):
            if set(word) <= _PUNCTUATION:
                begins, within = True, False
            elif within:
                found[-1].append(word)
            elif begins and word == program:
                within = True
                found.append([])
            elif not re.fullmatch(r"\w+=.*", word):  # a variable for the command that follows
                begins = False
            if "$(" in word:
                inner += calls(word.partition("$(")[2].rpartition(")")[0], program)
    return found + inner


def _without_documents(text: str) -> Iterator[str]:
    """The lines of a command; those of a here-document are left out, but for commands that the shell runs in it."""
    end = ""
    for line in text.splitlines():
        if end:
            yield from (f"({inner})" for inner in re.findall(r"\$\(([^()]*)\)", line))
            end = "" if line == end else end
            continue
        found = re.search(r"<<-?\s*['\"]?(\w+)", line)
        end = found[1] if found else ""
        yield line[: found.start()] + line[found.end() :].lstrip("'\"") if found else line
