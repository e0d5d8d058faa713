"""Makes ``zone_suite``, the contract every zone keeps, importable by the tests beside it, and opens
the iRODS zone of its tests: a live one, one whose dialogues are recorded, or recorded ones."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import recorded_zone

if TYPE_CHECKING:
    from contract.irods_zone import IrodsZoneUnderTest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("zone_suite")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what no recorded dialogue can show."""
    if recorded_zone.zone_mode() == "live":
        return
    live = [item for item in items if item.get_closest_marker("live_zone")]
    if live:
        config.hook.pytest_deselected(items=live)
        items[:] = [item for item in items if item not in live]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[recorded_zone.PASSED] = report.passed
    return report


@pytest.fixture(scope="module")
def _live_zone() -> Iterator[IrodsZoneUnderTest | None]:
    """One for all tests of a module: they keep out of each other's way."""
    if recorded_zone.zone_mode() != "live":
        yield None
        return
    from contract.irods_zone import ENVIRONMENT_VARIABLE, IrodsZoneUnderTest

    under_test = IrodsZoneUnderTest(os.environ[ENVIRONMENT_VARIABLE])
    yield under_test
    under_test.close()


@pytest.fixture
def irods_zone(
    _live_zone: IrodsZoneUnderTest | None,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[IrodsZoneUnderTest]:
    """The zone under test. A zone of recorded dialogues is one for each test, so that each can be
    replayed, and recorded again, by itself."""
    if _live_zone is not None:
        yield _live_zone
        return
    item: pytest.Item = request.node
    folder = tmp_path_factory.mktemp("zone")
    if recorded_zone.zone_mode() == "record":
        from contract.irods_zone import ENVIRONMENT_VARIABLE

        opened = recorded_zone.recorded(item, os.environ[ENVIRONMENT_VARIABLE], folder, monkeypatch)
    else:
        opened = recorded_zone.replayed(item, folder, monkeypatch)
    with opened as zone:
        yield zone
