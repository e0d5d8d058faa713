"""Fixtures of the tests on a real zone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from support.irods_site import RealSite, open_zone

if TYPE_CHECKING:
    from contract.irods_zone import IrodsZoneUnderTest


@pytest.fixture(scope="module")
def zone() -> Iterator[IrodsZoneUnderTest]:
    under_test = open_zone()
    yield under_test
    under_test.close()


@pytest.fixture(scope="module")
def compute(site: RealSite) -> Iterator[str]:
    """A compute resource of the module's own site, with a worker."""
    name = site.compute_resource(site.role)
    with site.working(name):
        yield name
