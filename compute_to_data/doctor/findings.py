"""What a check returns: a finding."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(str, Enum):
    """The result of checking a link."""

    OK = "ok"
    PROBLEM = "problem"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """The finding about one link: what the check saw and, for a problem, how to repair it."""

    link: str
    verdict: Verdict
    seen: str
    remedy: str = ""


def ok(link: str, seen: str) -> Finding:
    """The link works."""
    return Finding(link, Verdict.OK, seen)


def problem(link: str, seen: str, remedy: str) -> Finding:
    """The link is broken."""
    return Finding(link, Verdict.PROBLEM, seen, remedy)


def skipped(link: str, why: str) -> Finding:
    """The link does not apply here, or this process cannot check it."""
    return Finding(link, Verdict.SKIPPED, why)
