"""``c2d doctor`` looks at the zone in use, not at a server that this computer may be beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.site import COMPUTE, TrialSite

from compute_to_data.cli.main import main


def test_an_embedded_zone_is_checked_by_its_own_configuration(
    site: TrialSite, own_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert f"configuration: {site.configuration_file} is valid" in said
    assert "/etc/irods" not in said and "PROBLEM" not in said


def test_the_images_that_a_pattern_allows_are_named(
    site: TrialSite, own_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for pattern, said in (("to+ls", "here are tools."), ("other", "the engine holds none")):
        engine = {"name": "process", "images": {"tools": str(site.folder / "tools")}}
        site.configure(engine=engine, images=[{"pattern": pattern}])
        assert main(["doctor"]) == (0 if pattern == "to+ls" else 1)
        assert said in capsys.readouterr().out


def test_a_zone_whose_configuration_is_elsewhere_is_checked_with_the_persons_rights(
    site: TrialSite, own_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = json.loads(own_files.read_text())
    del settings["site"]
    own_files.write_text(json.dumps(settings))
    with site.working():
        assert main(["doctor", "--output", "json"]) == 0
    found = {one["link"]: one["verdict"] for one in json.loads(capsys.readouterr().out)}
    assert found == {"settings": "ok", "zone": "ok", "project": "ok", COMPUTE: "ok"}
    assert main(["doctor"]) == 1, "its worker has gone"
    assert "PROBLEM  workers" in capsys.readouterr().out


def test_a_project_that_is_gone_and_a_zone_without_resources(
    site: TrialSite, own_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = json.loads(own_files.read_text())
    del settings["site"]
    own_files.write_text(json.dumps(settings))
    site.take_role(COMPUTE, "CONTAINER")
    assert main(["doctor", "--project", "/tempZone/home/alice/gone"]) == 1
    said = capsys.readouterr().out
    assert "PROBLEM  project" in said and "PROBLEM  resources: no resource of this zone has a role" in said


def test_settings_that_are_wrong_and_a_zone_that_is_gone(
    site: TrialSite, own_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own_files.write_text('{"zones": {}}')
    assert main(["doctor", "--output", "pretty"]) == 1
    assert f"PROBLEM  settings: {own_files}" in capsys.readouterr().out
    zone = {"kind": "embedded", "directory": "/nonexistent/zone", "user": "alice"}
    own_files.write_text(json.dumps({"zone": zone}))
    assert main(["doctor"]) == 1
    assert "PROBLEM  zone" in capsys.readouterr().out


def test_a_doctor_that_fails_itself_has_the_exit_code_of_a_failure(
    own_files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from compute_to_data.doctor import workers

    def fails(*_: object) -> None:
        raise TypeError("broken")

    monkeypatch.setattr(workers, "state_directory", fails)
    assert main(["doctor"]) == 7, "3 is the code of a refusal"
    assert "PROBLEM  doctor: it failed itself" in capsys.readouterr().out
