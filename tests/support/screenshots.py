"""``make screenshots``: the pictures of the pages, made by typing their commands into a terminal.

A block below ``<!-- picture: NAME.svg -->`` becomes docs/images/NAME.svg. Its commands run where the page runs them,
after the blocks above it, on a zone in a folder and a real Docker engine. Ids are those of the page. Pictures of
reports and of the gateway's pages need Chromium (Debian: ``apt-get install chromium``).
"""

from __future__ import annotations

import argparse
import fcntl
import io
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

from support import gateway_pictures
from support.pages import PAGES, ROOT, Block, blocks, commands
from support.reader import Reader, images_of_the_pages

IMAGES = ROOT / "docs" / "images"
_COLUMNS, _ROWS = 124, 40
_END = b"\x00end\x00"


def main(arguments: Sequence[str] | None = None) -> int:
    """Make all pictures."""
    parser = argparse.ArgumentParser(prog="make screenshots", description=__doc__)
    parser.add_argument("--directory", type=Path, default=IMAGES, help="where the pictures go")
    directory = parser.parse_args(arguments).directory
    directory.mkdir(parents=True, exist_ok=True)
    browser = shutil.which("chromium")
    with images_of_the_pages():
        for page in PAGES:
            if any(block.picture for block in blocks(page)):
                make(page, directory, browser)
    if browser is None:
        print("make screenshots: there is no chromium, and so no picture of reports and pages", file=sys.stderr)
    else:
        gateway_pictures.make(directory)
    return 0 if browser else 1


def make(page: Path, directory: Path, browser: str | None) -> None:
    """Make the pictures of a page; without ``browser`` only those of terminals."""
    with tempfile.TemporaryDirectory() as folder:
        reader = Reader(page, Path(folder), installs=False)
        with reader.shell:
            reader.prepare()
            wanted = {block.picture for block in blocks(page)} - {""}
            for block in blocks(page):
                if block.picture and not block.pictured:
                    (directory / block.picture).write_text(drawn(typed(reader, block)), encoding="utf-8")
                elif not block.reason and "pip install" not in block.content:
                    reader.follow(block, None)
                if block.pictured and browser:
                    photograph(reader.file(block.pictured), directory / block.picture, browser)
                wanted.discard(block.picture)
                if not wanted:
                    break


def typed(reader: Reader, block: Block) -> str:
    """What a terminal shows when the commands of a block are typed into it, with its colours."""
    session = ""
    with Terminal() as terminal:
        for command in commands(block):
            reader.must(f"{{ {reader.page.command(command.text)}\n}} > {terminal.name} 2>&1", place=command.place)
            said = terminal.said()
            plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
            assert command.shown is None or reader.page.shows(command.shown, plain), f"{command.place}: {plain}"
            prompt = command.text.replace("\n", "\n> ")
            session += f"\x1b[2m$\x1b[0m \x1b[1m{prompt}\x1b[0m\n{reader.page.as_shown(said)}"
    return session.replace(str(reader.home), "/home/alice")


class Terminal:
    """A terminal that nobody sits at."""

    def __init__(self) -> None:
        self._screen, self._line = os.openpty()
        fcntl.ioctl(self._line, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
        self.name = os.ttyname(self._line)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._screen)
        os.close(self._line)

    def said(self) -> str:
        """What has been written since the last call; of a line that was written over, its last state."""
        os.write(self._line, _END)
        written = b""
        while not written.endswith(_END):
            written += os.read(self._screen, 65536)
        lines = written.removesuffix(_END).decode().replace("\r\n", "\n").split("\n")
        return "\n".join(line.rpartition("\r")[2].replace("\x1b[K", "") for line in lines)


def drawn(session: str) -> str:
    """The picture. It names no font of another server."""
    console = Console(record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(session.rstrip("\n")))
    picture = console.export_svg(title="", unique_id="c2d")
    return re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)


def photograph(page: Path, picture: Path, browser: str) -> None:
    """The beginning of a page as a browser shows it."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=900,700"]
    command = [browser, *options, f"--screenshot={picture}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


if __name__ == "__main__":
    sys.exit(main())
