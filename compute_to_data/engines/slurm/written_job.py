"""A job as a JSON document, as the worker hands it to a node. Its secrets are not in it."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import Any

from compute_to_data.job import Image, Job, JobKey, Limits, Mount, OutputMount, Sandbox
from compute_to_data.model import User


def document(job: Job) -> dict[str, Any]:
    """The document for a job."""
    found = asdict(replace(job, secrets={}))
    found["key"] = job.key.text
    found["image"]["aliases"] = sorted(job.image.aliases)
    return found


def job(found: dict[str, Any], secrets: dict[str, bytes]) -> Job:
    """The job in a document, with the values of its secrets. It runs in a sandbox of its own."""
    values = {one.name: found[one.name] for one in fields(Job)}
    image, sandbox = found["image"], found["sandbox"]
    values.update(
        key=JobKey(found["key"]),
        owner=User(**found["owner"]),
        image=Image(**{**image, "aliases": frozenset(image["aliases"])}),
        command=tuple(found["command"]),
        limits=Limits(**found["limits"]),
        inputs=tuple(Mount(**one) for one in found["inputs"]),
        input_folders=tuple(found["input_folders"]),
        output_mounts=tuple(OutputMount(**one) for one in found["output_mounts"]),
        sandbox=sandbox and Sandbox(**{**sandbox, "instances": 0}),
        helper=tuple(found["helper"]),
        secrets=secrets,
    )
    return Job(**values)
