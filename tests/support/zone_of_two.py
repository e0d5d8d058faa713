"""A real iRODS zone of two servers in containers, for as long as tests need it: ``make test-zone``.

    python tests/support/zone_of_two.py [pytest's arguments]

``irods-zone/Dockerfile`` builds the servers' image; ``C2D_TEST_IRODS_IMAGE`` names one that is there already.
``C2D_TEST_IRODS_TLS``, if anything, makes a zone whose connections all need TLS.
``C2D_TEST_IRODS_FEDERATION``, if anything, also starts another zone, of one server, that this one trusts.
The catalog provider has this machine's host name, so that workers of its resources run here, as on its host. Those of
the consumer's resources run in its container. Both have the zone's folder at the same path as this machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from irods import password_obfuscation
from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

CHECKOUT = Path(__file__).parents[2]
sys.path.insert(0, str(CHECKOUT / "tests"))
from support import certificates  # noqa: E402 (this file is a program, too)

IMAGE = "C2D_TEST_IRODS_IMAGE"
TLS = "C2D_TEST_IRODS_TLS"
FEDERATION = "C2D_TEST_IRODS_FEDERATION"
OTHER_ZONE, OTHER = "otherZone", "c2d-other"
AUTHORITY = "authority"
TASKS_IMAGE = "compute-to-data/base:bookworm"
CONSUMER = "c2d-consumer"
START_SECONDS = 600
SUITES = (
    *(str(file.relative_to(CHECKOUT)) for file in sorted(CHECKOUT.glob("tests/integration/test_irods_*.py"))),
    "tests/contract/test_irods.py",
    "tests/contract/test_irods_adapter.py",
    "tests/contract/test_irods_4_3.py",
    "tests/client/test_real_zone.py",
    "tests/recovery/test_nothing_is_lost.py",
)
ICOMMANDS = re.findall(
    r"\w+",
    """
    iadmin iget ichmod ichksum icp iinit ils ilsresc imeta imkdir imv ipasswd iput iqdel iqstat iquest ireg irepl irm
    irsync irule istream itouch itree itrim iuserinfo""",
)


@contextlib.contextmanager
def started(folder: Path) -> Iterator[dict[str, str]]:
    """A zone while inside; the environment that names it to the tests. ``folder`` is to hold its vaults."""
    uid = _service_uid()
    folder.chmod(0o755)
    (folder / "vaults").mkdir()
    shutil.chown(folder / "vaults", uid)
    if os.environ.get(TLS):
        certificates.make_authority(folder / AUTHORITY)
    here = socket.gethostname()
    with _image() as image, Network() as network, contextlib.ExitStack() as stack:
        servers = {}
        kinds = {here: "provider", CONSUMER: "consumer", **({OTHER: "provider"} if os.environ.get(FEDERATION) else {})}
        for host, role in kinds.items():
            # A killed server leaves 40 MB of shared memory behind.
            server = DockerContainer(image, init=True, hostname=host, shm_size="1g")
            server.with_network(network).with_network_aliases(host).with_command(role)
            server.with_envs(ZONE_FOLDER=str(folder), SERVICE_UID=str(uid), PROVIDER=OTHER if host == OTHER else here)
            if host == OTHER:
                server.with_envs(ZONE_NAME=OTHER_ZONE, FEDERATED=f"tempZone@{here}")
            elif os.environ.get(FEDERATION):
                server.with_env("FEDERATED", f"{OTHER_ZONE}@{OTHER}")
            server.with_env("ZONE_TLS", os.environ.get(TLS, ""))
            server.with_volume_mapping(str(folder), str(folder), "rw")
            server.with_volume_mapping(str(CHECKOUT), str(CHECKOUT), "ro")
            answers = LogMessageWaitStrategy("the server answers").with_startup_timeout(START_SECONDS)
            stack.callback(server.stop)
            try:
                server.waiting_for(answers).start()
            except (RuntimeError, TimeoutError):
                sys.stderr.write("".join(text.decode(errors="replace") for text in server.get_logs()))
                raise
            servers[host] = server.get_wrapped_container()
            servers[host].reload()
        addresses = {
            host: next(iter(server.attrs["NetworkSettings"]["Networks"].values()))["IPAddress"]
            for host, server in servers.items()
        }
        names = {addresses[host]: str(server.name) for host, server in servers.items()}
        yield _environment(folder, uid, here, addresses, names)


def _service_uid() -> int:
    """The account that owns the servers' files and runs the workers."""
    if os.geteuid() != 0:
        return os.geteuid()
    accounts = {one.pw_name: one.pw_uid for one in pwd.getpwall()}
    return accounts.get("irods", accounts["nobody"])


@contextlib.contextmanager
def _image() -> Iterator[str]:
    if os.environ.get(IMAGE):
        yield os.environ[IMAGE]
        return
    with DockerImage(Path(__file__).parent / "irods-zone", tag="compute-to-data/irods-zone", clean_up=False) as built:
        yield str(built)


def _environment(folder: Path, uid: int, here: str, addresses: dict[str, str], names: dict[str, str]) -> dict[str, str]:
    provider, consumer = addresses[here], addresses[CONSUMER]
    container, other = names[provider], names[consumer]
    service = _account(folder / "service", provider, "rods", "rods", uid)
    user = _user(folder, container, provider)
    python = os.environ.get("C2D_TEST_IRODS_PYTHON") or sys.executable
    _program(folder / "python", f'p=/opt/worker/bin/python; [ -x $p ] || p={shlex.quote(python)}; exec $p "$@"')
    commands = folder / "bin"
    commands.mkdir()
    for name in ICOMMANDS:
        _program(commands / name, _icommand(name, names, container))
    core, configuration = _installed(folder, here, service)
    serve = f"docker exec {container} serve"
    encryption = {}
    if os.environ.get(TLS):
        tls = folder / here / "tls"
        encryption = {TLS: str(tls), "C2D_TEST_IRODS_AUTHORITY": str(folder / AUTHORITY), **_pam_user(container)}
    federated = {}
    if OTHER in addresses:
        file = _federated(folder, here, container, provider, names[addresses[OTHER]])
        federated = {"C2D_TEST_IRODS_FEDERATED": file, "C2D_TEST_IRODS_FEDERATED_HOST": addresses[OTHER]}
    return {
        **encryption,
        **federated,
        "C2D_TEST_IRODS_ENVIRONMENT_FILE": _account(folder / "administrator", provider, "rods", "rods", os.geteuid()),
        "C2D_TEST_IRODS_SERVICE_ENVIRONMENT_FILE": service,
        "C2D_TEST_IRODS_USER_ENVIRONMENT_FILE": user,
        "C2D_TEST_IRODS_CONSUMER_ENVIRONMENT_FILE": _account(folder / "over", consumer, "rods", "rods", os.geteuid()),
        "C2D_TEST_IRODS_CONSUMER_SERVICE_ENVIRONMENT_FILE": _account(folder / "aside", consumer, "rods", "rods", uid),
        "C2D_TEST_IRODS_CONSUMER": CONSUMER,
        "C2D_TEST_IRODS_CONSUMER_EXEC": f"docker exec -i -u {uid} {other}",
        "C2D_TEST_IRODS_CONSUMER_CORE": str(folder / CONSUMER / "etc" / "core.py"),
        "C2D_TEST_IRODS_CONSUMER_STOP": f"docker exec {other} serve stop",
        "C2D_TEST_IRODS_CONSUMER_START": f"docker exec {other} serve start",
        "C2D_TEST_IRODS_CONSUMER_LOSE": f"docker pause {other}",
        "C2D_TEST_IRODS_CONSUMER_FIND": f"docker unpause {other}",
        "C2D_TEST_IRODS_VAULTS": str(folder / "vaults"),
        "C2D_TEST_IRODS_PYTHON": str(folder / "python"),
        "C2D_TEST_IRODS_CORE": core,
        "C2D_TEST_IRODS_POLICIES": "1",
        "C2D_TEST_IRODS_STOP": f"{serve} stop",
        "C2D_TEST_IRODS_START": f"{serve} start",
        "C2D_TEST_IRODS_KILL": f"{serve} kill",
        "C2D_TEST_IRODS_SQL": f"docker exec -i -u postgres {container} psql -qAt -v ON_ERROR_STOP=1 ICAT",
        "COMPUTE_TO_DATA_CONFIGURATION": configuration,
        "PATH": f"{commands}:{os.environ['PATH']}",
    }


def _account(place: Path, address: str, user: str, password: str, uid: int) -> str:
    """An environment file as ``iinit`` leaves it."""
    place.mkdir()
    settings = {"irods_host": address, "irods_port": 1247, "irods_user_name": user, "irods_zone_name": "tempZone"}
    file, secret = place / "irods_environment.json", place / ".irodsA"
    settings |= {"irods_client_server_policy": "CS_NEG_REFUSE", "irods_default_resource": "demoResc"}
    settings["irods_authentication_file"] = str(secret)
    if os.environ.get(TLS):
        settings |= certificates.encrypted(place.parent / f"{AUTHORITY}.pem")
    file.write_text(json.dumps(settings))
    secret.write_text(password_obfuscation.encode(password, uid))
    secret.chmod(0o600)
    for path in (place, file, secret):
        os.chown(path, uid, -1)
    return str(file)


def _user(folder: Path, container: str, address: str) -> str:
    password = secrets.token_hex(8)
    for words in (["mkuser", "alice", "rodsuser"], ["moduser", "alice", "password", password]):
        subprocess.run(["docker", "exec", "-u", "irods", container, "iadmin", *words], check=True)
    return _account(folder / "alice", address, "alice", password, os.geteuid())


def _federated(folder: Path, here: str, container: str, address: str, other: str) -> str:
    """The environment file of a user of the other zone, for this one's catalog provider."""
    name, password = "carol", secrets.token_hex(8)
    for server, *words in (
        (container, "mkzone", OTHER_ZONE, "remote", f"{OTHER}:1247"),
        (other, "mkzone", "tempZone", "remote", f"{here}:1247"),
        (other, "mkuser", name, "rodsuser"),
        (other, "moduser", name, "password", password),
        (container, "mkuser", f"{name}#{OTHER_ZONE}", "rodsuser"),
    ):
        subprocess.run(["docker", "exec", "-u", "irods", server, "iadmin", *words], check=True)
    file = Path(_account(folder / name, address, name, password, os.geteuid()))
    settings = json.loads(file.read_text())
    home = f"/tempZone/home/{name}#{OTHER_ZONE}"
    file.write_text(json.dumps({**settings, "irods_zone_name": OTHER_ZONE, "irods_home": home}))
    return str(file)


def _pam_user(container: str) -> dict[str, str]:
    """A user whose password PAM checks, if the image has what that needs."""
    name, password = "pamela", secrets.token_hex(8)
    script = f"[ -u /usr/sbin/irodsPamAuthCheck ] && useradd -M {name} && echo {name}:{password} | chpasswd"
    if subprocess.run(["docker", "exec", container, "sh", "-c", script]).returncode:
        return {}
    subprocess.run(["docker", "exec", "-u", "irods", container, "iadmin", "mkuser", name, "rodsuser"], check=True)
    return {"C2D_TEST_IRODS_PAM_USER": f"{name}:{password}"}


def _icommand(name: str, names: dict[str, str], otherwise: str) -> str:
    """Runs in the container of the server that the caller's environment names, with the caller's files."""
    choices = "".join(f"*'\"{address}\"'*) c={container};; " for address, container in names.items())
    return (
        f'c={otherwise}; case "$(cat "$IRODS_ENVIRONMENT_FILE" 2>/dev/null)" in {choices}esac\n'
        f'[ -t 0 ] && i= || i=-i; exec docker exec $i -u "$(id -u)" -w "$PWD" -e HOME=/tmp '
        f'-e IRODS_ENVIRONMENT_FILE -e IRODS_AUTHENTICATION_FILE $c {name} "$@"'
    )


def _program(file: Path, text: str) -> None:
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


def _installed(folder: Path, here: str, service: str) -> tuple[str, str]:
    """The rules and policies of this checkout, on both servers."""
    sys.path.insert(0, str(CHECKOUT / "packaging"))
    from installer import core_block

    block = core_block.make((CHECKOUT / "core.py").read_text(), str(CHECKOUT))
    policies = "\nfrom compute_to_data.policies import *\n"
    document = {
        "zone": {"kind": "irods", "environment_file": service},
        "images": [TASKS_IMAGE],
        "engine": {"name": "docker"},
        "worker": {"state_directory": str(folder / "state"), "poll_seconds": 0.5},
    }
    (folder / "state").mkdir()
    shutil.chown(folder / "state", Path(service).stat().st_uid)
    for host in (here, CONSUMER):
        settings = folder / host / "etc"
        (settings / "core.py").write_text(core_block.HEADER + "\n" + block + policies)
        (settings / "compute_to_data.json").write_text(json.dumps(document))
    return str(folder / here / "etc" / "core.py"), str(folder / here / "etc" / "compute_to_data.json")


def main(arguments: list[str]) -> int:
    folder = Path(tempfile.mkdtemp(prefix="c2d-zone-"))
    try:
        with started(folder) as named:
            words = [*(arguments or SUITES), f"--basetemp={folder}/tests"]
            return subprocess.run([sys.executable, "-m", "pytest", *words], env={**os.environ, **named}).returncode
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
