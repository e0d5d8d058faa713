"""The gateway's figures, each beside its floor in one run. The gateway is a process of its own
(``c2d serve``), and its zone lies in a folder.

python tests/benchmarks/gateway.py [--count N] [--size MIB] [submissions] [idle] [start] [transfers] [followers] [pages]
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import re
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx
from support.counting import Counting
from support.crowds import end_for
from support.gateways import PASSWORDS, give_passwords, running, served
from support.gateways import gateway_settings as settings_of_gateway
from support.raw_http import Connection, first_bytes
from support.site import ALICE, BOB, COMPUTE, HOME, ZONE, TrialSite

from compute_to_data.client import datasets, tasks
from compute_to_data.client.site_access import ConfiguredSite
from compute_to_data.client.workbench import Workbench
from compute_to_data.coordination import wakeup
from compute_to_data.coordination.lock import ResourceLock
from compute_to_data.gateway.signing_in import people
from compute_to_data.records.manifest import FILES
from compute_to_data.records.state import State
from compute_to_data.zones.embedded.database import Database
from compute_to_data.zones.gateway.session import GatewaySession

CLIENTS = 4
HOME_OF_BOB = f"/{ZONE}/home/bob"
_IDLE_SECONDS = 40.0
_FOLLOWED, _FOLLOWERS = 20, 200
_FOLLOWING_SECONDS = 30.0
_BEGINNING_SECONDS = 10.0


def a_site(folder: Path, slots: int = 1) -> TrialSite:
    """Programs on this host, and a worker on demand."""
    (folder / "tools").mkdir()
    engine = {"name": "process", "images": {"none": str(folder / "tools")}}
    site = TrialSite(folder, engine, "none", worker={"slots": slots})
    site.configuration = site.configure(engine=engine, worker={"on_demand": True, "slots": slots})
    return site


@contextlib.contextmanager
def gateway(site: TrialSite) -> Iterator[tuple[str, str, int]]:
    """``c2d serve`` of the site: its address, a token of alice's, and its process."""
    with served(site, "--port", "0") as (line, process):
        url, _, given = line.partition("/?token=")
        sign = httpx.post(f"{url}/authenticate", headers={"Authorization": f"Bearer {given}"}, trust_env=False)
        yield url, sign.raise_for_status().text, process.pid


@contextlib.contextmanager
def a_worker_that_does_nothing(site: TrialSite) -> Iterator[None]:
    """A worker that is there as far as anybody can see, and that takes no processor."""
    held = ResourceLock(site.configuration, ZONE, COMPUTE)
    held.acquire()
    try:
        with contextlib.closing(wakeup.Bell(site.configuration, ZONE, COMPUTE)):
            yield
    finally:
        held.release()


def load() -> str:
    return f"load {os.getloadavg()[0]:.0f}"


def rate(submit: Callable[[int], None], count: int) -> float:
    """Submissions a second, by 4 threads that share ``count`` of them."""
    numbers = itertools.count()

    def client() -> None:
        while (number := next(numbers)) < count:
            submit(number)

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count / (time.perf_counter() - began)


def floor(site: TrialSite, document: dict[str, Any], count: int) -> float:
    bench = Workbench(site.zone.session(ALICE), ConfiguredSite(site.configuration))
    return rate(lambda number: tasks.submit(bench, document) and None, count)


def over_http(url: str, path: str, document: dict[str, Any], token: str, count: int) -> float:
    """By a client that takes hardly any processor, since it shares the machine with the gateway."""
    local = threading.local()

    def submit(number: int) -> None:
        if not hasattr(local, "client"):
            local.client = Connection(url, token)
        status, content = local.client.ask("POST", path, document)
        assert status in (200, 201), content

    return rate(submit, count)


def processor_seconds(process: int) -> float:
    """What all threads of a process have used, also those that have ended."""
    return time.clock_gettime(~process << 3 | 2)  # as clock_getcpuclockid(3)


def submissions(folder: Path, count: int) -> None:
    site = a_site(folder)
    whole = {**site.request("/bin/true"), "output_collection": f"{HOME}/out"}
    tes = {"executors": [{"image": site.image, "command": ["/bin/true"]}]}
    in_ours = {"role": "CONTAINER", "output_collection": f"{HOME}/out", "inputs": [], "tes": tes}
    with a_worker_that_does_nothing(site), gateway(site) as (url, token, process):
        for name, path, document, beside in (
            ("REST", "/api/v1/tasks", whole, whole), ("TES", "/ga4gh/tes/v1/tasks", tes, in_ours),
        ):  # fmt: skip
            rates, costs = [], []
            for _ in range(3):
                at_first, mine = processor_seconds(process), time.process_time()
                without = floor(site, beside, count)
                mine = time.process_time() - mine
                rates.append((without, over_http(url, path, document, token, count)))
                costs.append((mine, processor_seconds(process) - at_first))
            without, through = (statistics.median(each) for each in zip(*rates))
            less, more = (statistics.median(each) / count * 1000 for each in zip(*costs))
            print(
                f"{name}: {through:.0f} submissions a second (150), {without:.0f} without HTTP: {through / without:.2f}"
                f" (0.7); processor time of each {more:.1f} ms and {less:.1f} ms: {less / more:.2f}; {load()}"
            )


@contextlib.contextmanager
def counted_transactions() -> Iterator[list[str]]:
    """The transactions of this process's catalogs."""
    asked: list[str] = []
    methods = {name: getattr(Database, name) for name in ("reading", "writing")}

    def counted(name: str) -> Callable[..., Any]:
        def call(self: Database, *words: Any, **options: Any) -> Any:
            asked.append(name)
            return methods[name](self, *words, **options)

        return call

    for name in methods:
        setattr(Database, name, counted(name))
    try:
        yield asked
    finally:
        for name, method in methods.items():
            setattr(Database, name, method)


def idle(folder: Path) -> None:
    """Count the transactions of a gateway's catalog while nobody asks it anything."""
    site = a_site(folder)
    give_passwords(site)
    with counted_transactions() as asked, running(settings_of_gateway(site)) as gateway:
        with gateway.client("alice") as client:
            client.get("/api/v1/tasks").raise_for_status()
        assert asked, "the questions are not counted"
        asked.clear()
        time.sleep(_IDLE_SECONDS)
        print(f"an idle gateway: {len(asked)} transactions of the catalog in {_IDLE_SECONDS:g} s (0)")


def start(folder: Path) -> None:
    """From the command to the first answered request."""
    site = a_site(folder)
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        with served(site, "--port", "0") as (line, _):
            status, _ = Connection(line.partition("/?")[0], "").ask("GET", "/healthz")
            taken.append(time.perf_counter() - began)
            assert status == 200
    print(f"c2d serve to its first answer: {statistics.median(taken):.2f} s, most {max(taken):.2f} s (2); {load()}")


def transfers(folder: Path, size: int) -> None:
    """So many MiB, in turn with what the embedded zone takes for it: by `c2d` (with checksums at both ends), and a file
    of a dataset by a client that only writes it down."""
    site = a_site(folder)
    large, copy = folder / "large", folder / "copy"
    with large.open("wb") as file:
        for _ in range(size):
            file.write(os.urandom(1 << 20))
    bench = Workbench(site.zone.session(ALICE), ConfiguredSite(site.configuration))
    dataset = datasets.reserve(bench)
    files, aside = f"{datasets.find(bench, dataset)}/{FILES}", f"{HOME}/out/large"
    there = f"{files}/large"
    site.alice.create_collection(files, parents=True)
    site.alice.put(str(large), there)

    taken: dict[str, list[float]] = defaultdict(list)
    used: dict[str, list[float]] = defaultdict(list)

    def timed(name: str, do: Callable[[], object], made: str = "") -> None:
        began, before = time.perf_counter(), processor()
        do()
        taken[name].append(time.perf_counter() - began)
        used[name].append(processor() - before)
        copy.unlink(missing_ok=True)
        if made:
            site.alice.remove(made)

    with gateway(site) as (url, token, process), contextlib.closing(GatewaySession(url, f"Bearer {token}")) as through:
        address = f"/api/v1/datasets/{dataset}/files/large"

        def processor() -> float:
            return time.process_time() + processor_seconds(process)

        for _ in range(3):
            timed("get", lambda: site.alice.get(there, str(copy)))
            timed("downloaded by c2d", lambda: through.get(there, str(copy)))
            timed("downloaded plainly", lambda: Connection(url, token).fetch(address, copy))
            timed("put", lambda: site.alice.put(str(large), aside), aside)
            timed("uploaded by c2d", lambda: through.put(str(large), aside), aside)
    for beside, names in (("get", ("downloaded by c2d", "downloaded plainly")), ("put", ("uploaded by c2d",))):
        without = statistics.median(taken[beside])
        for name in names:
            found = statistics.median(taken[name])
            print(
                f"{size} MiB {name}: {found:.2f} s, {beside} {without:.2f} s: {without / found:.2f} of its speed (0.8);"
                f" processor time {statistics.median(used[name]):.2f} s and {statistics.median(used[beside]):.2f} s;"
                f" {load()}"
            )


def followers(folder: Path) -> None:
    """200 followers of 20 running tasks that print a line each second, beside 20 followers.

    Half of the tasks and of the followers are another user's: one user may have a quarter of the gateway's connections.
    """
    site = a_site(folder, slots=_FOLLOWED)
    give_passwords(site)
    site.bob.create_collection(f"{HOME_OF_BOB}/out")
    script = "while :; do date; sleep 1; done"
    running_tasks = []
    with site.working():
        for user, home in ((ALICE, HOME), (BOB, HOME_OF_BOB)):
            bench = Workbench(site.zone.session(user), ConfiguredSite(site.configuration))
            document = {**site.request("/bin/sh", "-c", script), "output_collection": f"{home}/out"}
            running_tasks += [tasks.submit(bench, document) for _ in range(_FOLLOWED // 2)]
        while any(one.state is not State.RUNNING for one in running_tasks):
            time.sleep(0.2)
        paths = [f"/api/v1/tasks/{one.id}/logs/events" for one in running_tasks]
        _asked_by_followers(site, paths)
        with gateway(site) as (url, token, process):
            bobs = httpx.post(f"{url}/authenticate", auth=("bob", PASSWORDS["bob"]), trust_env=False)
            many = _each_by_its_owner(paths, (token, bobs.raise_for_status().text)) * (_FOLLOWERS // _FOLLOWED)
            before = processor_seconds(process)
            first_bytes(url, many, _BEGINNING_SECONDS)  # starts threads, and fills caches
            used = processor_seconds(process) - before
            came, _ = first_bytes(url, many, _FOLLOWING_SECONDS)
            status = Path(f"/proc/{process}/status").read_text()
            memory = int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024
        for one in running_tasks:
            one.cancel()
        for one in running_tasks:
            one.wait()
    print(
        f"{len(came)} of {_FOLLOWERS} followers of {_FOLLOWED} tasks: first byte after {statistics.median(came):.2f} s,"
        f" at most {came[-1]:.2f} s (1); processor time of the first {_BEGINNING_SECONDS:g} s {used:.2f} s; most memory"
        f" {memory:.0f} MB (200); {load()}"
    )


def _each_by_its_owner(paths: list[str], tokens: tuple[str, str]) -> list[tuple[str, str]]:
    """The first half of the tasks is alice's, the second bob's."""
    return [(tokens[number >= len(paths) // 2], path) for number, path in enumerate(paths)]


def _asked_by_followers(site: TrialSite, paths: list[str]) -> None:
    calls: Counter[str] = Counter()

    class CountedPerson(people.Person):
        def __init__(self, catalog: Any, site_access: Any) -> None:
            super().__init__(Counting(catalog, calls), site_access)  # type: ignore[arg-type]

    original, people.Person = people.Person, CountedPerson  # type: ignore[misc]
    try:
        for count in (len(paths), _FOLLOWERS):
            with running(settings_of_gateway(site)) as gateway:
                signed = [gateway.client(one).post("/authenticate").raise_for_status().text for one in ("alice", "bob")]
                calls.clear()
                asked_for = _each_by_its_owner(paths, (signed[0], signed[1])) * (count // len(paths))
                _, pieces = first_bytes(gateway.url, asked_for, _FOLLOWING_SECONDS)
                asked = sum(calls.values())
            print(f"{count} followers for {_FOLLOWING_SECONDS:g} s: {asked} questions to the catalog, {pieces} pieces")
    finally:
        people.Person = original  # type: ignore[misc]


def pages(folder: Path) -> None:
    """The first page of the list of tasks, as a page and by the API, with 10,000 tasks and with 100,000."""
    site = a_site(folder)
    prefix = site.configuration.attributes.named("")
    for more, most in ((10_000, 0.15), (90_000, 0.5)):
        end_for(site, ALICE.name, more)
        with contextlib.closing(sqlite3.connect(f"{site.zone.directory}/zone.db")) as connection, connection:
            for fact, value in (("name", "n"), ("tes", "=n")):
                connection.execute(
                    "INSERT OR IGNORE INTO avu "
                    "SELECT entity, ?, ? || (entity % 10), '', owner FROM avu WHERE attribute = ?",
                    (f"{prefix}{fact}", value, f"{prefix}task_id"),
                )
        with gateway(site) as (url, token, _):
            client = Connection(url, token)
            for path in ("/tasks", "/api/v1/tasks", "/api/v1/tasks?name=n7", "/ga4gh/tes/v1/tasks"):
                taken = []
                for _ in range(7):
                    began = time.perf_counter()
                    status, content = client.ask("GET", path)
                    taken.append(time.perf_counter() - began)
                    assert status == 200, content
                print(f"with {more} more tasks, {path}: {statistics.median(taken):.3f} s ({most}); {load()}")


def main() -> None:
    parts = {one.__name__: one for one in (submissions, idle, start, transfers, followers, pages)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="submissions in each of three runs")
    parser.add_argument("--size", type=int, default=1024, help="MiB of a transfer")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(parts)}; by default all")
    options = parser.parse_args()
    for name in options.parts or parts:
        with tempfile.TemporaryDirectory(prefix="c2d-bench-") as folder:
            Path(folder).chmod(0o755)
            more = {"submissions": (options.count,), "transfers": (options.size,)}.get(name, ())
            parts[name](Path(folder), *more)  # type: ignore[operator]


if __name__ == "__main__":
    main()
