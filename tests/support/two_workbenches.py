"""Two people's work in one process, as a gateway does it: ``python two_workbenches.py ZONE_DIRECTORY``.

Prints as JSON what each of them did and saw, the modules that were loaded, and every path that the
process opened, listed or changed meanwhile.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from compute_to_data import zones
from compute_to_data.client import datasets, finding, logs, secrets, site, tasks
from compute_to_data.client.site_access import PublishedSite
from compute_to_data.client.workbench import Workbench
from compute_to_data.configuration import Attributes, ZoneSettings
from compute_to_data.errors import NotFound

IMAGE = "tools"
_TOUCHES = ("open", "os.", "shutil.", "tempfile.", "sqlite3.connect", "socket.connect", "subprocess.Popen")


def touched(paths: set[str]) -> None:
    """Collect from now on what the process does with files, sockets and programs."""

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(_TOUCHES):
            paths.update(one for one in arguments if isinstance(one, str) and one.startswith(("/", ".")))
            if event == "subprocess.Popen":
                paths.add(f"program {arguments[0]}")

    sys.addaudithook(note)


def request(script: str) -> dict[str, Any]:
    process = {"image": IMAGE, "exec": "/bin/sh", "argv": ["-c", script]}
    return {"role": "CONTAINER", "inputs": [], "process": process}


def work(bench: Workbench, both_have_tasks: threading.Barrier) -> Mapping[str, Any]:
    """What one person does; the other does the same meanwhile."""
    name = bench.user.name
    done = tasks.submit(bench, request(f"echo I am {name} | tee /outputs/who.txt"))
    endless = tasks.submit(bench, request("sleep 600"))
    both_have_tasks.wait(60)
    endless.cancel()
    secrets.create(bench, "TOKEN", name.encode())
    states = [done.wait(60).state.value, endless.wait(60).state.value]
    return {
        "ids": [done.id, endless.id],
        "states": states,
        "collection": done.collection,
        "result": done.results()["who.txt"].text(),
        "log": logs.read(done).stdout.decode(),
        "listed": sorted(one.task_id for one in finding.tasks(bench)),
        "secrets": [one.data_object for one in secrets.listed(bench)],
        "datasets": len(datasets.listed(bench)),
        "resources": [(one.resource, one.has_worker) for one in site.resources(bench)],
    }


def is_hidden(bench: Workbench, task_id: str) -> bool:
    try:
        finding.find(bench, task_id)
    except NotFound:
        return True
    return False


def main(directory: str) -> None:
    paths: set[str] = set()
    touched(paths)
    published = PublishedSite(Attributes())
    users = ("alice", "bob")
    sessions = [zones.open_session(ZoneSettings("embedded", {"directory": directory, "user": user})) for user in users]
    benches = [Workbench(session, published) for session in sessions]
    both = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        did = list(pool.map(lambda bench: work(bench, both), benches))
    hidden = [is_hidden(bench, task_id) for bench, others in zip(benches, reversed(did)) for task_id in others["ids"]]
    for session in sessions:
        session.close()
    print(json.dumps({"did": did, "hidden": hidden, "modules": sorted(sys.modules), "paths": sorted(paths)}))


if __name__ == "__main__":
    main(sys.argv[1])
