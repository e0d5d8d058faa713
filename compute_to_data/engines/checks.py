"""Checks that every engine makes before it changes anything, and the new outputs directory."""

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
    for text in (*job.command, *job.environment, *job.environment.values(), job.working_directory):
        _check_text(subject, text)
    for name in job.secrets:
        if not _SECRET.fullmatch(name):
            raise EngineError(subject, f"{name!r} cannot be the name of a secret")
    wrong = misplaced(
        [*(mount.target for mount in job.inputs), *job.input_folders], [mount.target for mount in job.output_mounts]
    )
    if wrong:
        raise EngineError(subject, f"the engine cannot mount anything at {wrong[0]}: it {wrong[1]}")
    for mount in job.inputs:
        _check_input(mount.physical_path)
    for output in job.output_mounts:
        if not _OUTPUT_DIRECTORY.fullmatch(output.name):
            raise EngineError(subject, f"{output.name!r} cannot be the name of a directory in its outputs")
    return job


def usual_places_only(job: Job, engine: str) -> None:
    """Raise EngineError for a job that has an input outside ``/inputs``, or outputs outside ``/outputs``.

    For engines that cannot mount files at other paths.
    """
    places = (*(mount.target for mount in job.inputs), *job.input_folders)
    elsewhere = [place for place in places if not place.startswith("/inputs/")]
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


def make_outputs(outputs: str, owner: tuple[int, int] | None = None) -> None:
    """Make the directory ``outputs`` and its parents, with mode 0700, for ``owner`` (uid, gid; None: this account).

    EngineError when it exists, or when this process cannot make it or give it to the owner.
    """
    if owner is not None:
        check_owner(outputs, owner)
    try:
        os.makedirs(os.path.dirname(outputs), exist_ok=True)
        os.mkdir(outputs, 0o700)
    except FileExistsError as error:
        raise EngineError(outputs, "it exists already, but outputs need a new directory") from error
    except OSError as error:
        raise EngineError(outputs, f"the engine cannot make the outputs directory ({error.strerror})") from error
    if owner is not None:
        give(outputs, owner)


def check_owner(subject: str, owner: tuple[int, int]) -> None:
    """Raise EngineError unless this process can make a file for ``owner`` (uid, gid): as root, or with the same uid.

    ``subject``: the path of the file, for the error.
    """
    if os.geteuid() not in (0, owner[0]):
        raise EngineError(
            subject,
            f"it must belong to uid {owner[0]}, but the worker has uid {os.geteuid()} and cannot change owners",
            f"Run the worker as uid {owner[0]} or as root, or leave uid out of the engine's settings",
        )


def give(place: str | int, owner: tuple[int, int], subject: str = "") -> None:
    """Make ``owner`` (uid, gid) the owner of ``place``, a path or an open descriptor that this process has made.

    If this process is not root, it owns the place already and makes no system call: the worker's systemd unit
    forbids every form of chown. ``subject`` names the place in errors instead of its path.
    EngineError when this process cannot change the owner.
    """
    subject = subject or str(place)
    check_owner(subject, owner)
    if os.geteuid() != 0:
        return
    try:
        os.chown(place, *owner)
    except OSError as error:
        raise EngineError(
            subject,
            f"the worker cannot change its owner to uid {owner[0]}, gid {owner[1]} ({error.strerror})",
            "Put it on a file system where root may change owners",
        ) from error


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
