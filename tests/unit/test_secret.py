"""A user can use only their own secrets, and only those that no other user can read."""

from __future__ import annotations

from typing import Any

import pytest
from support.faults import Troubled
from support.site import ALICE, BOB, HOME, TrialSite

from compute_to_data.documents.request import parse
from compute_to_data.errors import ComputeToDataError, InvalidRequest, NotFound, Refused
from compute_to_data.model import Access, DataObject, User
from compute_to_data.provenance.outcome import fingerprint
from compute_to_data.records import secret

PLACE = f"{HOME}/.compute_to_data/secrets"
VALUE = b"correct horse battery staple"


@pytest.fixture
def stored(site: TrialSite) -> TrialSite:
    site.alice.create_collection(PLACE, parents=True)
    site.alice.write(f"{PLACE}/TOKEN", VALUE)
    return site


def refused(site: TrialSite, kind: type[ComputeToDataError], words: str, name: str = "TOKEN") -> None:
    """The worker and the submission both refuse it, with a message that names the secret but not its value."""
    for ask in (secret.check, secret.read):
        with pytest.raises(kind, match=words) as caught:
            ask(site.alice, "tempZone", [name])  # type: ignore[operator]
        assert VALUE.decode() not in str(caught.value)
    with pytest.raises(ComputeToDataError):
        site.submit(site.request("/bin/true", secrets=[name]))
    assert site.alice.children(f"{HOME}/out") == ()


def test_the_owner_can_use_a_secret(stored: TrialSite) -> None:
    assert secret.read(stored.alice, "tempZone", ["TOKEN"]) == {"TOKEN": VALUE}
    assert secret.path_of(ALICE, "tempZone", "TOKEN") == f"{PLACE}/TOKEN"
    afar = User("alice", "otherZone")
    assert secret.collection_of(afar, "tempZone") == "/tempZone/home/alice#otherZone/.compute_to_data/secrets"


@pytest.mark.parametrize(
    "name",
    ["../TOKEN", "../../../bob/.compute_to_data/secrets/TOKEN", "/etc/passwd", "a/b", "", ".", "..", "a b", "a" * 65,
     "1a", "a\n", "a\0", "-rf", "ä", "a++++b"],
)  # fmt: skip
def test_an_invalid_name_is_refused(stored: TrialSite, name: str) -> None:
    refused(stored, InvalidRequest, "found the name", name)


def test_another_users_secret_is_not_found(stored: TrialSite) -> None:
    for ask in (secret.check, secret.read):
        with pytest.raises(NotFound, match=r"/tempZone/home/bob/\.compute_to_data/secrets/TOKEN"):
            ask(stored.bob, "tempZone", ["TOKEN"])  # type: ignore[operator]


def test_a_missing_secret_is_not_found(stored: TrialSite) -> None:
    refused(stored, NotFound, f"{PLACE}/OTHER: does not exist. Make it with", "OTHER")


def test_a_secret_that_others_can_read_is_refused(stored: TrialSite) -> None:
    lab = stored.zone.add_group("lab")
    for other in (lab, BOB):
        stored.alice.set_access(f"{PLACE}/TOKEN", other, Access.READ_OBJECT)
        refused(stored, Refused, f"{PLACE}/TOKEN: can be read by others .*ichmod null {other.name} {PLACE}/TOKEN")
        stored.alice.set_access(f"{PLACE}/TOKEN", other, Access.NULL)
    assert secret.check(stored.alice, "tempZone", ["TOKEN"]) == (f"{PLACE}/TOKEN",)


def test_a_secret_that_another_user_owns_is_refused(stored: TrialSite) -> None:
    stored.alice.remove(f"{PLACE}/TOKEN")
    stored.alice.set_access(PLACE, BOB, Access.OWN)
    stored.bob.write(f"{PLACE}/TOKEN", b"bob's own")
    stored.bob.set_access(f"{PLACE}/TOKEN", ALICE, Access.OWN)
    stored.bob.set_access(f"{PLACE}/TOKEN", BOB, Access.NULL)
    refused(stored, Refused, "belongs to bob#tempZone")


def test_a_collection_in_place_of_a_secret_is_refused(stored: TrialSite) -> None:
    stored.alice.create_collection(f"{PLACE}/FOLDER")
    refused(stored, Refused, "is a collection", "FOLDER")


def test_a_secret_that_is_too_long_is_not_read(stored: TrialSite) -> None:
    stored.alice.write(f"{PLACE}/LONG", b"x" * secret.LONGEST)
    assert len(secret.read(stored.alice, "tempZone", ["LONG"])["LONG"]) == secret.LONGEST
    stored.alice.write(f"{PLACE}/LONG", b"x" * (secret.LONGEST + 1), force=True)
    refused(stored, Refused, "has 65537 bytes", "LONG")

    def never(*_: Any) -> bytes:
        raise AssertionError("read all the same")

    with pytest.raises(Refused, match="has 65537 bytes"):
        secret.read(Troubled(stored.alice, read=never), "tempZone", ["LONG"])  # type: ignore[arg-type]


def test_a_secret_that_grew_after_the_check_is_refused(stored: TrialSite) -> None:
    secret.check(stored.alice, "tempZone", ["TOKEN"])
    token = stored.alice.stat(f"{PLACE}/TOKEN")
    assert isinstance(token, DataObject)
    with open(token.replicas[0].physical_path, "ab") as file:  # the catalog does not know
        file.write(b"x" * secret.LONGEST)
    with pytest.raises(Refused, match="has more than the 65536 bytes"):
        secret.read(stored.alice, "tempZone", ["TOKEN"])


def test_a_secret_that_becomes_unusable_after_submission_fails_the_task(stored: TrialSite) -> None:
    submitted = stored.submit(stored.request("/bin/true", secrets=["TOKEN"]))
    stored.alice.set_access(f"{PLACE}/TOKEN", BOB, Access.READ_OBJECT)
    with stored.working():
        facts = stored.ended(submitted)
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "refused")
    assert f"{PLACE}/TOKEN: can be read by others (bob#tempZone)" in facts["reason"]
    assert "attempt" not in facts, "before anything ran"


def test_the_names_of_secrets_are_part_of_the_fingerprint(stored: TrialSite) -> None:
    one, other = (
        fingerprint(parse(stored.request("/bin/true", secrets=names)), "CONTAINER", []) for names in (["A"], ["B"])
    )
    assert one != other != ""
