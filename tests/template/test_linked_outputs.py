"""Outputs with several names (hard links), as rsync, git and package managers make them."""

from __future__ import annotations

from pathlib import Path

from support.site import TrialSite

from compute_to_data.model import DataObject


def test_each_name_is_a_result_of_its_own(site: TrialSite) -> None:
    script = "mkdir /outputs/d; echo same > /outputs/a; ln /outputs/a /outputs/b; ln /outputs/a /outputs/d/c"
    facts = site.run(site.request("/bin/sh", "-c", script))
    assert facts["state"] == "COMPLETED", facts
    collection = facts["collection"]
    found = [site.alice.stat(f"{collection}/{name}") for name in ("a", "b", "d/c")]
    files = [one.replicas[0].physical_path for one in found if isinstance(one, DataObject)]
    assert [Path(file).read_text() for file in files] == ["same\n"] * 3
    site.alice.write(f"{collection}/a", b"other", force=True)
    assert site.contents(collection)["b"] == site.contents(collection)["d/c"] == b"same\n"


def test_a_failed_task_keeps_them(site: TrialSite) -> None:
    facts = site.run(site.request("/bin/sh", "-c", "echo same > /outputs/a; ln /outputs/a /outputs/b; exit 3"))
    contents = site.contents(facts["collection"])
    assert facts["state"] == "FAILED" and "not_kept" not in facts
    assert (contents["failed/a"], contents["failed/b"]) == (b"same\n", b"same\n")
