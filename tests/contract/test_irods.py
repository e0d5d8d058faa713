"""A real iRODS zone keeps the contract of every zone.

``irods_zone.py`` says which environment variables name one; without them the zone's answers are those
that were recorded, see ``dialogues/``.
"""

from __future__ import annotations

import pytest
from zone_suite import arriving, metadata, opening, tree
from zone_suite.every_zone import *  # noqa: F403
from zone_suite.zone_under_test import ZoneUnderTest


@pytest.fixture
def zone(irods_zone: ZoneUnderTest) -> ZoneUnderTest:
    return irods_zone


class TestOpening(opening.OpeningContract):
    pass


class TestAmong(metadata.AmongContract):
    pass


@pytest.mark.live_zone(reason="how often an unfinished replica is asked for is not the same twice")
class TestArriving(arriving.ArrivingContract):
    pass


class TestIds(tree.IdsContract):
    pass


class TestOwners(metadata.OwnersContract):
    pass
