"""Opening a session; the project that the session file remembers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.people import settings_of
from support.site import ALICE, COMPUTE, HOME, TrialSite, wait_until

import compute_to_data as c2d
from compute_to_data.client import datasets, secrets, workloads
from compute_to_data.errors import AccessDenied, ConfigurationError, InvalidRequest, NotFound, Refused
from compute_to_data.model import Entity, EntityKind
from compute_to_data.zones.irods import accounts


@pytest.fixture(autouse=True)
def _own(own_files: Path) -> None:
    pass


def test_a_session_belongs_to_its_user(site: TrialSite) -> None:
    with c2d.connect() as session:
        assert (session.user, session.home) == (ALICE, HOME)
        assert session.configuration.images == site.configuration.images
        assert session.attributes == site.configuration.attributes


def test_a_user_of_another_zone_has_a_home_here(site: TrialSite, own_files: Path) -> None:
    """iRODS gives them the home ``/<this zone>/home/<name>#<their zone>`` for results, datasets and secrets."""
    alice = site.zone.add_user("alice", zone="otherZone")
    site.zone.session(alice).write("/tempZone/home/alice#otherZone/a.txt", b"axbxc")
    own_files.write_text(json.dumps(settings_of(site, "alice#otherZone")))
    process = {"image": site.image, "exec": "/bin/sh", "argv": ["-c", "tr -d x < /inputs/a.txt > /outputs/b"]}
    with site.working(), c2d.connect() as session:
        assert (session.zone, session.home) == ("tempZone", "/tempZone/home/alice#otherZone")
        secret = secrets.create(session, "TOKEN", b"hidden")
        assert secret.data_object.startswith(f"{session.home}/.")
        document = {"role": "CONTAINER", "inputs": [session.absolute("a.txt")], "process": process}
        task = session.submit({**document, "secrets": ["TOKEN"]})
        assert task.wait(30).state.value == "COMPLETED"
        assert task.collection == f"{session.home}/c2d_results/{task.id}"
        assert task.results()["b"].bytes() == b"abc"


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({}, ""),
        ({"irods_home": "/tempZone/home/alice#otherZone"}, "/tempZone/home/alice#otherZone"),
        ({"irods_home": "/tempZone/projects/sea/"}, "/tempZone/projects/sea"),
    ],
)
def test_an_irods_environment_may_name_the_home(tmp_path: Path, named: dict[str, str], expected: str) -> None:
    file = tmp_path / "irods_environment.json"
    file.write_text(json.dumps({"irods_user_name": "alice", "irods_zone_name": "otherZone", **named}))
    assert accounts.home(str(file)) == expected


@pytest.mark.parametrize("named", ["home", "/tempZone/../x", "//x", 7])
def test_an_invalid_home_is_refused(tmp_path: Path, named: object) -> None:
    file = tmp_path / "irods_environment.json"
    file.write_text(json.dumps({"irods_home": named}))
    with pytest.raises(ConfigurationError, match=r"irods_home: found .*, expected a logical path"):
        accounts.home(str(file))


def test_the_project_is_remembered(site: TrialSite, own_files: Path) -> None:
    site.alice.create_collection(f"{HOME}/p")
    with c2d.connect() as session:
        assert (session.project, session.results) == (HOME, f"{HOME}/c2d_results")
        assert session.use_project("p") == f"{HOME}/p"
    with c2d.connect() as session:
        assert (session.project, session.results) == (f"{HOME}/p", f"{HOME}/p/results")
        session.use_project("")
    with c2d.connect(project=f"{HOME}/p") as session:
        assert session.project == f"{HOME}/p"
    with c2d.connect() as session:
        assert session.project == HOME
    assert json.loads((own_files.parent / "session.json").read_text()) == {"project": ""}


def test_an_unknown_project_is_refused_and_not_remembered(site: TrialSite, own_files: Path) -> None:
    site.bob.create_collection("/tempZone/home/bob/his")
    site.alice.write(f"{HOME}/object", b"")
    with c2d.connect() as session:
        for path in ("nowhere", "/tempZone/home/bob/his"):
            with pytest.raises(NotFound, match=r"does not exist.*c2d project set"):
                session.use_project(path)
        with pytest.raises(InvalidRequest, match="is a data object"):
            session.use_project("object")
    assert not (own_files.parent / "session.json").exists()


def test_a_removed_project_is_an_error(site: TrialSite) -> None:
    site.alice.create_collection(f"{HOME}/p")
    with c2d.connect() as session:
        session.use_project("p")
        site.alice.remove(f"{HOME}/p")
        with pytest.raises(NotFound, match="project"):
            _ = session.project
        for listed in (datasets.listed, workloads.listed):
            with pytest.raises(NotFound, match="project"):
                listed(session)


def test_an_unknown_user_or_zone(own_files: Path) -> None:
    settings = json.loads(own_files.read_text())
    settings["zone"]["user"] = "nobody"
    own_files.write_text(json.dumps(settings))
    with pytest.raises(NotFound, match="nobody"):
        c2d.connect()
    settings["zone"]["directory"] = str(own_files.parent / "nothing")
    own_files.write_text(json.dumps(settings))
    with pytest.raises(ConfigurationError, match="no zone is there"):
        c2d.connect()


def test_without_a_login_access_is_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("C2D_CONFIG_FILE")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("IRODS_ENVIRONMENT_FILE", str(tmp_path / "none.json"))
    with pytest.raises(AccessDenied, match=r"not logged in: .*none\.json.*iinit"):
        c2d.connect()


def test_a_site_that_cannot_be_read_matters_only_when_it_is_needed(site: TrialSite, own_files: Path) -> None:
    settings = json.loads(own_files.read_text())
    del settings["site"]
    own_files.write_text(json.dumps(settings))
    with c2d.connect() as session:
        assert session.attributes.role == "COMPUTE_RESOURCE_ROLE"
        with pytest.raises(Refused, match="no worker of dsp_resc publishes what it can run"):
            _ = session.configuration
        site.take_role("dsp_resc", "CONTAINER")
        with pytest.raises(Refused, match="has no compute resource"):
            _ = session.configuration


def test_without_the_sites_file_the_workers_offers_are_used(site: TrialSite, own_files: Path) -> None:
    settings = json.loads(own_files.read_text())
    del settings["site"]
    own_files.write_text(json.dumps(settings))
    entity = Entity(EntityKind.RESOURCE, COMPUTE)
    with site.working(), c2d.connect() as session:
        wait_until(lambda: any("::offer" in avu.attribute for avu in site.alice.avus(entity)), "the offers")
        task = session.submit(site.request("/bin/sh", "-c", "echo x > /outputs/x"))
        assert task.wait().state.value == "COMPLETED"
        with pytest.raises(Refused, match="not in this site's list"):
            session.submit(site.request("true", process={"image": "another"}))
