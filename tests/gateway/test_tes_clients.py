"""The Task Execution Service with a client of others: py-tes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tes
from support.gateways import PASSWORDS, RunningGateway
from support.site import HOME, PATIENCE, TrialSite, wait_until


def client_of(gateway: RunningGateway, user: str = "alice") -> tes.HTTPClient:
    return tes.HTTPClient(gateway.url, timeout=int(PATIENCE), user=user, password=PASSWORDS[user])


def test_py_tes(gateway: RunningGateway, site: TrialSite) -> None:
    client = client_of(gateway)
    site.alice.write(f"{HOME}/in.txt", b"axbxc\n")
    task = tes.Task(
        name="without x",
        inputs=[
            tes.Input(url=f"irods://{HOME}/in.txt", path="/inputs/in.txt", type="FILE"),
            tes.Input(path="/inputs/word", content="hello\n", type="FILE"),
        ],
        outputs=[tes.Output(path="/outputs/out.txt", url=f"irods://{HOME}/made/out.txt", type="FILE")],
        resources=tes.Resources(cpu_cores=1, ram_gb=0.5, disk_gb=0.1),
        executors=[
            tes.Executor(image=site.image, command=["/bin/sh", "-c", "tr -d x < /inputs/in.txt > /outputs/out.txt"]),
            tes.Executor(image=site.image, command=["/bin/sh", "-c", "cat /inputs/word | tee -a /outputs/out.txt"]),
        ],
        tags={"project": "trial"},
    )
    with site.working():
        task_id = client.create_task(task)
        ended = client.wait(task_id, timeout=PATIENCE)
        assert ended.state == "COMPLETE"
        full = client.get_task(task_id, view="FULL")
        assert (full.name, full.tags, full.executors[0].image) == ("without x", {"project": "trial"}, site.image)
        (log,) = full.logs
        assert [(one.exit_code, one.stdout) for one in log.logs] == [(0, ""), (0, "hello\n")]
        assert [(one.url, one.path, one.size_bytes) for one in log.outputs] == [
            (f"irods://{HOME}/made/out.txt", "/outputs/out.txt", 10)
        ]
        assert log.start_time is not None and log.start_time <= log.end_time
        assert site.alice.read(f"{HOME}/made/out.txt", 99) == b"abc\nhello\n"
        running = client.create_task(tes.Task(executors=[tes.Executor(image=site.image, command=["sleep", "600"])]))
        wait_until(lambda: client.get_task(running, "MINIMAL").state == "RUNNING", "the task to run")
        client.cancel_task(running)
        wait_until(lambda: client.get_task(running, "MINIMAL").state == "CANCELED", "the task to be canceled")
    page = client.list_tasks(page_size=1)
    assert [one.id for one in page.tasks] == [running]
    rest = client.list_tasks(view="BASIC", page_token=page.next_page_token)
    assert [(one.id, one.name) for one in rest.tasks] == [(task_id, "without x")]
    assert client.get_service_info().type["artifact"] == "tes"
    with pytest.raises(Exception, match="404"):
        client_of(gateway, "bob").get_task(task_id)


OLDER = "py-tes==0.4.2"
"""The last one before TES 1.1, which others pin. It cannot be installed beside the newer one, so it has a folder."""
_WITH_OLDER = """
import json, sys, tes
assert not hasattr(tes.Resources(), "backend_parameters"), "this is the newer one"
url, password, image, source, target = sys.argv[1:]
client = tes.HTTPClient(url, timeout=120, user="alice", password=password)
task_id = client.create_task(tes.Task(
    name="older",
    inputs=[tes.Input(url=source, path="/inputs/in.txt", type="FILE")],
    outputs=[tes.Output(url=target, path="/outputs/out.txt", type="FILE")],
    resources=tes.Resources(cpu_cores=1, ram_gb=0.5, preemptible=False),
    executors=[tes.Executor(image=image, command=["/bin/sh", "-c", "tee /outputs/out.txt < /inputs/in.txt"])],
    tags={"a": "b"},
))
state = client.wait(task_id, timeout=120).state
full = client.get_task(task_id, view="FULL")
long = client.create_task(tes.Task(executors=[tes.Executor(image=image, command=["sleep", "600"])]))
client.cancel_task(long)
print(json.dumps({
    "ids": [task_id, long], "state": state, "name": full.name, "stdout": full.logs[0].logs[0].stdout,
    "sizes": [str(one.size_bytes) for one in full.logs[0].outputs], "canceled": client.wait(long, timeout=120).state,
    "listed": [one.id for one in client.list_tasks().tasks], "service": client.get_service_info().name,
}))
"""


@pytest.fixture
def older(tmp_path: Path) -> Path:
    folder = tmp_path / "older"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--target",
        str(folder),
        OLDER,
        "future>=1,<2",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        pytest.skip(f"{OLDER} cannot be installed here: {done.stderr[-300:]}")
    return folder


def test_the_older_py_tes(gateway: RunningGateway, site: TrialSite, older: Path) -> None:
    site.alice.write(f"{HOME}/in.txt", b"hello\n")
    environment = {**os.environ, "PYTHONPATH": str(older), "NO_PROXY": "*"}
    words = [f"{gateway.url}/ga4gh/tes", PASSWORDS["alice"], site.image, f"irods://{HOME}/in.txt", f"irods://{HOME}/o"]
    with site.working():
        command = [sys.executable, "-W", "ignore", "-c", _WITH_OLDER, *words]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    ids = found.pop("ids")
    assert found == {
        "state": "COMPLETE", "name": "older", "stdout": "hello\n", "sizes": ["6"], "canceled": "CANCELED",
        "listed": ids[::-1], "service": "Compute to data for iRODS",
    }  # fmt: skip
    assert site.alice.read(f"{HOME}/o", 99) == b"hello\n"
