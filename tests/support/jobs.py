"""Finds the jobs of an engine by their keys."""

from __future__ import annotations

from compute_to_data.job import JobKey
from compute_to_data.ports import Engine, RunningJob


def held(engine: Engine, key: JobKey) -> RunningJob:
    """The job with this key. Fails when the engine has none."""
    found = engine.find(key)
    assert found is not None, f"the engine holds no job {key}"
    return found
