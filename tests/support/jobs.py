"""Finds the jobs of an engine by their keys, and what they wrote."""

from __future__ import annotations

from compute_to_data import log_file
from compute_to_data.job import Job, JobKey, Logs
from compute_to_data.ports.engine import Engine, RunningJob


def held(engine: Engine, key: JobKey) -> RunningJob:
    """The job with this key. Fails when the engine has none."""
    found = engine.find(key)
    assert found is not None, f"the engine holds no job {key}"
    return found


def written(engine: Engine, job: Job) -> Logs:
    """What remains of all that an ended job wrote."""
    held(engine, job.key).finish_log()
    return remains(job.log_file)


def remains(file: str) -> Logs:
    """What remains of each stream in a log, which may still be written."""
    with log_file.opened(file) as reader:
        header = reader.header()
        out, err = (
            b"".join(log_file.remains(reader, header, log_file.kept(reader, header, stream))) for stream in (0, 1)
        )
    return Logs(out, err)
