"""What a worker tells on its resource is enough to submit with, and tells nothing else."""

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

DIGEST = "sha256:" + "1" * 64
SECRETIVE = "/srv/where-nobody-looks"


def told(site: TrialSite, resource: str = COMPUTE) -> list[Avu]:
    return [avu for avu in site.bob.avus(Entity(EntityKind.RESOURCE, resource)) if avu.attribute.endswith("::offer")]


def publish(site: TrialSite, configuration: Configuration, resource: str = COMPUTE) -> None:
    capabilities.publish(site.storage.catalog, configuration, resource)


def configured(site: TrialSite, **sections: Any) -> Configuration:
    return site.configure(engine={"name": "process", "images": {"tools": SECRETIVE}}, **sections)


def test_it_says_what_a_client_must_know_and_no_more(site: TrialSite) -> None:
    images = ["tools", {"name": "lab/a:1", "digest": DIGEST}, {"pattern": r"lab/[a-z]+:[0-9.]+"}]
    roles = {"OWN": {"implementation": "example_site.roles:Own", "token": SECRETIVE}}
    configuration = configured(site, images=images, roles=roles, limits={"maximum": {"cpus": 3}})
    publish(site, configuration)
    heard = capabilities.read(site.bob, Attributes())
    assert set(heard.images) == set(configuration.images)
    assert set(heard.roles) == set(configuration.roles)
    assert (heard.default_limits, heard.maximum_limits) == (configuration.default_limits, configuration.maximum_limits)
    assert heard.attributes == configuration.attributes
    assert not heard.worker.on_demand, "nobody far away can start one"
    everything = " ".join(f"{avu}" for avu in told(site))
    for secret in (SECRETIVE, str(site.folder), "example_site", "token"):
        assert secret not in everything


def test_it_changes_only_what_differs(site: TrialSite) -> None:
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


def test_an_image_is_let_pass_if_any_worker_admits_it(site: TrialSite) -> None:
    site.zone.add_resource("other")
    publish(site, configured(site, images=["one"], limits={"maximum": {"cpus": 2, "pids": 100}}))
    publish(site, configured(site, images=[{"name": "two", "digest": DIGEST}], roles={"OWN": {"implementation": "a:B"}},
                             limits={"maximum": {"cpus": 1, "pids": 200}}), "other")  # fmt: skip
    heard = capabilities.read(site.bob, Attributes())
    assert heard.allows("one") and heard.allows("two") and not heard.allows("three")
    heard.permit(Image("two", DIGEST))
    assert (heard.maximum_limits.cpus, heard.maximum_limits.pids) == (2, 200)
    assert {"OWN", "CONTAINER"} <= set(heard.roles)


@pytest.mark.parametrize(
    "rule", ["", "null", "[]", "{}", '{"name": 3}', '{"pattern": "("}', '{"pattern": "(?>a)b++"}', "[" * 2600, "{"]
)
def test_what_a_client_does_not_understand_it_lets_pass(site: TrialSite, rule: str) -> None:
    entity = Entity(EntityKind.RESOURCE, COMPUTE)
    publish(site, configured(site, images=[]))
    site.storage.catalog.annotate(entity, add=[Avu("irods::compute_to_data::offer", rule or "x", "image")])
    heard = capabilities.read(site.bob, Attributes())
    assert heard.allows("anything:1") or rule == '{"pattern": "(?>a)b++"}'


def test_limits_that_are_not_told_bound_nothing(site: TrialSite) -> None:
    entity = Entity(EntityKind.RESOURCE, COMPUTE)
    some = Avu("irods::compute_to_data::offer", json.dumps({"cpus": 2, "gpus": 9}), "maximum_limits")
    site.storage.catalog.annotate(entity, add=[some])
    heard = capabilities.read(site.bob, Attributes())
    assert heard.maximum_limits.cpus == 2
    assert heard.maximum_limits.pids > 10**12


def test_a_rule_too_long_for_an_avu_becomes_one_that_covers_all(site: TrialSite) -> None:
    publish(site, configured(site, images=[{"pattern": "ä" * 512}, {"pattern": "\\n" * 256}]))
    assert all(len(avu.value.encode()) <= 2700 for avu in told(site))
    long = Configuration(
        **{**vars(site.configuration), "images": (site.configuration.images[0].__class__("n" * 3000),)}
    )
    publish(site, long)
    assert capabilities.read(site.bob, Attributes()).allows("n" * 100)


def test_without_offers_it_says_that_there_is_no_worker(site: TrialSite) -> None:
    with pytest.raises(Refused, match="no worker that publishes what it can run"):
        capabilities.read(site.bob, Attributes())


def test_a_client_without_a_configuration_submits_follows_and_is_refused_early(site: TrialSite) -> None:
    site.configuration = site.configure(engine={"name": "process", "images": {"tools": str(site.folder / "tools")}},
                                        attributes={"role": "OUR_ROLE"})  # fmt: skip
    site.storage.catalog.annotate(Entity(EntityKind.RESOURCE, COMPUTE), add=[Avu("OUR_ROLE", "CONTAINER")])
    with site.working():
        wait_until(lambda: told(site), "the worker's offers")
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
    assert told(site) == [], "a worker that leaves takes its offers along"
    with pytest.raises(Refused, match="no live worker"):
        submit.submit(site.alice, configuration, site.request("/bin/true"))
