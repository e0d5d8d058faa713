"""An image that no live worker's engine holds is refused at submission, with the nearest name; in doubt it passes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from support.site import COMPUTE, HOME, TrialSite, wait_until

import compute_to_data as c2d
from compute_to_data.cli.main import main
from compute_to_data.client import tasks
from compute_to_data.client.site_access import PublishedSite
from compute_to_data.client.workbench import Workbench
from compute_to_data.configuration import Attributes, Configuration
from compute_to_data.coordination import held_images
from compute_to_data.coordination.held_images import MOST, HeldImages, nearest
from compute_to_data.errors import Refused
from compute_to_data.model import Avu, Entity, EntityKind

HELD = (
    "debian:bookworm",
    "debian@sha256:" + "1" * 64,
    "lab.example:5000/tools/filter:2",
    "compute-to-data/base:bookworm",
)


@pytest.mark.parametrize(
    ("image", "is_held"),
    [
        ("debian:bookworm", True),
        ("docker.io/library/debian:bookworm", True),
        ("debian", False),  # debian:latest
        ("debian@sha256:" + "1" * 64, True),
        ("debian:bookworm@sha256:" + "1" * 64, True),
        ("debian@sha256:" + "2" * 64, False),
        ("lab.example:5000/tools/filter:2", True),
        ("lab.example:5000/tools/filter", False),
        ("sha256:" + "3" * 64, True),  # an id: names do not tell
    ],
)
def test_a_name_is_compared_as_docker_reads_it(image: str, is_held: bool) -> None:
    assert HeldImages(HELD).may_have(image) is is_held
    assert HeldImages(HELD, is_complete=False).may_have(image), "others may be there"


@pytest.mark.parametrize(
    ("image", "meant"),
    [
        ("debain:bookworm", "debian:bookworm"),
        ("debian", "debian:bookworm"),
        ("debian:trixie", "debian:bookworm"),
        ("base:bookworm", "compute-to-data/base:bookworm"),
        ("compute-to-data/bse:bookworm", "compute-to-data/base:bookworm"),
        ("tensorflow/tensorflow:2", ""),
    ],
)
def test_the_nearest_name(image: str, meant: str) -> None:
    assert nearest(image, HELD) == meant


def any_image(site: TrialSite) -> Configuration:
    """Let the site allow every image that its engine has, as a new embedded zone does."""
    engine = {"name": "process", "images": {"tools": str(site.folder / "tools")}}
    return site.configure(engine=engine, images=[{"pattern": "[^ ]+"}])


def published(site: TrialSite) -> list[Avu]:
    return [one for one in site.bob.avus(Entity(EntityKind.RESOURCE, COMPUTE)) if one.attribute.endswith("::held")]


def publish(site: TrialSite, configuration: Configuration, names: tuple[str, ...] | None) -> None:
    held_images.publish(site.storage.catalog, configuration, COMPUTE, names)


def test_a_worker_publishes_only_images_that_the_site_allows(site: TrialSite) -> None:
    publish(site, site.configure(images=["debian:bookworm", "missing:1"]), HELD)
    assert {one.value for one in published(site) if not one.units} == {"debian:bookworm"}
    publish(site, site.configuration, None)
    assert published(site) == [], "an engine that pulls images"


def test_the_tab_key_offers_what_an_engine_holds_of_what_a_pattern_allows(
    site: TrialSite, own_files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("C2D_COMPLETION_SECONDS", "60")
    publish(site, any_image(site), ("debian:bookworm", "lab/tools:1"))
    for words in (["run", "deb"], ["map", "deb"], ["notebook", "--image", "deb"]):
        assert main(["__complete", *words]) == 0
        assert capsys.readouterr().out == "debian:bookworm\n"


def test_a_worker_publishes_at_most_so_many_names_and_says_that_there_are_more(site: TrialSite) -> None:
    configuration = any_image(site)
    publish(site, configuration, tuple(f"lab/image:{number}" for number in range(MOST + 1)))
    beat(site)
    held = held_images.published(site.bob, configuration.attributes, COMPUTE)
    assert held is not None and len(held.names) == MOST
    assert held.may_have("lab/another:1")


def beat(site: TrialSite, ago: float = 0.0) -> None:
    """Write the heartbeat of a worker."""
    now = str(int(time.time() - ago))
    attribute = site.configuration.attributes.named("worker")
    site.storage.catalog.annotate(Entity(EntityKind.RESOURCE, COMPUTE), add=[Avu(attribute, "host@1:1", now)])


def asked(site: TrialSite, image: str) -> dict[str, Any]:
    return site.request("true", process={"image": image})


def test_a_live_workers_list_refuses_and_one_that_is_gone_does_not(site: TrialSite) -> None:
    configuration = any_image(site)
    publish(site, configuration, HELD)
    submit = {"document": asked(site, "debain:bookworm")}
    site.configuration = configuration
    site.submit(**submit)  # no worker is alive, which a site with workers on demand allows
    beat(site, ago=3600)
    site.submit(**submit)
    beat(site)
    with pytest.raises(Refused, match=r"image debain:bookworm: .*dsp_resc.*Did you mean debian:bookworm\?"):
        site.submit(**submit)
    site.submit(asked(site, "debian:bookworm"))


def test_a_worker_of_an_earlier_version_refuses_nothing(site: TrialSite) -> None:
    site.configuration = any_image(site)
    beat(site)
    site.submit(asked(site, "debain:bookworm"))


def test_the_task_goes_to_the_resource_that_has_the_image(site: TrialSite) -> None:
    site.configuration = any_image(site)
    site.zone.add_resource("a_resc")
    site.give_role("a_resc", "CONTAINER")
    document = {**asked(site, "debian:bookworm"), "role": "CONTAINER"}
    del document["resource"]
    assert site.submit(document).resource == "a_resc", "the first by name"
    known = {"a_resc": HeldImages(()), COMPUTE: HeldImages(HELD)}
    assert site.submit(document, ask_images=lambda resource, _: known[resource]).resource == COMPUTE


def test_an_embedded_zone_asks_its_engine(
    site: TrialSite, own_files: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    any_image(site)
    document = asked(site, "tolos")
    with c2d.connect() as session:
        with pytest.raises(Refused, match="Did you mean tools"):
            session.submit(document)
        with pytest.raises(Refused, match="Did you mean tools"):
            session.start_workload("tolos", resource=COMPUTE)
        assert session.tasks() == [] and session.workloads() == []
    file = tmp_path / "task.json"
    file.write_text(json.dumps(document))
    for words in (["submit", str(file)], ["workload", "start", "tolos"], ["run", "tolos", "--", "true"]):
        assert main(words) == 3
        assert "Did you mean tools?" in capsys.readouterr().err


def test_an_image_that_has_come_since_the_worker_looked_is_accepted(site: TrialSite, own_files: Path) -> None:
    site.configuration = any_image(site)
    publish(site, site.configuration, ("other:1",))
    beat(site)
    with c2d.connect() as session:
        session.submit(asked(site, "tools"))


def test_without_the_sites_file_the_published_names_decide(site: TrialSite) -> None:
    site.configuration = any_image(site)
    with site.working():
        workbench = Workbench(site.zone.session(site.alice.user), PublishedSite(Attributes()))
        wait_until(lambda: workbench.held_images(COMPUTE) is not None, "the worker to publish its images")
        held = workbench.held_images(COMPUTE)
        assert held is not None and held.names == ("tools",)
        with pytest.raises(Refused, match="Did you mean tools"):
            tasks.submit(workbench, asked(site, "tolos"))
        workbench.catalog.close()


def test_resources_shows_the_images_that_are_there(
    site: TrialSite, own_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    any_image(site)
    site.give_role(COMPUTE, "SIGNAL_PROCESSING")
    assert main(["resources"]) == 0
    shown = capsys.readouterr()
    heading, row = shown.out.splitlines()
    assert len(heading.split()) == len(row.split()), "the columns do not shift"
    assert row.split()[1] == "CONTAINER,SIGNAL_PROCESSING(no-image)"
    assert "images on dsp_resc: tools" in shown.err and "[^ ]+" not in shown.err
    assert "SIGNAL_PROCESSING has no image of its own" in shown.err
    assert main(["resources", "--output", "json"]) == 0
    found = json.loads(capsys.readouterr().out)["resources"][0]
    assert found["images"] == ["tools"] and found["roles_without_image"] == ["SIGNAL_PROCESSING"]


def test_a_notebook_without_an_image_is_refused_where_its_role_has_none(site: TrialSite, own_files: Path) -> None:
    site.give_role(COMPUTE, "SIGNAL_PROCESSING")
    site.alice.write(f"{HOME}/a", b"1")
    document = {"role": "SIGNAL_PROCESSING", "inputs": [f"{HOME}/a"], "output_collection": f"{HOME}/out"}
    with pytest.raises(Refused, match="role SIGNAL_PROCESSING: has no image of its own"):
        site.submit(document)


def test_a_wrong_resource_is_told_with_the_compute_resources(site: TrialSite) -> None:
    with pytest.raises(c2d.ComputeToDataError, match=r"Did you mean dsp_resc\? The compute resources are: dsp_resc"):
        site.submit(site.request("true", resource="dps_resc"))
