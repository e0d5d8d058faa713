"""Prints the findings of the doctor, and says with which status it ends."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Iterable
from dataclasses import asdict

from compute_to_data.doctor.findings import Finding, Verdict, problem
from compute_to_data.plain_text import one_line

UNKNOWN = 3
"""The exit status when not everything could be checked, as monitoring programs know it."""
_ITSELF = "doctor"
"""The link of a finding about the doctor itself."""
_MARKS = {Verdict.OK: "ok     ", Verdict.PROBLEM: "PROBLEM", Verdict.SKIPPED: "skipped"}


def report(found: Iterable[Finding], *, as_json: bool) -> int:
    """Print findings as they come, or all as JSON. Returns 0 when there is no problem, 1 when there is one, and 3
    when the doctor itself failed, so that not everything was checked."""
    findings = []
    checks = iter(found)
    while True:
        try:
            finding = next(checks, None)
        except Exception as error:  # noqa: BLE001 - the boundary: monitoring must see that it is not known
            finding = failure(error)
        if finding is None:
            break
        findings.append(finding)
        if not as_json:
            _print(finding)
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2), flush=True)
    if any(finding.link == _ITSELF for finding in findings):
        return UNKNOWN
    return int(any(finding.verdict is Verdict.PROBLEM for finding in findings))


def failure(error: Exception) -> Finding:
    """The finding that the doctor itself has failed."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    seen = f"it failed itself ({type(error).__name__}: {error}), so not everything was checked"
    return problem(_ITSELF, seen, f"Report it, with {os.path.basename(where.filename)}:{where.lineno}")


def _print(finding: Finding) -> None:
    print(f"{_MARKS[finding.verdict]}  {one_line(finding.link)}: {one_line(finding.seen.rstrip('.'))}.", flush=True)
    if finding.remedy:
        print(f"         -> {one_line(finding.remedy.rstrip('.'))}.", flush=True)
