"""A collection as an input: the job sees its whole tree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.reading import ENOUGH
from support.site import BASE_IMAGE, BOB, HOME, TrialSite

from compute_to_data.errors import InvalidRequest, NotFound
from compute_to_data.inputs import references
from compute_to_data.model import Access
from compute_to_data.submission import rerun
from compute_to_data.task import InputKind, InputReference

FOLDER = f"{HOME}/folder"
LIST = "cd /inputs; find . -type f -o -type l | sort | while read f; do echo $f $(cat $f); done > /outputs/seen"
SEEN = "./a.txt 1\n./deep/a.txt 2\n./deep/er/b.txt 3\n"


def filled(site: TrialSite) -> TrialSite:
    site.alice.create_collection(f"{FOLDER}/deep/er", parents=True)
    site.alice.create_collection(f"{FOLDER}/empty")
    for name, content in (("a.txt", b"1\n"), ("deep/a.txt", b"2\n"), ("deep/er/b.txt", b"3\n")):
        site.alice.write(f"{FOLDER}/{name}", content)
    return site


def seen(site: TrialSite, **changes: Any) -> tuple[str, dict[str, str]]:
    facts = site.run(site.request("/bin/sh", "-c", LIST, **{"inputs": [{"collection": FOLDER}], **changes}))
    assert facts["state"] == "COMPLETED", facts
    return site.alice.read(f"{facts['collection']}/seen", ENOUGH).decode(), facts


def test_the_job_sees_the_whole_tree_of_a_collection(site: TrialSite) -> None:
    assert seen(filled(site))[0] == SEEN


@pytest.mark.docker
@pytest.mark.usefixtures("docker_answers")
def test_the_job_sees_the_whole_tree_in_a_container(tmp_path: Any) -> None:
    site = filled(TrialSite(tmp_path, {"name": "docker"}, BASE_IMAGE))
    assert seen(site)[0] == SEEN


def test_a_rerun_needs_the_unchanged_collection(site: TrialSite) -> None:
    collection = seen(filled(site))[1]["collection"]

    def again() -> Any:
        return rerun.again(site.alice, site.configuration.attributes, collection)["inputs"]

    assert seen(site, inputs=again())[0] == SEEN
    site.alice.write(f"{FOLDER}/deep/new", b"")
    with pytest.raises(NotFound, match="deep/new was added or removed"):
        again()


def test_other_paths_in_a_collection_make_another_task(site: TrialSite) -> None:
    first = seen(filled(site))[1]
    request = site.request("/bin/sh", "-c", LIST, inputs=[{"collection": FOLDER}])
    assert site.submit(request, reuse_earlier=True).collection == first["collection"]
    site.alice.create_collection(f"{HOME}/other/deep/er", parents=True)
    for name, content in (("a.txt", b"1\n"), ("deep/a.txt", b"2\n"), ("deep/er/c.txt", b"3\n")):
        site.alice.write(f"{HOME}/other/{name}", content)
    request["inputs"] = [{"collection": f"{HOME}/other"}]
    assert not site.submit(request, reuse_earlier=True).reused


def both(site: TrialSite) -> list[Any]:
    site.alice.write(f"{HOME}/a.txt", b"")
    return [f"{HOME}/a.txt", {"collection": FOLDER}]


def file_and_folder(site: TrialSite) -> list[Any]:
    site.alice.write(f"{HOME}/deep", b"")
    return [f"{HOME}/deep", {"collection": FOLDER}]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [(both, r"has the same name as .*, and both would be /inputs/a\.txt"), (file_and_folder, "both be /inputs/deep")],
)
def test_two_inputs_with_the_same_target_are_refused(
    site: TrialSite, inputs: Callable[[TrialSite], list[Any]], said: str
) -> None:
    filled(site)
    with pytest.raises(InvalidRequest, match=said):
        site.submit(site.request("/bin/true", inputs=inputs(site)))


def test_unreadable_data_objects_are_left_out(site: TrialSite) -> None:
    filled(site)
    for path in (HOME, FOLDER, f"{FOLDER}/deep", f"{FOLDER}/deep/er", f"{FOLDER}/a.txt", f"{FOLDER}/deep/er/b.txt"):
        site.alice.set_access(path, BOB, Access.READ_OBJECT)
    found = references.resolve(site.bob, site.configuration.attributes, [InputReference(InputKind.COLLECTION, FOLDER)])
    assert [one.logical_path for one in found.data_objects] == [f"{FOLDER}/a.txt", f"{FOLDER}/deep/er/b.txt"]


def test_the_size_of_a_tree_is_limited(site: TrialSite, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(site)
    site.alice.write(f"{FOLDER}/deep/another", b"")
    monkeypatch.setattr(references, "MOST_INPUTS", 3)
    with pytest.raises(InvalidRequest, match="found 4 inputs, expected at most 3"):
        site.submit(site.request("/bin/true", inputs=[{"collection": FOLDER}]))
    monkeypatch.setattr(references, "MOST_INPUTS", 4)
    site.submit(site.request("/bin/true", inputs=[{"collection": FOLDER}]))
    for name in "abc":
        site.alice.create_collection(f"{HOME}/hollow/{name}", parents=True)
    monkeypatch.setattr(references, "MOST_INPUTS", 2)
    with pytest.raises(InvalidRequest, match="more than 2 collections"):
        site.submit(site.request("/bin/true", inputs=[{"collection": f"{HOME}/hollow"}]))
