"""A zone that goes away while something is downloaded: nobody takes the part for the whole, and later requests work."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from support.site import HOME, TrialSite

from compute_to_data.client import datasets
from compute_to_data.client.site_access import ConfiguredSite
from compute_to_data.client.workbench import Workbench
from compute_to_data.errors import Code, zone_error
from compute_to_data.gateway import sending_files
from compute_to_data.gateway.api import content
from compute_to_data.gateway.catalog import transfers
from compute_to_data.records.manifest import FILES
from compute_to_data.zones.embedded.transfer import OpenFile

SIZE = 3 << 20


@pytest.fixture
def doors(site: TrialSite) -> list[str]:
    """The addresses by which a data object can be downloaded."""
    bench = Workbench(site.zone.session(site.alice.user), ConfiguredSite(site.configuration))
    dataset = datasets.reserve(bench)
    files = f"{datasets.find(bench, dataset)}/{FILES}"
    site.alice.create_collection(files, parents=True)
    for collection in (files, HOME):
        site.alice.write(f"{collection}/x", bytes(SIZE))
    return [f"/api/v1/datasets/{dataset}/files/x", f"/api/v1/catalog/content?path={HOME}/x"]


def test_in_the_middle_of_a_download(alice: httpx.Client, doors: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "_BLOCK", 1 << 20)
    monkeypatch.setattr(transfers, "_BLOCK", 1 << 20)
    monkeypatch.setattr(sending_files, "sender", lambda scope: None)  # as for a zone whose files are elsewhere
    read = OpenFile.read

    def fails(opened: Any, offset: int, size: int) -> bytes:
        if offset:
            raise zone_error(Code.CATALOG_NOT_CONNECTED, "the zone", "went away")
        return read(opened, offset, size)

    for door in doors:
        with monkeypatch.context() as gone:
            gone.setattr(OpenFile, "read", fails)
            with alice.stream("GET", door) as answer:
                assert answer.status_code == 200
                with pytest.raises(httpx.RemoteProtocolError):
                    answer.read()
        assert len(alice.get(door).content) == SIZE, "and then it is there again"


def test_before_a_download_begins(alice: httpx.Client, doors: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    alice.get("/api/v1/me").raise_for_status()

    def fails(*_: Any) -> Any:
        raise zone_error(Code.CATALOG_NOT_CONNECTED, "the zone", "went away")

    monkeypatch.setattr("compute_to_data.zones.embedded.replicas.opened", fails)
    for door in doors:
        answer = alice.get(door)
        assert answer.status_code == 503, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
