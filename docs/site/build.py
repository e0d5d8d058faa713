"""``make docs``: the site of the pages in docs/, in build/docs/site. A broken link or anchor is an error.

The site has the same folders as the repository, so that a link between two pages is the same in both. The README
is the first page.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = Path(__file__).with_name("zensical.toml")
_PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "containers/*/README.md", "docs/**/*.md", "docs/images/*", "docs/**/*.css")


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the site. Returns 0, or 1 when Zensical found something to say about a page."""
    parser = argparse.ArgumentParser(prog="make docs", description=__doc__)
    parser.add_argument("--directory", type=Path, default=ROOT / "build" / "docs", help="where the site is built")
    options = parser.parse_args(arguments)
    collect(options.directory)
    return build(options.directory)


def collect(directory: Path) -> None:
    """Copy the pages and the configuration into an empty ``directory``."""
    shutil.rmtree(directory, ignore_errors=True)
    pages = directory / "pages"
    for pattern in _PAGES:
        for source in ROOT.glob(pattern):
            target = pages / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    shutil.copy(ROOT / "README.md", pages / "index.md")
    shutil.copy(CONFIGURATION, directory)


def build(directory: Path) -> int:
    """Build what ``collect`` brought."""
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    done = subprocess.run([*command, "--config-file", str(directory / CONFIGURATION.name)], check=False)
    if done.returncode == 0:
        print(f"The site: {directory / 'site' / 'index.html'}")
    return min(done.returncode, 1)


if __name__ == "__main__":
    sys.exit(main())
