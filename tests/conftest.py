"""What every folder of tests may ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.real_docker import need_docker
from support.site import TrialSite

# How quick a machine is says nothing about the code; with CI set, Hypothesis has it so by itself.
settings.register_profile("any machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def docker_answers() -> None:
    """Skips without a Docker engine, with the reason; in CI that is a failure, never a silent pass."""
    need_docker()


@pytest.fixture
def site(tmp_path: Path) -> TrialSite:
    """A site whose engine runs plain processes: the whole pipeline without a container's cost."""
    tools = tmp_path / "tools"
    tools.mkdir()
    return TrialSite(tmp_path, {"name": "process", "images": {"tools": str(tools)}}, "tools")
