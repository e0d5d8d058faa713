"""One of each thing that a user may have, made through the gateway, and the addresses at which they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from support.site import HOME, TrialSite, wait_until

TES = "/ga4gh/tes/v1/tasks"


@dataclass
class Things:
    """``task`` has completed, with the result ``x``; the others are there. ``opened``: a name for a data object that is
    open to be read."""

    task: str
    tes_task: str
    dataset: str
    workload: str
    process: str
    secret: str
    opened: str

    def parameters(self, path: str) -> dict[str, str]:
        """The values of the parameters in one of the paths of the OpenAPI document, or of a page's route."""
        names = {
            "id": self.tes_task,
            "task_id": self.tes_task if "/tes/" in path else self.task,
            "dataset_id": self.dataset,
            "workload_id": self.workload,
            "process_id": self.process,
            "path": "x",
            "name": self.secret if "/secrets/" in path else self.opened if "/open/" in path else "dsp_resc",
            "method": "resources",
        }
        return {name: value for name, value in names.items() if f"{{{name}}}" in path or f"{{{name}:" in path}


def make_things(client: httpx.Client, site: TrialSite, end: str = "") -> Things:
    """Make them as the client's user. A worker must run. ``end`` distinguishes their names."""
    task = _made(client, "/api/v1/tasks", site.request("/bin/sh", "-c", "echo x > /outputs/x"))["task_id"]
    executor = {"image": site.image, "command": ["true"]}
    tes_task = _made(client, TES, {"executors": [executor]})["id"]
    workload = _made(client, "/api/v1/workloads", {"image": site.image, "name": f"many{end}"})["workload"]
    process = str(_made(client, "/api/process_definition/", {"definition": {"exec": "true", "args": []}})["id"])
    dataset = client.post("/api/v1/datasets", files=[("files", (f"m{end}/x", b"x"))]).json()["dataset"]
    assert client.put(f"/api/v1/secrets/S{end}", content=b"hidden").status_code == 201
    site.alice.write(f"{HOME}/readable{end}", b"opened")
    opened = client.post("/api/v1/catalog/open", params={"path": f"{HOME}/readable{end}"}).json()["result"]
    for one in (task, tes_task):
        wait_until(lambda one=one: client.get(f"/api/v1/tasks/{one}").json()["state"] == "COMPLETED", "its end")
    return Things(task, tes_task, dataset, workload, process, f"S{end}", opened)


def _made(client: httpx.Client, address: str, document: dict[str, Any]) -> dict[str, Any]:
    answer = client.post(address, json=document)
    assert answer.status_code in (200, 201), answer.text
    found: dict[str, Any] = answer.json()
    return found
