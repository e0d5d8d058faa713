"""The figures of docs/performance.md: floor and product side by side in one run.

make bench                      all of them
python tests/benchmarks/run.py trivial import
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "examples")]

import container_image  # noqa: E402
from support.people import settings_of  # noqa: E402
from support.site import ALICE, COMPUTE, HOME, TrialSite  # noqa: E402

from compute_to_data.coordination import wakeup  # noqa: E402
from compute_to_data.engines.docker import sandbox  # noqa: E402
from compute_to_data.job import Job, JobKey  # noqa: E402
from compute_to_data.model import Avu, Entity, EntityKind, Query, Registration  # noqa: E402
from compute_to_data.pipeline.vault import outputs  # noqa: E402
from compute_to_data.submission import workloads  # noqa: E402

BASE_IMAGE = "compute-to-data/base:bookworm"
FILTER = ROOT / "containers" / "jupyter-digital-filter"
FILTER_IMAGE = "compute-to-data/jupyter-digital-filter:1"
TRIVIAL = ("/bin/true",)
_COMPLETED = Query(EntityKind.COLLECTION, "irods::compute_to_data::state", "COMPLETED", COMPUTE)


def report(name: str, floor: float, product: float, unit: str, target: str) -> None:
    ratio = product / floor if floor else float("nan")
    print(f"{name:<42} floor {floor:9.3f} {unit:<8} product {product:9.3f} {unit:<8} ratio {ratio:5.2f}  ({target})")


def spread(values: list[float]) -> str:
    return f"min {min(values):.3f}  median {statistics.median(values):.3f}  max {max(values):.3f}"


class Floor:
    """The same sandboxed container by the plain Docker API: create, start, wait, remove."""

    def __init__(self, site: TrialSite, image: str = BASE_IMAGE) -> None:
        import docker

        self._client = docker.APIClient()
        self._site = site
        self._image = site.engine.identify(image)
        self._local = threading.local()

    def body(self, command: tuple[str, ...], folder: Path, environment: dict[str, str] | None = None) -> Any:
        job = Job(
            key=JobKey(uuid.uuid4().hex),
            owner=ALICE,
            scope="floor",
            image=self._image,
            command=command,
            limits=self._site.configuration.default_limits,
            outputs=str(folder),
            log_file=f"{folder}.log",
            environment=environment or {},
        )
        return sandbox.container(job, (65534, 65534))

    def run(self, body: Any) -> float:
        import docker

        if not hasattr(self._local, "client"):
            self._local.client = docker.APIClient()
        client = self._local.client
        began = time.perf_counter()
        container = client.create_container_from_config(body)["Id"]
        client.start(container)
        status = client.wait(container)["StatusCode"]
        client.remove_container(container, v=True)
        took = time.perf_counter() - began
        if status != 0:
            raise RuntimeError(f"the floor's container exited with {status}")
        return took


def docker_site(folder: Path, **more: Any) -> TrialSite:
    return TrialSite(folder, {"name": "docker"}, BASE_IMAGE, **more)


def product(site: TrialSite, request: Any) -> float:
    """Submit to COMPLETED, as the catalog shows it."""
    began = time.perf_counter()
    submitted = site.submit(request)
    wakeup.call_worker(site.configuration, "tempZone", COMPUTE)
    facts = site.ended(submitted)
    took = time.perf_counter() - began
    if facts["state"] != "COMPLETED":
        raise RuntimeError(f"the product's task ended {facts}")
    return took


def beside(folder: Path) -> tuple[TrialSite, Floor, Path]:
    """A site, its floor, and a folder for the outputs of the floor's containers."""
    site = docker_site(folder)
    place = folder / "floor"
    place.mkdir()
    os.chown(place, 65534, 65534)
    return site, Floor(site), place


def trivial(folder: Path) -> None:
    """A trivial task, one after the other, floor and product in turn."""
    site, floor, place = beside(folder)
    floors, products = [], []
    with site.working():
        product(site, site.request(*TRIVIAL))
        for _ in range(30):
            floors.append(floor.run(floor.body(TRIVIAL, place)))
            products.append(product(site, site.request(*TRIVIAL)))
    print(f"  floor   {spread(floors)}\n  product {spread(products)}")
    report("a trivial task (median of 30)", statistics.median(floors), statistics.median(products), "s", "<= 1.2")


def uids(folder: Path) -> None:
    """A trivial task with a private input: with a uid of its own and without, in turn."""
    for name in ("shared", "own"):
        (folder / name).mkdir()
    sites = [TrialSite(folder / name, {"name": "docker", **more}, BASE_IMAGE)
             for name, more in (("shared", {"job_uids": None}), ("own", {}))]  # fmt: skip
    took: list[list[float]] = [[], []]
    with ExitStack() as workers:
        for site in sites:
            site.alice.write(f"{HOME}/x", b"x", resource=COMPUTE)
            for replica in site.folder.rglob("alice/x"):
                replica.chmod(0o600)
            workers.enter_context(site.working())
            product(site, site.request(*TRIVIAL, inputs=[f"{HOME}/x"]))
        for _ in range(60):
            for site, times in zip(sites, took):
                times.append(product(site, site.request(*TRIVIAL, inputs=[f"{HOME}/x"])))
    print(f"  shared  {spread(took[0])}\n  own     {spread(took[1])}")
    report("a trivial task with a uid of its own (median of 60)", *map(statistics.median, took), "s", "<= 1.05")


def throughput(folder: Path) -> None:
    """100 trivial tasks in 2 slots; the floor's loop in 2 threads."""
    site, floor, place = beside(folder)
    spent, worked = 0.0, 0.0
    with ThreadPoolExecutor(2) as pool, site.working():
        for number in range(1, 6):  # in turn, so that both meet the machine in the same moods
            bodies = [floor.body(TRIVIAL, place) for _ in range(20)]
            began = time.perf_counter()
            list(pool.map(floor.run, bodies))
            spent += time.perf_counter() - began
            for _ in range(20):
                site.submit(site.request(*TRIVIAL))
            began = time.perf_counter()
            wakeup.call_worker(site.configuration, "tempZone", COMPUTE)
            # Asked rarely, so that asking takes nothing from the two processors the work is done on.
            while len(site.storage.find(_COMPLETED)) < 20 * number:
                time.sleep(0.02)
            worked += time.perf_counter() - began
    report("100 trivial tasks, 2 slots", 100 / spent, 100 / worked, "tasks/s", ">= 0.9")


def workload(folder: Path) -> None:
    """200 trivial tasks in a workload of 2: queued already, and submitted meanwhile by another process.

    The floor is the sandboxed container of each by the plain API, 2 at a time; `docker run` of
    each, with the client's own start and a network, is told beside it.
    """
    site, floor, place = beside(folder)
    started = workloads.start(site.alice, site.configuration, HOME, image=BASE_IMAGE, instances=2)
    command_line = ["docker", "run", "--rm", BASE_IMAGE, *TRIVIAL]
    floors, clients, queued, meanwhile = [], [], [], []
    with ThreadPoolExecutor(2) as pool, site.working():
        _tasks_of(site, started.collection, 4)
        _await(site, 4)
        for number in range(4):  # in turn, so that all meet the machine in the same moods
            bodies = [floor.body(TRIVIAL, place) for _ in range(20)]
            floors.append(20 / _timed(lambda bodies=bodies: list(pool.map(floor.run, bodies))))
            runs = [command_line] * 8
            clients.append(
                8 / _timed(lambda runs=runs: list(pool.map(lambda one: subprocess.run(one, check=True), runs)))
            )
            done = 4 + 100 * number
            _tasks_of(site, started.collection, 50)
            queued.append(50 / _timed(lambda done=done: (_ring(site), _await(site, done + 50))))
            with _submitter(site, started.collection, 50) as other:
                meanwhile.append(50 / _timed(lambda done=done, other=other: (other.go(), _await(site, done + 100))))
    print(f"  floor      {spread(floors)} tasks/s\n  docker run {spread(clients)} tasks/s")
    print(f"  queued     {spread(queued)} tasks/s\n  meanwhile  {spread(meanwhile)} tasks/s")
    report("200 tasks, workload of 2, queued", statistics.median(floors), statistics.median(queued), "tasks/s", ">= 5")
    report("the same, submitted meanwhile", statistics.median(floors), statistics.median(meanwhile), "tasks/s", ">= 5")


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _tasks_of(site: TrialSite, collection: str, count: int) -> None:
    for _ in range(count):
        workloads.create_task(site.alice, site.configuration, collection, TRIVIAL)


def _ring(site: TrialSite) -> None:
    wakeup.call_worker(site.configuration, "tempZone", COMPUTE)


def _await(site: TrialSite, count: int) -> None:
    # Asked rarely, so that asking takes nothing from the two processors the work is done on.
    while len(site.storage.find(_COMPLETED)) < count:
        time.sleep(0.02)


SUBMITTER = """
import sys
from compute_to_data import site_file
from compute_to_data.coordination.wakeup import call_worker
from compute_to_data.model import User
from compute_to_data.submission import workloads
from compute_to_data.zones.embedded import EmbeddedZone

file, zone, collection, count, *command = sys.argv[1:]
site = site_file.load(file)
alice = EmbeddedZone(zone).session(User("alice", "tempZone"))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(count)):
    workloads.create_task(alice, site, collection, command)
    call_worker(site, "tempZone", "dsp_resc")
"""


class _Submitter:
    """A process that has imported everything, and submits when it is told to."""

    def __init__(self, arguments: list[str]) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, "-c", SUBMITTER, *arguments], **pipes)  # type: ignore[call-overload]
        self.process.stdout.readline()

    def go(self) -> None:
        self.process.communicate("go\n")


@contextmanager
def _submitter(site: TrialSite, collection: str, count: int) -> Iterator[_Submitter]:
    arguments = [str(site.configuration_file), str(site.folder / "zone"), collection, str(count), *TRIVIAL]
    submitter = _Submitter(arguments)
    with submitter.process:
        yield submitter


def mapping(folder: Path) -> None:
    """`c2d map` over 200 small files in 2 slots, as a person types it: with the client's start and the worker's. The
    floor is `docker run` for each file, 2 at a time; a slice before, and one after."""
    site = docker_site(folder, worker={"slots": 2})
    files = [f"{number:03}.txt" for number in range(200)]
    site.alice.create_collection(f"{HOME}/data")
    (folder / "data").mkdir()
    for name in files:
        (folder / "data" / name).write_text(f"{name}\n")
        site.alice.write(f"{HOME}/data/{name}", f"{name}\n".encode(), resource=COMPUTE)
    settings = folder / "settings.json"
    settings.write_text(json.dumps(settings_of(site, "alice")))
    environment = {**os.environ, "C2D_CONFIG_FILE": str(settings), "C2D_SESSION_FILE": str(folder / "session.json")}
    words = ["map", BASE_IMAGE, "--input", f"{HOME}/data", "--output", "json", "--", "wc", "-l", "{}"]

    def one(name: str) -> None:
        mount = ["-v", f"{folder / 'data'}:/input:ro"]
        command = ["docker", "run", "--rm", *mount, BASE_IMAGE, "wc", "-l", f"/input/{name}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def c2d_map() -> None:
        command = [sys.executable, "-m", "compute_to_data.cli.main", *words]
        done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE)
        if json.loads(done.stdout)["completed"] != len(files):
            raise RuntimeError(f"not all files were processed: {done.stdout!r}")

    with ThreadPoolExecutor(2) as pool:
        before = 20 / _timed(lambda: list(pool.map(one, files[:20])))
        products = [len(files) / _timed(c2d_map) for _ in range(2)]
        after = 20 / _timed(lambda: list(pool.map(one, files[20:40])))
    print(f"  docker run {spread([before, after])} files/s\n  c2d map    {spread(products)} files/s")
    report("c2d map, 200 files, 2 slots", (before + after) / 2, statistics.mean(products), "files/s", ">= 5")


DIRECT = """
import nbformat, nbclient, nbconvert, os, sys
book = nbformat.read("/opt/notebooks/lpfilter.ipynb", as_version=4)
nbclient.NotebookClient(book, resources={"metadata": {"path": "/opt/notebooks"}}).execute()
html, _ = nbconvert.HTMLExporter(embed_images=True).from_notebook_node(book)
open("/outputs/report.html", "w").write(html)
"""


def digital_filter(folder: Path) -> None:
    """The notebook by our task, and by nbclient and nbconvert directly in the same sandbox."""
    container_image.build(FILTER, FILTER_IMAGE, print)
    site = TrialSite(folder, {"name": "docker"}, FILTER_IMAGE)
    site.give_role(COMPUTE, "SIGNAL_PROCESSING")
    site.take_role(COMPUTE, "CONTAINER")
    floor = Floor(site, FILTER_IMAGE)
    signal = "".join(f"{i % 24}\n" for i in range(1, 513)).encode()
    site.alice.write(f"{HOME}/input.dat", signal, resource=COMPUTE)
    replica = site.alice.stat(f"{HOME}/input.dat").replicas[0]  # type: ignore[union-attr]
    request = {
        "resource": COMPUTE,
        "inputs": [f"{HOME}/input.dat"],
        "output_collection": f"{HOME}/out",
        "notebook": {"image": FILTER_IMAGE, "name": "lpfilter.ipynb"},
    }
    environment = {
        "INPUT_FILE_PATH": "/inputs/input.dat",
        "OUTPUT_FILE_PATH": "/outputs/filtered",
        "IPYTHONDIR": "/tmp",
    }
    floors, products = [], []
    with site.working():
        for number in range(8):
            place = folder / f"floor-{number}"
            place.mkdir()
            os.chown(place, 65534, 65534)
            body = floor.body(("python3", "-c", DIRECT), place, environment)
            body["HostConfig"]["Mounts"].append(
                {"Type": "bind", "Source": replica.physical_path, "Target": "/inputs/input.dat", "ReadOnly": True}
            )
            floors.append(floor.run(body))
            products.append(product(site, request))
    print(f"  floor   {spread(floors)}\n  product {spread(products)}")
    report("digital filter task (median of 8)", statistics.median(floors), statistics.median(products), "s", "<= 1.1")


def importing(folder: Path) -> None:
    """A bare interpreter, and one that imports core.py's rules, in turn."""

    def once(program: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-S", "-E", "-c", program], check=True, cwd=ROOT)
        return (time.perf_counter() - began) * 1000

    where = f"import sys; sys.path.insert(0, {str(ROOT)!r})"
    bare, ours = [], []
    for _ in range(41):
        bare.append(once(where))
        ours.append(once(f"{where}; import core"))
    floor, product_ = statistics.median(bare), statistics.median(ours)
    report("importing the rulebase (median of 41)", floor, product_, "ms", f"+{product_ - floor:.1f} ms, at most +10")


def registering(folder: Path) -> None:
    """10,000 outputs of 100 bytes: walked and hashed, and walked, hashed and registered."""
    site = TrialSite(folder, {"name": "process", "images": {"none": str(folder)}}, "none")
    place = folder / "zone" / "vaults" / COMPUTE / "home" / "alice" / "out" / "many"
    place.mkdir(parents=True)
    for number in range(10_000):
        (place / f"{number:05}").write_bytes(f"{number:0100}".encode())
    collection = f"{HOME}/out"
    catalog = site.storage.on_behalf_of(ALICE)
    floors, products = [], []
    for number in range(5):
        began = time.perf_counter()
        _walk_and_hash(place)
        floors.append(time.perf_counter() - began)
        began = time.perf_counter()
        walked = outputs.inventory(str(place), collection, size_limit=1 << 40, file_limit=100_000, reserved=frozenset())
        found = walked.files
        catalog.create_collection(f"{collection}/{number}")
        files = [
            Registration(f"{collection}/{number}/{one.relative}", f"{place}/{one.relative}", one.size, one.checksum)
            for one in found
        ]
        catalog.register(COMPUTE, files)
        outputs.still_there(str(place), found)
        products.append(time.perf_counter() - began)
    print(f"  floor   {spread(floors)}\n  product {spread(products)}")
    report(
        "registering 10,000 outputs (median of 5)", statistics.median(floors), statistics.median(products), "s", "<= 3"
    )


def _walk_and_hash(place: Path) -> None:
    import hashlib

    for folder, _, names in os.walk(place):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                hashlib.sha256(file.read()).digest()


def queue(folder: Path) -> None:
    """5,000 tasks queued: how long choosing the next one takes, and the worker's memory."""
    site = TrialSite(folder, {"name": "process", "images": {"none": str(folder)}}, "none")
    state = Avu("irods::compute_to_data::state", "QUEUED", COMPUTE)
    for number in range(5000):
        name = f"{HOME}/out/{number:05}"
        site.alice.create_collection(name)
        site.alice.annotate(Entity(EntityKind.COLLECTION, name), add=[state])
    worker = site.worker()
    took = []
    for _ in range(50):
        began = time.perf_counter()
        next_one = worker._next_tasks.choose(1)
        took.append((time.perf_counter() - began) * 1000)
        assert next_one == [f"{HOME}/out/00000"]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{'next of 5,000 queued tasks':<42} {spread(took)} ms (at most 20); peak memory {memory:.0f} MB (under 120)")


BENCHMARKS: dict[str, Callable[[Path], None]] = {
    "import": importing,
    "queue": queue,
    "register": registering,
    "trivial": trivial,
    "uids": uids,
    "throughput": throughput,
    "workload": workload,
    "map": mapping,
    "filter": digital_filter,
}


def main(names: list[str]) -> None:
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
    for name in names or BENCHMARKS:
        with tempfile.TemporaryDirectory(prefix="c2d-bench-") as folder:
            BENCHMARKS[name](Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
