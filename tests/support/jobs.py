"""Jobs of an engine, asked for by their keys."""

from __future__ import annotations

from compute_to_data.job import JobKey
from compute_to_data.ports import Engine, RunningJob


def held(engine: Engine, key: JobKey) -> RunningJob:
    """The job of a key, which the engine is to hold."""
    found = engine.find(key)
    assert found is not None, f"the engine holds no job {key}"
    return found
