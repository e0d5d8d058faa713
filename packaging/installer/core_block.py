"""Our block in core.py: the guarded import of our core.py, between two marker lines.

We add it at the end of an administrator's core.py, after one line end, and remove it together with
that line end. So a removal restores the file byte for byte.
"""

from __future__ import annotations

import ast
from pathlib import Path

from installer.layout import InstallError

BEGIN = "# >>> compute_to_data >>> written by its installer: keep your own rules outside of these two lines"
END = "# <<< compute_to_data <<<"
HEADER = '"""Rules of this server, as its Python rule engine loads them."""\n\n__all__ = []\n'
"""The text before the block when there was no core.py."""

_BLOCK = """\
{begin}
from sys import path as _compute_to_data_path

if {agent!r} not in _compute_to_data_path:
    _compute_to_data_path.insert(0, {agent!r})

{guarded}

if "__all__" in globals():
    __all__ = [*__all__, *(_name for _name in {names!r} if _name not in __all__)]
{end}
"""


def make(our_core: str, agent: str) -> str:
    """Make the block from the text of our core.py: from its ``__all__`` and its one ``try`` statement."""
    tree = ast.parse(our_core)
    names: tuple[str, ...] = ()
    guarded = [node for node in tree.body if isinstance(node, ast.Try)]
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names = tuple(ast.literal_eval(node.value))
    others = [node for node in tree.body if not isinstance(node, (ast.Try, ast.Assign, ast.Expr))]
    if not names or len(guarded) != 1 or others:
        cause = "must consist of a docstring, __all__ and one guarded import, and does not"
        raise InstallError(f"core.py of this checkout {cause}. Use an unchanged checkout")
    source = ast.get_source_segment(our_core, guarded[0])
    return _BLOCK.format(begin=BEGIN, end=END, agent=agent, guarded=source, names=names)


def read(place: Path) -> str:
    """The text of a core.py with its line ends unchanged; '' when it does not exist."""
    return place.read_bytes().decode("utf-8") if place.exists() else ""


def find(text: str) -> str:
    """Our block in a core.py, '' without one. InstallError when its marker lines do not pair."""
    lines = text.splitlines(keepends=True)
    begins = [number for number, line in enumerate(lines) if line.rstrip("\r\n") == BEGIN]
    ends = [number for number, line in enumerate(lines) if line.rstrip("\r\n") == END]
    if not begins and not ends:
        return ""
    if len(begins) != 1 or len(ends) != 1 or begins[0] > ends[0]:
        raise InstallError("the marker lines of compute_to_data in core.py do not pair. Correct them by hand")
    return "".join(lines[begins[0] : ends[0] + 1])


def add(text: str, block: str) -> str:
    """``text`` with the block in place of the old one, or at the end without an old one."""
    old = find(text)
    return text.replace(old, block) if old else f"{text}\n{block}"


def remove(text: str) -> str:
    """``text`` without the block and the line end before it."""
    old = find(text)
    if not old:
        return text
    before, _, after = text.partition(old)
    return (before[:-1] if before.endswith("\n") else before) + after
