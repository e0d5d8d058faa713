"""Transfers through the gateway to and from a real iRODS zone, in turn with python-irodsclient at the zone's server.

    C2D_TEST_IRODS_ENVIRONMENT_FILE=... python tests/benchmarks/real_gateway.py [--size MIB]

``support/irods_site.py`` says what it needs. It prints medians of three. python-irodsclient sends large files by
several connections and computes no checksum; ``c2d`` compares those of both ends.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contract"))

import httpx
from irods.session import iRODSSession
from irods_zone import IrodsZoneUnderTest
from support.irods_site import ENVIRONMENT, plain_site
from support.real_gateway import serving

from compute_to_data.model import User
from compute_to_data.zones.gateway.session import GatewaySession

_BESIDE = {"downloaded by c2d": "get", "uploaded by c2d": "put"}


def transfers(zone: IrodsZoneUnderTest, folder: Path, size: int) -> None:
    site = plain_site(zone)
    user, home = site.alice.user, site.home
    large, copy = folder / "large", folder / "copy"
    with large.open("wb") as file:
        for _ in range(size):
            file.write(os.urandom(1 << 20))
    taken: dict[str, list[float]] = defaultdict(list)

    def timed(name: str, do: Callable[[], object]) -> None:
        began = time.perf_counter()
        do()
        taken[name].append(time.perf_counter() - began)
        copy.unlink(missing_ok=True)

    password = zone.password(user)
    with serving(site, folder) as url, directly(user, password) as session:
        token = httpx.post(f"{url}/authenticate", auth=(user.name, password), trust_env=False).raise_for_status().text
        with contextlib.closing(GatewaySession(url, f"Bearer {token}")) as through:
            for number in range(3):
                one, other = f"{home}/in/put{number}", f"{home}/in/c2d{number}"
                timed("put", lambda one=one: session.data_objects.put(str(large), one))
                timed("uploaded by c2d", lambda other=other: through.put(str(large), other))
                timed("get", lambda one=one: session.data_objects.get(one, str(copy)))
                timed("downloaded by c2d", lambda one=one: through.get(one, str(copy)))
    for name, beside in _BESIDE.items():
        found, floor = statistics.median(taken[name]), statistics.median(taken[beside])
        load = f"load {os.getloadavg()[0]:.0f}"
        print(
            f"{size} MiB {name}: {found:.2f} s, {beside} {floor:.2f} s: {floor / found:.2f} of its speed (0.8); {load}"
        )


def directly(user: User, password: str) -> iRODSSession:
    """A connection to the zone's server, without the gateway."""
    settings = json.loads(Path(os.environ[ENVIRONMENT]).read_text())
    return iRODSSession(
        host=settings["irods_host"], port=settings["irods_port"], user=user.name, password=password, zone=user.zone
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="MiB (default: %(default)s)")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.closing(IrodsZoneUnderTest(os.environ[ENVIRONMENT])) as zone,
    ):
        transfers(zone, Path(folder), options.size)


if __name__ == "__main__":
    main()
