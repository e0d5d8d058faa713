"""``c2d`` on a computer that has no iRODS client: signing in, and then the commands as anywhere."""

from __future__ import annotations

import base64
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.gateways import PASSWORDS, RunningGateway, let_go, served
from support.site import HOME, PATIENCE, WAITS, TrialSite, wait_until

import compute_to_data as c2d
from compute_to_data import zones
from compute_to_data.client.signing_in import login
from compute_to_data.configuration import ZoneSettings
from compute_to_data.errors import AccessDenied, ConfigurationError, ZoneOutOfReach

Run = Callable[..., "subprocess.CompletedProcess[str]"]

# What a computer without iRODS client, Docker client and gateway has not got.
BARE = "import sys; sys.modules.update(dict.fromkeys(('irods', 'docker', 'fastapi', 'uvicorn', 'jinja2')));" + (
    "from compute_to_data.cli.main import main; sys.exit(main())"
)


@pytest.fixture
def laptop(tmp_path: Path) -> Run:
    """Type a command on a computer of its own."""
    folder = tmp_path / "laptop"
    folder.mkdir()

    def run(*words: str, typed: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"HOME": str(folder), "PATH": os.environ["PATH"], **variables}
        return subprocess.run(
            [sys.executable, "-c", BARE, *words],
            input=typed, text=True, capture_output=True, cwd=folder, env=environment, timeout=PATIENCE,
        )  # fmt: skip

    return run


def session_of(tmp_path: Path) -> Path:
    return tmp_path / "laptop" / ".local/state/compute-to-data/session.json"


def test_sign_in_run_fetch_and_sign_out(gateway: RunningGateway, laptop: Run, site: TrialSite, tmp_path: Path) -> None:
    done = laptop("login", gateway.url, "--user", "alice", typed=f"{PASSWORDS['alice']}\n")
    assert (done.returncode, done.stdout) == (0, "alice#tempZone\n"), done.stderr
    file = session_of(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token = json.loads(file.read_text())["token"]
    assert PASSWORDS["alice"] not in file.read_text()
    found = json.loads(laptop("whoami", "--output", "json").stdout)
    assert (found["user"], found["home"], found["gateway"]) == ("alice#tempZone", HOME, gateway.url)
    assert found["expires"]

    (tmp_path / "laptop" / "data").mkdir()
    (tmp_path / "laptop" / "data" / "a.txt").write_text("axbxc\n")
    with site.working():
        ran = laptop("run", site.image, "-i", "data", "--", "/bin/sh", "-c", "true")
        assert "is dataset d-" in ran.stderr, ran.stderr
        ran = laptop("run", site.image, "--", "/bin/sh", "-c", "echo result > /outputs/x; echo printed")
    assert (ran.returncode, ran.stdout) == (0, "printed\n"), ran.stderr
    (listed, *_) = json.loads(laptop("list", "--output", "json").stdout)
    assert laptop("logs", listed["task_id"]).stdout == "printed\n"
    fetched = laptop("fetch", listed["task_id"], "x", "--output", "here")
    assert fetched.returncode == 0, fetched.stderr
    assert (tmp_path / "laptop" / "here" / "x").read_text() == "result\n"
    assert laptop("status", listed["task_id"], "--admin").returncode == 3

    assert laptop("logout").stderr == "signed out\n"
    assert "token" not in json.loads(file.read_text())
    after = laptop("list")
    assert after.returncode == 3
    assert f"c2d login {gateway.url}" in after.stderr
    assert laptop("list", C2D_TOKEN=token).returncode == 3, "the token has ended"


def test_the_gateway_wakes_an_on_demand_worker(gateway: RunningGateway, laptop: Run, site: TrialSite) -> None:
    """Nobody works here until the gateway, which runs as the worker's account, starts a worker."""
    laptop("login", gateway.url, "--user", "alice", typed=f"{PASSWORDS['alice']}\n")
    ran = laptop("run", site.image, "--", "/bin/sh", "-c", "echo woken")
    assert (ran.returncode, ran.stdout) == (0, "woken\n"), ran.stderr


def test_a_session_that_ends_while_a_task_is_followed(gateway: RunningGateway, laptop: Run, site: TrialSite) -> None:
    """The task continues, and the person learns how to find it again."""
    laptop("login", gateway.url, "--user", "alice", typed=f"{PASSWORDS['alice']}\n")
    with ThreadPoolExecutor(1) as pool, site.working():
        run = pool.submit(laptop, "run", site.image, "--", "/bin/sh", "-c", WAITS)
        with gateway.client("alice") as alice:
            wait_until(lambda: bool(alice.get("/api/v1/tasks?state=RUNNING").json()["tasks"]), "the task to run")
            (task,) = alice.get("/api/v1/tasks").json()["tasks"]
        gateway.gateway.people.tokens.tend(everything=True)
        done = run.result(PATIENCE)
        let_go(site, task["task_id"], f"{HOME}/c2d_results")
    assert done.returncode == 3, done.stderr
    assert f"the task continues. Follow it: c2d logs {task['task_id']} --follow" in done.stderr


def test_the_address_that_c2d_serve_prints(site: TrialSite, laptop: Run) -> None:
    with served(site, "--port", "0") as (address, _):
        done = laptop("login", address)
        assert (done.returncode, done.stdout) == (0, "alice#tempZone\n"), done.stderr
        assert laptop("list").returncode == 0
        assert laptop("login", address).returncode == 3


def test_a_token_in_the_environment_stands_above_the_file(gateway: RunningGateway, laptop: Run, tmp_path: Path) -> None:
    laptop("login", gateway.url, "--user", "alice", typed=f"{PASSWORDS['alice']}\n")
    with gateway.client("bob") as bob:
        token = bob.post("/authenticate").text
    assert laptop("whoami", "--output", "raw", C2D_TOKEN=token).stdout.startswith("user\tbob#tempZone\n")
    assert laptop("whoami", C2D_TOKEN="wrong").returncode == 3


def test_a_wrong_password(gateway: RunningGateway, laptop: Run, tmp_path: Path) -> None:
    done = laptop("login", gateway.url, "--user", "alice", typed="wrong\n")
    assert done.returncode == 3
    assert "password is wrong" in done.stderr
    assert not session_of(tmp_path).exists()


@pytest.mark.parametrize(
    "url",
    ["http://c2d.example.org", "http://192.0.2.1:8427", "ftp://x", "https://alice:pw@x", "https://", ""],
)
def test_no_password_goes_to_a_wrong_address(laptop: Run, url: str) -> None:
    done = laptop("login", url, "--user", "alice", typed="a password\n")
    assert done.returncode == 2, done.stderr


def test_a_host_alone_is_reached_by_https(laptop: Run, unused_port: int) -> None:
    done = laptop("login", f"127.0.0.1:{unused_port}", "--user", "alice", typed="a password\n")
    assert done.returncode == 7
    assert f"https://127.0.0.1:{unused_port}: the gateway does not answer" in done.stderr


def test_a_token_goes_to_its_own_gateway_only() -> None:
    zone = ZoneSettings("gateway", {"url": "https://evil.example"})
    with pytest.raises(AccessDenied, match="not signed in there"):
        login.with_token(zone, {"gateway": "https://c2d.example.org", "token": "secret"})


def test_a_gateway_that_does_not_answer(unused_port: int) -> None:
    with pytest.raises(ZoneOutOfReach, match="does not answer"):
        zones.gateway_session(f"http://127.0.0.1:{unused_port}", "Bearer x")


def test_a_gateway_that_hangs_up_says_so_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        found = pool.submit(zones.gateway_session, url, "Bearer x")
        for _ in range(2):  # it asks once more
            connection, _ = listening.accept()
            connection.recv(65536)
            connection.close()
        with pytest.raises(ZoneOutOfReach, match="does not answer: Remote end closed connection without response"):
            found.result(PATIENCE)


def test_without_urllib3(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.startswith(("compute_to_data.zones.gateway", "urllib3"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(zones, "gateway")
    monkeypatch.setitem(sys.modules, "urllib3", None)
    with pytest.raises(ConfigurationError, match=r"pip install '.\[http\]'"):
        zones.gateway_session("https://c2d.example.org", "Bearer x")


def test_each_zone_has_its_place(gateway: RunningGateway, laptop: Run) -> None:
    laptop("login", gateway.url, "--user", "alice", typed=f"{PASSWORDS['alice']}\n")
    (listed,) = json.loads(laptop("zone", "list", "--output", "json").stdout)
    assert (listed["kind"], listed["place"], listed["in_use"]) == ("gateway", gateway.url, True)
    assert laptop("project", "set", HOME).returncode == 0
    assert json.loads(laptop("whoami", "--output", "json").stdout)["project"] == HOME


def test_the_python_api(gateway: RunningGateway, site: TrialSite, tmp_path: Path) -> None:
    config, session = str(tmp_path / "config.json"), str(tmp_path / "session.json")
    login.sign_in(gateway.url, login.with_password("alice", PASSWORDS["alice"]), config, session)
    with site.working(), c2d.connect(config, session) as opened:
        task = opened.submit({"role": "CONTAINER", "inputs": [], "process": site.process("/bin/sh", "-c", "echo hi")})
        assert task.wait(PATIENCE).state.value == "COMPLETED"
        assert task.logs().stdout == b"hi\n"
        assert [one.resource for one in c2d.client.site.resources(opened)] == ["dsp_resc"]


def test_basic_is_base64() -> None:
    assert login.with_password("a#z", "p:ü") == f"Basic {base64.b64encode('a#z:p:ü'.encode()).decode()}"
