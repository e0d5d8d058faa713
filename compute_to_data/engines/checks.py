"""Checks that every engine makes before it changes anything."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from typing import Any

from compute_to_data.errors import ConfigurationError, EngineError
from compute_to_data.job import Job, JobKey, misplaced

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_OUTPUT_DIRECTORY = re.compile(r"(?!\.{1,2}\Z)[^/\0]{1,255}")
_SECRET = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_VARIABLE = re.compile(r"[^=\0]+")


def key(key: JobKey) -> str:
    """The text of ``key``. EngineError unless it can be part of a container's name and of a path."""
    if not _KEY.fullmatch(key.text):
        raise EngineError(
            f"job key {key.text!r}", "it contains characters other than letters, digits, '-', '_' and '.'"
        )
    return key.text


def job(job: Job) -> Job:
    """Return ``job`` if every engine can run it as it is, else raise EngineError.

    The error may be: text that is not UTF-8 or contains NUL, an invalid variable name, a mount at a path that the
    sandbox or another mount needs, or an input that is not a regular file. A symbolic link is refused, because
    it could lead anywhere.
    """
    key(job.key)
    subject = job.key.task
    if not job.command or not job.command[0]:
        raise EngineError(subject, "its command names no program")
    for name in job.environment:
        if not _VARIABLE.fullmatch(name):
            raise EngineError(subject, f"{name!r} cannot be the name of an environment variable")
    for text in (*job.command, *job.environment, *job.run_by(0, 0).environment.values(), job.working_directory):
        _check_text(subject, text)
    for name in job.secrets:
        if not _SECRET.fullmatch(name):
            raise EngineError(subject, f"{name!r} cannot be the name of a secret")
    wrong = misplaced(_input_places(job), [mount.target for mount in job.output_mounts])
    if wrong:
        raise EngineError(subject, f"the engine cannot mount anything at {wrong[0]}: it {wrong[1]}")
    for mount in job.inputs:
        _check_input(mount.physical_path)
    for output in job.output_mounts:
        if not _OUTPUT_DIRECTORY.fullmatch(output.name):
            raise EngineError(subject, f"{output.name!r} cannot be the name of a directory in its outputs")
    return job


def _input_places(job: Job) -> list[str]:
    """Where the job sees its inputs and empty directories, without ``/inputs`` itself. EngineError when that is to
    be an empty directory although something is below it."""
    places = [*(mount.target for mount in job.inputs), *(one for one in job.input_folders if one != "/inputs")]
    if "/inputs" in job.input_folders and any(place.startswith("/inputs/") for place in places):
        raise EngineError(job.key.task, "the engine cannot mount anything in /inputs, which is to be empty")
    return places


def usual_places_only(job: Job, engine: str) -> None:
    """Raise EngineError for a job that has an input outside ``/inputs``, but for its notebook, or outputs outside
    ``/outputs``.

    For engines that cannot mount files at other paths.
    """
    elsewhere = [place for place in _input_places(job) if not place.startswith(("/inputs/", "/notebook/"))]
    elsewhere += [mount.target for mount in job.output_mounts]
    if elsewhere:
        cause = f"the {engine} engine has only /inputs and /outputs, but the job needs a mount at {elsewhere[0]}"
        raise EngineError(job.key.task, cause, "Run it with the docker engine")


def _check_text(subject: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise EngineError(subject, f"{text!r} is not valid UTF-8 text") from error
    if "\0" in text:
        raise EngineError(subject, f"{text!r} contains a NUL character")


def _check_input(physical_path: str) -> None:
    subject = f"input {physical_path}"
    try:
        mode = os.lstat(physical_path).st_mode
    except OSError as error:
        raise EngineError(subject, f"the engine cannot use it ({error.strerror})") from error
    if not stat.S_ISREG(mode):
        raise EngineError(subject, "it is not a regular file")


def settings(engine: str, given: Mapping[str, Any], known: Mapping[str, type]) -> dict[str, Any]:
    """``given``, if every key is known and every value has its type. An integer counts as a float, a boolean not
    as an integer. ConfigurationError with the JSON pointer."""
    for key, value in given.items():
        if key not in known:
            raise ConfigurationError(
                f"/engine/settings/{key}",
                f"the {engine} engine has no such setting",
                f"Its settings are: {', '.join(sorted(known))}",
            )
        wanted = known[key]
        accepted = (int, float) if wanted is float else wanted
        if not isinstance(value, accepted) or (isinstance(value, bool) and wanted is not bool):
            raise ConfigurationError(f"/engine/settings/{key}", f"{value!r} is not a {wanted.__name__}")
    return dict(given)
