"""The capabilities that a worker publishes are enough to submit tasks, and reveal nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.site import COMPUTE, TrialSite, wait_until

from compute_to_data.configuration import Attributes, Configuration
from compute_to_data.coordination import capabilities
from compute_to_data.errors import Refused
from compute_to_data.job import Image
from compute_to_data.model import Avu, Entity, EntityKind
from compute_to_data.submission import submit
from compute_to_data.urls.address import parse

DIGEST = "sha256:" + "1" * 64
SECRETIVE = "/srv/where-nobody-looks"


def published(site: TrialSite, resource: str = COMPUTE) -> list[Avu]:
    return [avu for avu in site.bob.avus(Entity(EntityKind.RESOURCE, resource)) if avu.attribute.endswith("::offer")]


def publish(site: TrialSite, configuration: Configuration, resource: str = COMPUTE) -> None:
    capabilities.publish(site.storage.catalog, configuration, resource)


def configured(site: TrialSite, **sections: Any) -> Configuration:
    return site.configure(engine={"name": "process", "images": {"tools": SECRETIVE}}, **sections)


def test_a_worker_publishes_what_a_client_needs_and_nothing_else(site: TrialSite) -> None:
    images = ["tools", {"name": "lab/a:1", "digest": DIGEST}, {"pattern": r"lab/[a-z]+:[0-9.]+"}]
    roles = {"OWN": {"implementation": "example_site.roles:Own", "token": SECRETIVE}}
    configuration = configured(site, images=images, roles=roles, limits={"maximum": {"cpus": 3}})
    publish(site, configuration)
    read_back = capabilities.read(site.bob, Attributes())
    assert set(read_back.images) == set(configuration.images)
    assert set(read_back.roles) == set(configuration.roles)
    assert (read_back.default_limits, read_back.maximum_limits) == (
        configuration.default_limits,
        configuration.maximum_limits,
    )
    assert read_back.attributes == configuration.attributes
    assert not read_back.worker.on_demand, "a remote client cannot start a worker"
    everything = " ".join(f"{avu}" for avu in published(site))
    for secret in (SECRETIVE, str(site.folder), "example_site", "token"):
        assert secret not in everything


def test_publishing_changes_only_what_differs(site: TrialSite) -> None:
    catalog, seen = site.storage.catalog, []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(catalog, name)

        def annotate(self, entity: Entity, *, add: Any = (), remove: Any = ()) -> None:
            seen.append((set(add), set(remove)))
            catalog.annotate(entity, add=add, remove=remove)

    capabilities.publish(Watched(), site.configuration, COMPUTE)  # type: ignore[arg-type]
    capabilities.publish(Watched(), configured(site, images=["tools", "more"]), COMPUTE)  # type: ignore[arg-type]
    capabilities.publish(Watched(), configured(site, images=["more"]), COMPUTE)  # type: ignore[arg-type]
    name = "irods::compute_to_data::offer"
    assert seen[1] == ({Avu(name, '{"name": "more"}', "image")}, set())
    assert seen[2] == (set(), {Avu(name, '{"name": "tools"}', "image")})


def test_an_image_that_any_worker_accepts_is_accepted(site: TrialSite) -> None:
    site.zone.add_resource("other")
    publish(site, configured(site, images=["one"], limits={"maximum": {"cpus": 2, "pids": 100}}))
    publish(site, configured(site, images=[{"name": "two", "digest": DIGEST}], roles={"OWN": {"implementation": "a:B"}},
                             limits={"maximum": {"cpus": 1, "pids": 200}}), "other")  # fmt: skip
    read_back = capabilities.read(site.bob, Attributes())
    assert read_back.allows("one") and read_back.allows("two") and not read_back.allows("three")
    read_back.permit(Image("two", DIGEST))
    assert (read_back.maximum_limits.cpus, read_back.maximum_limits.pids) == (2, 200)
    assert {"OWN", "CONTAINER"} <= set(read_back.roles)


@pytest.mark.parametrize(
    "rule", ["", "null", "[]", "{}", '{"name": 3}', '{"pattern": "("}', '{"pattern": "(?>a)b++"}', "[" * 2600, "{"]
)
def test_a_rule_that_the_client_cannot_read_accepts_every_image(site: TrialSite, rule: str) -> None:
    entity = Entity(EntityKind.RESOURCE, COMPUTE)
    publish(site, configured(site, images=[]))
    site.storage.catalog.annotate(entity, add=[Avu("irods::compute_to_data::offer", rule or "x", "image")])
    read_back = capabilities.read(site.bob, Attributes())
    assert read_back.allows("anything:1") or rule == '{"pattern": "(?>a)b++"}'


def test_a_limit_that_no_worker_publishes_is_unbounded(site: TrialSite) -> None:
    entity = Entity(EntityKind.RESOURCE, COMPUTE)
    some = Avu("irods::compute_to_data::offer", json.dumps({"cpus": 2, "gpus": 9}), "maximum_limits")
    site.storage.catalog.annotate(entity, add=[some])
    read_back = capabilities.read(site.bob, Attributes())
    assert read_back.maximum_limits.cpus == 2
    assert read_back.maximum_limits.pids > 10**12


def test_a_rule_too_long_for_an_avu_is_published_as_one_for_all_images(site: TrialSite) -> None:
    publish(site, configured(site, images=[{"pattern": "ä" * 512}, {"pattern": "\\n" * 256}]))
    assert all(len(avu.value.encode()) <= 2700 for avu in published(site))
    long = Configuration(
        **{**vars(site.configuration), "images": (site.configuration.images[0].__class__("n" * 3000),)}
    )
    publish(site, long)
    assert capabilities.read(site.bob, Attributes()).allows("n" * 100)


def test_reading_is_refused_when_no_worker_publishes_anything(site: TrialSite) -> None:
    with pytest.raises(Refused, match="no worker that publishes what it can run"):
        capabilities.read(site.bob, Attributes())


def test_a_client_without_a_configuration_submits_follows_and_is_refused_early(site: TrialSite) -> None:
    site.configuration = site.configure(engine={"name": "process", "images": {"tools": str(site.folder / "tools")}},
                                        attributes={"role": "OUR_ROLE"})  # fmt: skip
    site.storage.catalog.annotate(Entity(EntityKind.RESOURCE, COMPUTE), add=[Avu("OUR_ROLE", "CONTAINER")])
    with site.working():
        wait_until(lambda: published(site), "the worker's capabilities")
        configuration = capabilities.read(site.alice, Attributes())
        submitted = submit.submit(site.alice, configuration, site.request("/bin/true"))
        by_role = submit.submit(
            site.alice, configuration, {**site.request("/bin/true", role="CONTAINER"), "resource": COMPUTE}
        )
        assert site.ended(submitted)["state"] == site.ended(by_role)["state"] == "COMPLETED"
        with pytest.raises(Refused, match="allowed images"):
            submit.submit(site.alice, configuration, site.request("/bin/true", process={"image": "other"}))
        with pytest.raises(Refused, match="maximum of cpus"):
            submit.submit(site.alice, configuration, site.request("/bin/true", limits={"cpus": 99}))
        with pytest.raises(Refused, match="role NONE"):
            submit.submit(site.alice, configuration, site.request("/bin/true", role="NONE"))
    assert published(site) == [], "a worker that stops removes its capabilities"
    with pytest.raises(Refused, match="no live worker"):
        submit.submit(site.alice, configuration, site.request("/bin/true"))


def test_a_client_refuses_urls_that_no_worker_accepts_and_learns_nothing_else(site: TrialSite) -> None:
    hosts = ["data.example.org", {"name": "inside.example.org:8443", "private": True}]
    buckets = [{"name": "results", "endpoint": "https://minio.example.org", "private": True}]
    publish(site, configured(site, urls={"hosts": hosts, "buckets": buckets, "ca_file": "/etc/ca.pem"}))
    assert {avu.value for avu in published(site) if avu.units == "url"} == {
        "https://data.example.org",
        "https://inside.example.org:8443",
        "s3://results",
    }
    found = capabilities.read(site.alice, Attributes())
    for url in ("https://data.example.org/a", "https://inside.example.org:8443/a", "s3://results/a"):
        found.urls.permit(parse(url))
    for url in ("https://inside.example.org/a", "s3://others/a"):
        with pytest.raises(Refused):
            found.urls.permit(parse(url))
