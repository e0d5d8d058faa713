"""``make demo``: a complete run in an embedded zone, from an empty folder to a report.

It makes a zone in a folder, gives alice an input on demoResc, and calls
``rules/spawn_remote_containers.r`` as she would. When you run it again, it uses the same zone and
processes the next input.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from compute_to_data import site_file
from compute_to_data.client.this_computer import laptop
from compute_to_data.errors import ComputeToDataError, EngineError
from compute_to_data.model import Collection, DataObject, Entity, EntityKind, Query, User, name_of
from compute_to_data.ports.zone import Catalog
from compute_to_data.zones.embedded import EmbeddedZone
from compute_to_data.zones.embedded.agent import RuleExecutionInfo, irule

CHECKOUT = Path(__file__).resolve().parent.parent
CONTAINER = CHECKOUT / "containers" / "jupyter-digital-filter"
IMAGE = "compute-to-data/jupyter-digital-filter:1"
ZONE = laptop.ZONE
RESOURCES = {"lts_resc": "LONG_TERM_STORAGE", "dsp_resc": "SIGNAL_PROCESSING"}
HOME = f"/{ZONE}/home/alice"
SIGNAL = "".join(f"{i % 24}\n" for i in range(1, 513)).encode()
ALICE = User("alice", ZONE)
_STATES = ("queued", "staging_in", "running", "staging_out", "completed", "failed")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 when the task COMPLETED."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--directory", type=Path, default=CHECKOUT / "demo", help="the folder of the zone")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    try:
        engine = choose_engine()
        zone, configuration_file = make_zone(options.directory.resolve(), engine)
        code = run(zone, configuration_file)
    except ComputeToDataError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted. What is here stays: make demo goes on with it, or remove the folder", file=sys.stderr)
        return 130
    print(f"\n{time.monotonic() - began:.1f} s in all")
    return 0 if code == 0 else 1


def choose_engine() -> dict[str, object]:
    """The configuration's ``engine`` and ``images`` for this computer. It prints its choice."""
    try:
        return _docker_engine()
    except ComputeToDataError as error:
        print(f"No container engine is usable ({error}) The notebook runs UNSANDBOXED on this computer.")
    _install_notebook_packages()
    engine = {"name": "process", "images": {IMAGE: str(CONTAINER)}}
    return {"engine": engine, "images": [{"name": IMAGE}]}


def _docker_engine() -> dict[str, object]:
    import container_image

    from compute_to_data.configuration import EngineSettings
    from compute_to_data.engines import open_engine

    open_engine(EngineSettings("docker"), "").check()
    print("Engine: Docker, sandboxed.")
    digest = container_image.build(CONTAINER, IMAGE, print)
    return {"engine": {"name": "docker", "job_uids": None}, "images": [{"name": IMAGE, "digest": digest}]}


def _install_notebook_packages() -> None:
    if importlib.util.find_spec("papermill") and importlib.util.find_spec("matplotlib"):
        return
    print("installing papermill, nbconvert and matplotlib beside the demo (a minute, once)", flush=True)
    # The image's pinned versions are for its own Python, so we do not use them here.
    command = [sys.executable, "-m", "pip", "install", "--quiet", f"{CHECKOUT}[notebook]"]
    if subprocess.run(command, check=False).returncode:
        remedy = "Start Docker, or let pip reach a package index"
        raise EngineError("papermill, nbconvert and matplotlib", "pip cannot install them", remedy)


def make_zone(directory: Path, engine: dict[str, object]) -> tuple[EmbeddedZone, Path]:
    """Open or make the zone of the demo, and give alice an input and a request."""
    roles = {"SIGNAL_PROCESSING": {"image": IMAGE, "notebook": "lpfilter.ipynb"}}
    zone, configuration_file = laptop.make_zone(str(directory), "alice", RESOURCES, {"roles": roles, **engine})
    _give_alice_her_input(zone)
    return zone, Path(configuration_file)


def _give_alice_her_input(zone: EmbeddedZone) -> None:
    """Write input.dat the first time. When every input is already claimed, write one more."""
    alice = zone.session(ALICE)
    source = f"{HOME}/notebook_input"
    for collection in (source, f"{HOME}/notebook_output"):
        alice.create_collection(collection, parents=True)
    present = [name_of(child.logical_path) for child in alice.children(source)]
    claimed = alice.find(Query(EntityKind.DATA_OBJECT, "irods::compute_to_data_task", within=source))
    if len(claimed) == len(present):
        name = f"input_{len(present) + 1}.dat" if present else "input.dat"
        alice.write(f"{source}/{name}", SIGNAL, resource="demoResc")
    request = (CONTAINER / "task_config.json").read_bytes()
    alice.write(f"{HOME}/task_config.json", request, resource="demoResc", force=True)


def run(zone: EmbeddedZone, configuration_file: Path) -> int:
    """Do what ``irule -F rules/spawn_remote_containers.r`` does, and print listings before and after."""
    alice = zone.session(ALICE)
    before = _show_listing(alice, "Before:")
    configuration = site_file.load(str(configuration_file))
    rule_file = CHECKOUT / "rules" / "spawn_remote_containers.r"
    print(f"\n$ irule -F {rule_file.relative_to(CHECKOUT)}      (as alice)", flush=True)
    began = time.monotonic()

    def write(where: str, text: str) -> None:
        print(f"  {time.monotonic() - began:6.2f} s  {text}", file=sys.stderr if where == "serverLog" else sys.stdout)
        sys.stdout.flush()

    code = irule(_core(), rule_file, RuleExecutionInfo(zone, ALICE, configuration), write)
    after = _show_listing(alice, "\nAfter:", known=before)
    known = alice.find(Query(EntityKind.COLLECTION, "irods::compute_to_data::state"))
    tasks = [path for path in known if path not in before]
    for task in tasks:
        _show_task(alice, task)
    if code == 0 and after:
        print(f"\nThe report: {_report(alice, tasks[-1])}")
    return code


def _core() -> ModuleType:
    """Load core.py from the checkout, as an agent loads it from /etc/irods."""
    specification = importlib.util.spec_from_file_location("core", CHECKOUT / "core.py")
    if specification is None or specification.loader is None:
        raise ComputeToDataError(str(CHECKOUT / "core.py"), "cannot be loaded", "Run the demo from a checkout")
    core = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(core)
    return core


def _show_listing(catalog: Catalog, title: str, known: Sequence[str] = ()) -> list[str]:
    """Print alice's home as ``ils -lr`` does. Lines that are not in ``known`` begin with ``+``."""
    print(title)
    seen: list[str] = []
    pile = [HOME]
    while pile:
        collection = pile.pop(0)
        seen.append(collection)
        print(f"{_mark(collection, known)}{collection}:")
        for child in catalog.children(collection):
            if isinstance(child, Collection):
                pile.append(child.logical_path)
            else:
                _show_replicas(child, known, seen)
    return seen


def _show_replicas(data_object: DataObject, known: Sequence[str], seen: list[str]) -> None:
    for replica in data_object.replicas:
        line = (
            f"  {data_object.owner.name:<8}{replica.number:>3} {replica.hierarchy:<10}{replica.size:>8} "
            f"{time.strftime('%Y-%m-%d.%H:%M', time.localtime(data_object.modified))} & "
            f"{name_of(data_object.logical_path)}"
        )
        key = f"{data_object.logical_path}#{replica.number}"
        seen.append(key)
        print(_mark(key, known) + line)


def _mark(key: str, known: Sequence[str]) -> str:
    return "+ " if known and key not in known else "  "


def _show_task(catalog: Catalog, collection: str) -> None:
    avus = catalog.avus(Entity(EntityKind.COLLECTION, collection))
    facts = {avu.attribute.rpartition("::")[2]: avu.value for avu in avus}
    times = [(state, facts[f"{state}_at"]) for state in _STATES if f"{state}_at" in facts]
    print("\nSteps:")
    for (state, at), (_, until) in zip(times, times[1:]):
        print(f"  {state.upper():<12} {_seconds(until) - _seconds(at):6.2f} s")
    print(f"  {times[-1][0].upper()}")
    results = [child for child in catalog.children(collection) if isinstance(child, DataObject)]
    for result in results:
        found = catalog.avus(Entity(EntityKind.DATA_OBJECT, result.logical_path))
        if found:
            print(f"\nAVUs of {name_of(result.logical_path)}:")
            for avu in found:
                print(f"  {avu.attribute:<45} {avu.value[:70]:<20} {avu.units[:20]}")
            break


def _seconds(timestamp: str) -> float:
    whole, _, fraction = timestamp.rstrip("Z").partition(".")
    return time.mktime(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{fraction}")


def _report(catalog: Catalog, collection: str) -> str:
    for child in catalog.children(collection):
        if isinstance(child, DataObject) and child.logical_path.endswith(".html"):
            return child.replicas[0].physical_path
    return "(none)"


if __name__ == "__main__":
    sys.exit(main())
