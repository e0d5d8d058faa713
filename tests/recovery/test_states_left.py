"""Records with two states: a worker that is killed between two calls to the zone leaves the earlier one, too."""

from __future__ import annotations

import pytest
from support.site import COMPUTE, HOME, TrialSite, wait_until

from compute_to_data.client.task_status.status import status_of
from compute_to_data.errors import Refused
from compute_to_data.model import Avu, Entity, EntityKind
from compute_to_data.records.state import State
from compute_to_data.submission.submit import Submitted


def _states(site: TrialSite, submitted: Submitted) -> list[str]:
    avus = site.alice.avus(Entity(EntityKind.COLLECTION, submitted.collection))
    return [avu.value for avu in avus if avu.attribute == site.configuration.attributes.state]


def _leave(site: TrialSite, submitted: Submitted, state: State) -> None:
    left = Avu(site.configuration.attributes.state, state.value, COMPUTE)
    site.alice.annotate(Entity(EntityKind.COLLECTION, submitted.collection), add=[left])


@pytest.mark.parametrize("left", [State.RUNNING, State.STAGING_OUT])
def test_an_earlier_state_beside_an_end_is_removed(site: TrialSite, left: State) -> None:
    submitted = site.submit(site.request("/bin/true"))
    with site.working():
        ended = site.ended(submitted)
    _leave(site, submitted, left)
    assert site.record(submitted).state() is State.COMPLETED
    avus = site.alice.avus(Entity(EntityKind.COLLECTION, submitted.collection))
    status = status_of(submitted.collection, avus, site.configuration.attributes, 0.0)
    assert status is not None
    assert status.state is State.COMPLETED
    with site.working():
        wait_until(lambda: _states(site, submitted) == ["COMPLETED"], "the removal of the earlier state")
    assert {**site.record(submitted).facts(), "collection": submitted.collection} == ended


def test_an_earlier_state_beside_a_later_one_is_ignored(site: TrialSite) -> None:
    site.alice.write(f"{HOME}/a", b"x")
    submitted = site.submit(site.request("/bin/cp", "/inputs/a", "/outputs/b", inputs=[f"{HOME}/a"]))
    _leave(site, submitted, State.STAGING_IN)
    with site.working():
        assert site.ended(submitted)["state"] == "COMPLETED"
    assert _states(site, submitted) == ["COMPLETED"]


def test_two_ends_are_refused(site: TrialSite) -> None:
    submitted = site.submit(site.request("/bin/true"))
    for state in (State.COMPLETED, State.FAILED):
        _leave(site, submitted, state)
    with pytest.raises(Refused, match="states that no worker wrote"):
        site.record(submitted).state()
