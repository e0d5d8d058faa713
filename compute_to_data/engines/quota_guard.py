"""``python3 -m compute_to_data.engines.quota_guard``: sets project quotas for workers, which have no right to do so.

It has one capability, CAP_SYS_ADMIN, and its account is the workers'. A worker hands it an open directory of this
account, and asks one of three things:

- ``hold``: give the directory to the project whose id is a job's uid, with these limits;
- ``release``: take everything in the directory out of such projects, and their limits away;
- ``check``: nothing but whether the file system holds projects to their limits.

It uses no other project ids. A request and its answer are JSON; the answer is the problem, '' for none.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from compute_to_data.engines import guard, project_quotas
from compute_to_data.engines.job_ids import JobIds, of_setting
from compute_to_data.errors import ComputeToDataError

SOCKET = "/run/compute-to-data-quotas/socket"
"""Where the unit's process listens."""
HOLD, RELEASE, CHECK = "hold", "release", "check"
_LIMIT = 1 << 62


def answer(request: Sequence[Any], directory: int, ids: JobIds, owner: int) -> str:
    """Do what a worker asks about an open directory of the uid ``owner``. Returns the problem, '' for none."""
    status, (kind, *values) = os.fstat(directory), request
    if not stat.S_ISDIR(status.st_mode) or (kind != CHECK and status.st_uid != owner):
        return f"it is not a directory of uid {owner}"
    try:
        if not project_quotas.are_held(directory):
            return "its file system holds no project quotas"
        if kind == HOLD:
            return _hold(directory, ids, owner, *values)
        if kind == RELEASE:
            for project in project_quotas.take(directory, owner, ids.has):
                project_quotas.limit(directory, project, 0, 0)
    except OSError as error:
        return f"its project quota cannot be set ({error.strerror})"
    return ""


def _hold(directory: int, ids: JobIds, owner: int, project: int, most_bytes: int, most_entries: int) -> str:
    if not ids.has(project) or not (0 < most_bytes < _LIMIT and 0 < most_entries < _LIMIT):
        return f"a job has no project {project} with {most_bytes} bytes and {most_entries} entries"
    other = project_quotas.project_of(directory)
    if other != project_quotas.NONE and not ids.has(other):
        return f"it belongs to the project {other} already, of which jobs would not be a part"
    project_quotas.limit(directory, project, *project_quotas.room(directory, most_bytes, most_entries))
    project_quotas.give(directory, project, owner)
    return ""


def serve(channel: socket.socket, ids: JobIds) -> NoReturn:
    """Answer one request."""
    request, descriptors, _, _ = socket.recv_fds(channel, guard.MOST_BYTES, 1)
    if request and descriptors:
        channel.send(json.dumps(answer(json.loads(request), descriptors[0], ids, os.geteuid())).encode())
    os._exit(0)


def main(arguments: Sequence[str] | None = None) -> int:
    """``python3 -m compute_to_data.engines.quota_guard --configuration FILE``."""
    description = "Set the project quotas of jobs."
    import argparse

    from compute_to_data import site_file  # here, since a program on a Slurm node imports this module for each job

    parser = argparse.ArgumentParser(prog="compute_to_data.engines.quota_guard", description=description)
    parser.add_argument("--configuration", required=True, help="the site's configuration file")
    parser.add_argument("--socket", default=SOCKET, help="where workers find it (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        settings = site_file.load(options.configuration).engine.settings
        ids = of_setting(settings.get("job_uids", "")) if settings.get("project_quotas") else None
    except ComputeToDataError as error:
        print(error, file=sys.stderr)
        return 1
    if ids is not None:
        found = ids
        guard.listen(options.socket, lambda channel: serve(channel, found))
    print('nothing to do: the configuration has no "project_quotas": true', file=sys.stderr)
    guard.say_ready()  # else systemd would take this end for a failure, and start it again
    return 0


if __name__ == "__main__":
    sys.exit(main())
