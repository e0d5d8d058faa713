"""A real iRODS zone keeps the contract of every zone.

``irods_zone.py`` says which environment variables name one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from zone_suite.every_zone import *  # noqa: F403
from zone_suite.zone_under_test import ZoneUnderTest

ENVIRONMENT_VARIABLE = "C2D_TEST_IRODS_ENVIRONMENT_FILE"

pytestmark = pytest.mark.skipif(
    not os.environ.get(ENVIRONMENT_VARIABLE), reason=f"no real zone is configured (set {ENVIRONMENT_VARIABLE})"
)


@pytest.fixture(scope="module")
def _zone() -> Iterator[ZoneUnderTest]:
    from irods_zone import IrodsZoneUnderTest

    under_test = IrodsZoneUnderTest(os.environ[ENVIRONMENT_VARIABLE])
    yield under_test
    under_test.close()


@pytest.fixture
def zone(_zone: ZoneUnderTest) -> ZoneUnderTest:
    return _zone
