"""As ``test_crash_points``, for a task whose input is fetched from a URL and whose output is put to one: also while the
worker does this."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from recovery import test_crash_points as plain
from support.crashes import Died, Fate, each_fate
from support.site import TrialSite
from support.url_servers import HttpsServer, authority_in

from compute_to_data.model import Entity, EntityKind
from compute_to_data.records.state import State
from compute_to_data.submission.submit import Submitted
from compute_to_data.urls.sink import Sink
from compute_to_data.zones.embedded.audit import audit

CONTENT = b"some input\n" * 5000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HttpsServer]:
    with HttpsServer(authority_in(tmp_path)[0]) as server:
        server.pages["/a"] = CONTENT
        yield server


def _site(folder: Path, server: HttpsServer) -> TrialSite:
    (folder / "tools").mkdir(parents=True)
    urls = {"hosts": [{"name": server.host, "private": True}], "ca_file": str(folder.parent / "authority.pem")}
    return TrialSite(folder, {"name": "process", "images": {"tools": str(folder / "tools")}}, "tools", urls=urls)


def _submit(site: TrialSite, server: HttpsServer, script: str) -> Submitted:
    put = [{"output": "copy", "url": server.url("/put")}]
    return site.submit(site.request("/bin/sh", "-c", script, inputs=[server.url("/a")], put=put))


def _check(site: TrialSite, submitted: Submitted, before: Any, state: State, context: str) -> None:
    with site.working():
        facts = site.ended(submitted)
    assert facts["state"] == state.value, f"{context}: {facts}"
    assert site.leftovers(submitted) == [], context
    assert audit(str(site.folder / "zone")) == [], context
    contents = site.contents(submitted.collection)
    fetched = {name: content for name, content in contents.items() if name.startswith("fetched_inputs")}
    if state is State.COMPLETED:
        assert (contents["copy"], fetched) == (CONTENT, {"fetched_inputs/a": CONTENT}), context
        attribute = "irods::compute_to_data::put_to"
        put_to = site.alice.avus(Entity(EntityKind.COLLECTION, submitted.collection), attribute)
        assert [(avu.value[-4:], avu.units) for avu in put_to] == [("/put", "copy")], context
    else:
        assert (contents["failed/copy"], fetched) == (CONTENT, {}), context
        assert site.snapshot(without=submitted.collection) == before, context


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("after", [False, True], ids=["before it takes effect", "after it took effect"])
@pytest.mark.parametrize(
    ("script", "state"),
    [("cp /inputs/a copy", State.COMPLETED), ("cp /inputs/a copy; exit 7", State.FAILED)],
    ids=["a task that goes well", "a task that fails"],
)
def test_every_crash_point_is_recovered(
    tmp_path: Path, server: HttpsServer, script: str, state: State, after: bool
) -> None:
    places = []
    for fate in each_fate(after):
        site = _site(tmp_path / f"{fate.at}", server)
        submitted = _submit(site, server, script)
        before = site.snapshot(without=submitted.collection)
        plain._die(site, submitted, fate)
        if fate.dead:
            places.append(fate.where)
            _check(site, submitted, before, state, f"died at {fate.where}")
    assert places.count("register") >= (2 if state is State.COMPLETED else 1)


def test_a_worker_that_dies_in_the_middle_of_a_transfer(
    tmp_path: Path, server: HttpsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its half file is in the vault; the next worker fetches the whole one."""
    site = _site(tmp_path / "site", server)
    submitted = _submit(site, server, "cp /inputs/a copy")
    before = site.snapshot(without=submitted.collection)
    write = Sink.write

    def die(sink: Sink, block: bytes) -> None:
        write(sink, block[:1000])
        raise Died

    with monkeypatch.context() as changed:
        changed.setattr(Sink, "write", die)
        plain._die(site, submitted, Fate())
    (partial,) = (site.folder / "zone" / "vaults").rglob("fetched_inputs/0")
    assert partial.read_bytes() == CONTENT[:1000]
    _check(site, submitted, before, State.COMPLETED, "in the middle")
