"""A real iRODS zone keeps the contract of every zone.

``irods_zone.py`` says which environment variables name one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from zone_suite import metadata, registration, replicas, rights, transfers, tree
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


class TestCollections(tree.CollectionsContract):
    pass


class TestDataObjects(tree.DataObjectsContract):
    pass


class TestRenaming(tree.RenamingContract):
    pass


class TestNames(tree.NamesContract):
    pass


class TestRights(rights.RightsContract):
    pass


class TestGroups(rights.GroupsContract):
    pass


class TestInheritance(rights.InheritanceContract):
    pass


class TestSessions(rights.SessionsContract):
    pass


class TestAvus(metadata.AvusContract):
    pass


class TestBearing(metadata.BearingContract):
    pass


class TestFind(metadata.FindContract):
    pass


class TestReplicas(replicas.ReplicasContract):
    pass


class TestResources(replicas.ResourcesContract):
    pass


class TestRegistration(registration.RegistrationContract):
    pass


class TestTransfers(transfers.TransfersContract):
    pass


class TestDatasets(transfers.DatasetsContract):
    pass
