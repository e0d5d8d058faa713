"""The whole contract, as a zone's own test module takes it: ``from zone_suite.every_zone import *``."""

from __future__ import annotations

from zone_suite import metadata, opening, registration, replicas, rights, transfers, tree


class TestCollections(tree.CollectionsContract):
    pass


class TestBounds(tree.BoundsContract):
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


class TestQuery(metadata.QueryContract):
    pass


class TestCountByOwner(metadata.CountByOwnerContract):
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


class TestOpening(opening.OpeningContract):
    pass
