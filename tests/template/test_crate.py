"""``ro-crate-metadata.json`` is a Process Run Crate, checked with the profile's validator."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from support.crates import violations
from support.site import ALICE, BASE_IMAGE, COMPUTE, HOME, TrialSite

from compute_to_data import engine_promises
from compute_to_data.inputs.references import Staged
from compute_to_data.job import Exit, Image, OutputFile
from compute_to_data.model import DataObject, Replica, ReplicaStatus, User
from compute_to_data.pipeline.vault.outputs import checksum_of
from compute_to_data.provenance.crate import crate, in_pieces, output_names
from compute_to_data.provenance.outcome import Outcome
from compute_to_data.task import InputKind, InputReference, Notebook, ProcessDefinition, Task

UNKNOWN = {
    "process-run-crate-0.5_3.2 Application url",  # the worker knows no web page of an image
    "process-run-crate-0.5_5.1 SoftwareApplication id",  # nor an address of its program
    "ro-crate-1.1_31.2 Organization: RECOMMENDED url property",  # nor one of the zone
}
"""Recommendations of the profile for which a task has no true value."""

AWKWARD = ["a b", "100%", "a#b", "a?b", "c:d", "naïve é", "深/海", "'q'", "a+b", "x;y=1"]


def outcome(**changes: Any) -> Outcome:
    process = ProcessDefinition(BASE_IMAGE, (("sh", "-c", "x y"),), environment={"A": "b", "C": ""})
    given = {
        "task_id": "one",
        "task": Task("", "CONTAINER", COMPUTE, (), f"{HOME}/out", process),
        "owner": ALICE,
        "role": "CONTAINER",
        "resource": COMPUTE,
        "engine": "docker",
        "image": Image(BASE_IMAGE, f"sha256:{'a' * 64}"),
        "commands": process.commands,
        "inputs": (),
        "outputs": (),
        "exit": Exit(0, False, 1000.1, 1003.25),
        "stage_in_seconds": 0.5,
    }
    return Outcome(**{**given, **changes})


def staged(name: str, checksum: str = "sha2:x=") -> Staged:
    replica = Replica(1, COMPUTE, ReplicaStatus.GOOD, 5, f"/vault/{name}", checksum)
    data_object = DataObject(f"{HOME}/{name}", ALICE, (replica,), 1.0, 2.0)
    return Staged(data_object, replica, f"/inputs/{name}", checksum)


def written(folder: Path, described: Outcome) -> Path:
    """The crate and its outputs in a folder."""
    for file in described.outputs:
        (folder / file.relative).parent.mkdir(parents=True, exist_ok=True)
        (folder / file.relative).write_bytes(b"content")
    folder.mkdir(exist_ok=True)
    (folder / "ro-crate-metadata.json").write_bytes(crate(described))
    return folder


def is_valid(folder: Path, cache: Path, unknown: set[str] = UNKNOWN) -> None:
    found = violations(folder, cache)
    assert found["REQUIRED"] == set()
    assert found["RECOMMENDED"] <= unknown


def test_a_task_that_ran_leaves_a_valid_crate(site: TrialSite, tmp_path: Path) -> None:
    site.alice.write(f"{HOME}/a.txt", b"x")
    text = "mkdir /outputs/sub; cp /inputs/a.txt /outputs/b.txt; cp /inputs/a.txt '/outputs/sub/c d'; echo said"
    facts = site.run(site.request("/bin/sh", "-c", text, inputs=[f"{HOME}/a.txt"], process={"environment": {"X": "1"}}))
    assert facts["state"] == "COMPLETED", facts
    fetched = tmp_path / "fetched"
    for name, content in site.contents(facts["collection"]).items():
        (fetched / name).parent.mkdir(parents=True, exist_ok=True)
        (fetched / name).write_bytes(content)
    is_valid(fetched, tmp_path)


@pytest.mark.parametrize(
    "described",
    [
        outcome(),
        outcome(
            inputs=tuple(map(staged, ["a b", "100%", "深"])),
            outputs=tuple(OutputFile(name, 7, checksum_of(b"content"), (0, 0)) for name in AWKWARD),
            owner=User("o'neil é #", "other Zone"),
        ),
        outcome(
            engine="process",
            image=Image("tools", f"sha256:{'b' * 64}"),
            inputs=(staged("one", ""),),
            outputs=(OutputFile("page.html", 7, checksum_of(b"content"), (0, 0)),),
            task=Task(
                "a name", "SIGNAL_PROCESSING", "", (InputReference(InputKind.OBJECT, f"{HOME}/one"),), HOME,
                notebook=Notebook("n.ipynb", "", {"cutoff": 0.5, "labels": ["a", None]}),
            ),
        ),
    ],
    ids=["nothing", "awkward names", "notebook"],
)  # fmt: skip
def test_the_crate_of_every_kind_of_task_is_valid(described: Outcome, tmp_path: Path) -> None:
    none = set() if described.outputs else {"process-run-crate-0.5_11.1 Action result"}
    is_valid(written(tmp_path / "crate", described), tmp_path, UNKNOWN | none)


@pytest.mark.parametrize(
    ("identifier", "name"), [("#run", "instrument"), ("./", "hasPart"), ("./", "conformsTo"), ("./", "datePublished")]
)
def test_the_validator_misses_what_is_required(identifier: str, name: str, tmp_path: Path) -> None:
    """Without its context, the validator would accept everything. This shows that it does not."""
    folder = written(tmp_path / "crate", outcome(inputs=(staged("a"),)))
    document = json.loads((folder / "ro-crate-metadata.json").read_bytes())
    (entity,) = [one for one in document["@graph"] if one["@id"] == identifier]
    del entity[name]
    (folder / "ro-crate-metadata.json").write_text(json.dumps(document))
    assert violations(folder, tmp_path)["REQUIRED"]


@pytest.mark.parametrize("engine", engine_promises.PROMISES)
def test_a_sandbox_s_image_is_described(engine: str) -> None:
    """Tasks on Slurm had no container image."""
    types = [entity["@type"] for entity in json.loads(crate(outcome(engine=engine)))["@graph"]]
    assert ("ContainerImage" in types) is (engine != "process")


def test_an_image_s_name_is_read_as_the_engine_reads_it() -> None:
    for name, parts in {
        "debian": ("debian", None, "docker.io"),
        "debian:bookworm": ("debian", "bookworm", "docker.io"),
        "team/tool:1": ("team/tool", "1", "docker.io"),
        "example.org/team/tool:1": ("team/tool", "1", "example.org"),
        "localhost:5000/tool": ("tool", None, "localhost:5000"),
        f"example.org/tool@sha256:{'0' * 64}": ("tool", None, "example.org"),
    }.items():
        graph = json.loads(crate(outcome(image=Image(name, f"sha256:{'a' * 64}"))))["@graph"]
        (image,) = [entity for entity in graph if entity["@type"] == "ContainerImage"]
        assert (image["name"], image.get("tag"), image["registry"]) == parts
        assert image["sha256"] == "a" * 64


@pytest.mark.parametrize("count", [0, 1, len(AWKWARD)])
def test_the_outputs_that_a_crate_names_can_be_read_from_it(count: int) -> None:
    files = tuple(OutputFile(name, 7, checksum_of(b"content"), (0, 0)) for name in AWKWARD[:count])
    described = outcome(outputs=files, inputs=(staged("an input"),))
    assert output_names(crate(described)) == tuple(AWKWARD[:count])


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b'{"@graph": 5}', b'{"@graph": [{"@id": "#run", "result": "x"}]}', b"\xff", b"[" * 9999],
)
def test_a_crate_that_is_not_ours_has_no_outputs(content: bytes) -> None:
    assert output_names(content) is None


def test_a_crate_of_many_outputs_takes_little_memory() -> None:
    """All of it would take a gigabyte: a hundred thousand names of a thousand bytes, each three times."""
    files = tuple(OutputFile(f"{number:05}{'é' * 300}", 7, checksum_of(b"x"), (0, 0)) for number in range(2_000))
    described = outcome(outputs=files)
    tracemalloc.start()
    try:
        size = sum(map(len, in_pieces(described)))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 10 << 20
    assert most < 5 << 20
