"""Patterns match what git matches."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from compute_to_data.client.local_folders import patterns

PATHS = [
    "a", "b.txt", "a.txt", "A.TXT", "deep/a.txt", "deep/er/a.txt", "deep/er/b", "deep/x/b", "build/out.o",
    "src/build/out.o", "src/out.o", "#note", "!important", " spaced ", "trail ", "we[i]rd", "we-rd", "weird",
    "star*", "q?", "qq", "back\\slash", "größe.csv", ".hidden", "dir.d/x", "x/y/z/w", "a-c", "a]b", "k/b/c",
]  # fmt: skip
LINES = [
    "*.txt", "/*.txt", "deep/", "deep/*", "deep/**", "**/b", "deep/**/b", "a", "/a", "build", "build/", "src/build",
    "*.o", "!src/*.o", "\\#note", "\\!important", "# comment", "", "trail\\ ", "trail ", "we[i]rd", "we[!a]rd",
    "we[a-i]rd", "we\\[i\\]rd", "star\\*", "q?", "q\\?", "größe.*", ".*", "?", "[ab]", "[^ab]", "[]]", "a[]]b",
    "a[-]c", "x/**/w", "x/*/w", "**", "*", "!*.txt", "**/er/**", "deep/er/",
    "[z-a]", "[[:alpha:]]/*", "[[:nosuch:]]", "[^[:digit:]]", "[a", "dir.d", "back\\\\slash",
    "/", "//", "***", "a**c", "x/y/", "!x/y/", "[[:alpha:]]", " spaced", "[!/]", "a[/]b",
]  # fmt: skip


def ours(lines: list[str], path: str) -> bool:
    """Whether a path is left out: a folder that is left out takes everything in it along."""
    found = patterns.parsed_all(lines)
    parts = path.split("/")
    tops = ["/".join(parts[:count]) for count in range(1, len(parts))]
    return any(patterns.verdict(found, top, True) for top in tops) or bool(patterns.verdict(found, path, False))


def gits(folder: Path, lines: list[str]) -> set[str]:
    (folder / ".git" / "info" / "exclude").write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = ["git", "-C", str(folder), "check-ignore", "--no-index", "-z", "--stdin"]
    asked = "\0".join(PATHS).encode()
    done = subprocess.run(command, input=asked, capture_output=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return {one.decode() for one in done.stdout.split(b"\0") if one}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A folder in which every path of PATHS is a file, where that is possible."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for path in PATHS:
        place = tmp_path / path
        if not (place.parent.is_file() or place.is_dir()):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    return tmp_path


@pytest.mark.skipif(subprocess.run(["git", "--version"], capture_output=True).returncode != 0, reason="no git here")
def test_patterns_match_what_git_matches(repository: Path) -> None:
    present = [path for path in PATHS if (repository / path).is_file()]
    chance = random.Random(20)
    files = [[line] for line in LINES] + [chance.sample(LINES, chance.randint(2, 6)) for _ in range(60)]
    for lines in files:
        theirs = gits(repository, lines)
        assert {path for path in present if ours(lines, path)} == theirs & set(present), lines


def test_words_with_special_characters_are_patterns() -> None:
    assert [patterns.is_pattern(word) for word in ("a.txt", "*.txt", "a?", "[ab]", "a b")] == [
        False,
        True,
        True,
        True,
        False,
    ]
