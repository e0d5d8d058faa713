"""Where the sandbox may show inputs and outputs that name paths of their own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from compute_to_data.documents import request
from compute_to_data.errors import InvalidRequest
from compute_to_data.inputs import references, sandbox_paths
from compute_to_data.inputs.references import Resolved
from compute_to_data.job import misplaced
from compute_to_data.model import DataObject, User
from compute_to_data.task import InputKind, InputReference, Output, Task

OBJECT, COLLECTION, NEXT_OF = InputKind.OBJECT, InputKind.COLLECTION, InputKind.NEXT_OF


def data_object(logical_path: str) -> DataObject:
    return DataObject(logical_path, User("alice", "z"), (), 0.0, 0.0)


def shown(*found: tuple[str, InputReference]) -> Resolved:
    """What data objects, each found through a reference, are to a job."""
    return Resolved(tuple(references.placed(data_object(path), reference) for path, reference in found))


def targets(*found: tuple[str, InputReference]) -> tuple[str, ...]:
    """The paths at which the job sees them."""
    resolved = shown(*found)
    assert set(sandbox_paths.check(resolved)) <= {"/inputs"}
    return tuple(one.target for one in resolved.inputs)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("data/a", "absolute path"),
        ("", "absolute path"),
        ("//data/a", "absolute path"),
        ("/data//a", "absolute path"),
        ("/data/./a", "absolute path"),
        ("/data/../outputs/a", "absolute path"),
        ("/data/a/", "absolute path"),
        ("/data/\0", "absolute path"),
        ("/", "contains other mounts"),
        ("/inputs", "contains other mounts"),
        ("/outputs", "keeps for itself"),
        ("/outputs/a", "keeps for itself"),
        ("/input/a", "keeps for itself"),
        ("/output", "keeps for itself"),
        ("/tmp/a", "keeps for itself"),
        ("/proc/self/mem", "keeps for itself"),
        ("/sys/a", "keeps for itself"),
        ("/dev/shm/a", "keeps for itself"),
        ("/run/secrets/TOKEN", "keeps for itself"),
        ("/var/run/secrets/TOKEN", "keeps for itself"),
        ("/var", "keeps for itself"),
        ("/etc/hosts", "keeps for itself"),
        ("/sbin", "keeps for itself"),
    ],
)
def test_a_place_of_the_sandbox_s_own_is_refused(target: str, words: str) -> None:
    for found in (misplaced([target]), misplaced([], [target])):
        assert found is not None
        assert (found[0], words in found[1]) == (target, True), found


@pytest.mark.parametrize(
    ("inputs", "outputs", "wrong"),
    [
        (["/data/a", "/data/a"], [], "/data/a"),
        (["/data/a", "/data/a/b"], [], "/data/a/b"),
        (["/data/a/b", "/data/a"], [], "/data/a/b"),
        (["/data/a"], ["/data"], "/data/a"),
        (["/data"], ["/data/a"], "/data/a"),
        ([], ["/data", "/data/a"], "/data/a"),
        (["/data/a"], ["/data/a"], "/data/a"),
        ([], ["/inputs/a"], "/inputs/a"),
    ],
)
def test_no_two_share_a_place_or_lie_inside_one_another(inputs: list[str], outputs: list[str], wrong: str) -> None:
    found = misplaced(inputs, outputs)
    assert found is not None
    assert found[0] == wrong


def test_neighbours_and_names_that_only_begin_alike_are_taken() -> None:
    assert misplaced(["/inputs/a", "/data/a", "/data/ab", "/outputs2/a", "/tmpfile"], ["/results", "/data/b"]) is None


def test_an_input_is_shown_at_the_path_that_it_names() -> None:
    reference, plain = InputReference(COLLECTION, "/z/c", "/reference"), InputReference(COLLECTION, "/z/d")
    assert targets(
        ("/z/a/x", InputReference(OBJECT, "/z/a/x", "/data/first")),
        ("/z/a/y", InputReference(OBJECT, "/z/a/y")),
        ("/z/c/1", reference),
        ("/z/c/deep/2", reference),
        ("/z/d/e/3", plain),
        ("/z/n/4", InputReference(NEXT_OF, "/z/n", "/data/next")),
    ) == (
        "/data/first",
        "/inputs/y",
        "/reference/1",
        "/reference/deep/2",
        "/inputs/e/3",
        "/data/next",
    )


def test_a_data_object_can_be_shown_at_two_paths() -> None:
    asked = [InputReference(OBJECT, "/z/a/x", "/data/1"), InputReference(OBJECT, "/z/a/x", "/data/2")]
    assert targets(*(("/z/a/x", one) for one in asked)) == ("/data/1", "/data/2")


def test_what_was_named_is_not_taken_for_what_was_claimed() -> None:
    asked = [InputReference(NEXT_OF, "/z/n", "/data/next"), InputReference(OBJECT, "/z/n/x")]
    next_of, named = asked
    assert targets(("/z/n/x", named)) == ("/inputs/x",)
    claiming = shown(("/z/n/x", named)).claiming(data_object("/z/n/y"), next_of)
    assert [one.target for one in claiming.inputs] == ["/inputs/x", "/data/next"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([("/z/a", "/data/a"), ("/z/b", "/data/a")], "is shown at the same path as /z/a"),
        ([("/z/a", "/inputs/b"), ("/z/b", "")], "both would be /inputs/b"),
        ([("/z/a", "/data/a"), ("/z/b", "/data/a/b")], "both be /data/a"),
        ([("/z/a", "/outputs/a")], "cannot be shown at /outputs/a"),
        ([("/z/a", "/run/secrets/TOKEN")], "cannot be shown at /run/secrets/TOKEN"),
        ([("/z/a", "data/a")], "cannot be shown at data/a"),
    ],
)
def test_paths_that_cannot_be_are_an_invalid_request(asked: list[tuple[str, str]], words: str) -> None:
    inputs = [InputReference(OBJECT, logical_path, path) for logical_path, path in asked]
    with pytest.raises(InvalidRequest, match=words):
        targets(*((one.logical_path, one) for one in inputs))


def test_a_recorded_task_loses_no_path() -> None:
    plain = Task("", "", "r", (InputReference(OBJECT, "/z/a"),), "/z/out")
    assert request.parse(request.document(plain)) == plain
    for task in (
        replace(plain, inputs=(InputReference(OBJECT, "/z/a", "/data/a"),)),
        replace(plain, outputs=(Output("/results", "results"),)),
    ):
        with pytest.raises(InvalidRequest, match="which our own format cannot express"):
            request.document(task)
