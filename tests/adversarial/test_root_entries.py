"""The runtime makes mount points and working directories as root. No image and no request gets one into the vault."""

from __future__ import annotations

import io
import os
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from support.real_docker import IMAGE, built_image, open_docker

from compute_to_data.engines.docker import image_paths
from compute_to_data.errors import EngineError
from compute_to_data.job import Mount, OutputMount, Sandbox

if TYPE_CHECKING:
    from tests.adversarial.conftest import Attacker

pytestmark = pytest.mark.docker


@pytest.fixture
def linking(docker_answers: None) -> Iterator[Callable[..., str]]:
    """Makes an image that holds nothing but symbolic links: a path without its first slash, and the link's target."""
    import docker

    names: list[str] = []
    with closing(docker.APIClient()) as client:

        def make(links: dict[str, str]) -> str:
            content = io.BytesIO()
            with tarfile.open(fileobj=content, mode="w") as archive:
                for path, target in links.items():
                    entry = tarfile.TarInfo(path)
                    entry.type, entry.linkname = (tarfile.SYMTYPE, target) if target else (tarfile.DIRTYPE, "")
                    archive.addfile(entry)
            names.append(f"compute-to-data/test-links:{uuid.uuid4().hex[:12]}")
            repository, _, tag = names[-1].partition(":")
            client.import_image_from_data(content.getvalue(), repository, tag)
            return names[-1]

        yield make
        for name in names:
            client.remove_image(name, force=True)


def made(outputs: str) -> dict[str, int]:
    """All entries below a job's outputs with the uids of their owners."""
    return {str(path.relative_to(outputs)): path.lstat().st_uid for path in Path(outputs).rglob("*")}


def refused(attacker: Attacker, **more: Any) -> None:
    """Start a job, which the engine must refuse. Nothing is in its outputs, and no container is left."""
    with pytest.raises(EngineError) as error:
        attacker.start("true", **more)
    assert "image" in str(error.value) or "working directory" in str(error.value)
    outputs = [str(path) for path in attacker.directory.iterdir() if path.name.startswith("outputs-")]
    assert [made(one) for one in outputs] == [{}] * len(outputs)
    assert not set(attacker.keys) & set(attacker.engine.jobs("adversarial"))


@pytest.fixture
def inputs(tmp_path: Path) -> Callable[[str], tuple[Mount, ...]]:
    source = tmp_path / "input"
    source.write_text("content")
    return lambda target: (Mount(str(source), target),)


@pytest.mark.parametrize(
    "directory",
    ["//outputs/a/b", "/outputs/a", "/outputs/../outputs/x", "/./outputs/x", "/proc/self/root/outputs/x",
     "/proc/thread-self/root/outputs/x", "/proc/1/root/outputs/x", "/proc/self/fd/3/outputs/x", "/proc/self/cwd/x",
     "/dev/fd/3/outputs/x", "/usr/../outputs/x", "///outputs/x", "/tmp/../outputs/x", "/link/x", "/link",
     "/hop/x", "/magic/x"],
)  # fmt: skip
def test_a_working_directory_cannot_lie_in_the_outputs(attacker: Attacker, directory: str) -> None:
    recipe = f"FROM {IMAGE}\nRUN ln -s /outputs/made /link && ln -s /link /hop && ln -s /proc/self/root/outputs /magic"
    with built_image("links", recipe) as attacker.image:
        refused(attacker, working_directory=directory)


@pytest.mark.parametrize(
    ("links", "target"),
    [
        ({"inputs": "/outputs"}, "/inputs/x"),
        ({"inputs": "outputs"}, "/inputs/a/b"),
        ({"inputs": "/one", "one": "two", "two": "/outputs/sub"}, "/inputs/x"),
        ({"inputs": "/proc/self/root/outputs"}, "/inputs/x"),
        ({"inputs": "/proc/self/cwd"}, "/inputs/x"),
        ({"data": "/outputs"}, "/data/x"),
        ({"data": "/outputs"}, "/data/a/b"),
        ({"data": "", "data/x": "/outputs/x"}, "/data/x"),
        ({"data": "", "data/a": "../outputs"}, "/data/a/x"),
        ({"data": "/real", "real": "", "real/x": "/tmp/../outputs/x"}, "/data/x"),
        ({"a": "/outputs"}, "/a"),
    ],
)
def test_no_input_is_mounted_through_a_link_into_the_outputs(
    attacker: Attacker, linking: Callable[..., str], inputs: Any, links: dict[str, str], target: str
) -> None:
    attacker.image = linking(links)
    refused(attacker, inputs=inputs(target))


@pytest.mark.parametrize("place", ["sbin", "inputs", "tmp", "run", "outputs"])
def test_the_sandboxs_own_places_are_not_links_into_the_outputs(
    attacker: Attacker, linking: Callable[..., str], inputs: Any, place: str
) -> None:
    attacker.image = linking({place: "/proc/self/root" if place == "outputs" else "/outputs"})
    more = {"inputs": {"inputs": inputs("/inputs/x")}, "run": {"secrets": {"token": b"hush"}}}
    refused(attacker, **more.get(place, {}))


@pytest.mark.parametrize("place", ["etc", "proc", "sys", "dev", "dev/shm", "dev/null", "etc/hosts", "etc/hostname"])
def test_places_that_docker_makes_itself(attacker: Attacker, linking: Callable[..., str], place: str) -> None:
    """Docker replaces some of an image's links by directories and files of its own."""
    attacker.image = linking({place: "/outputs/x" if "/" in place else "/outputs"})
    with suppress(EngineError):
        attacker.end(attacker.start("true"))
    assert made(str(next(attacker.directory.glob("outputs-*")))) == {}


@pytest.mark.parametrize("place", ["/data", "/data/below"])
def test_no_empty_directory_or_output_directory_is_mounted_through_a_link(
    attacker: Attacker, linking: Callable[..., str], place: str
) -> None:
    attacker.image = linking({"data": "/outputs"})
    refused(attacker, input_folders=(place,))
    with pytest.raises(EngineError, match=r"lies inside|is the place"):
        attacker.start("true", output_mounts=(OutputMount("kept", place),))
    assert 0 not in made(str(max(attacker.directory.glob("outputs-*"), key=os.path.getmtime))).values()


@pytest.mark.parametrize(
    "recipe",
    [
        "VOLUME /outputs/a/b",
        "VOLUME //outputs/a",
        "VOLUME /tmp/../outputs/x",
        "RUN ln -s /outputs /link\nVOLUME /link/a",
        "RUN ln -s /outputs /link\nVOLUME /link",
        "VOLUME /proc/self/root/outputs/x",
        "RUN ln -s /proc/self/root /magic\nVOLUME /magic/outputs/x",
    ],
)
def test_no_volume_of_an_image_is_made_in_the_outputs(attacker: Attacker, recipe: str) -> None:
    with built_image("volumes", f"FROM {IMAGE}\n{recipe}") as attacker.image:
        refused(attacker)


def test_a_volume_in_an_output_directory_is_refused(attacker: Attacker) -> None:
    with (
        built_image("volumes", f"FROM {IMAGE}\nVOLUME /results/deep") as attacker.image,
        pytest.raises(EngineError, match=r"/results/deep lies inside /results"),
    ):
        attacker.start("true", output_mounts=(OutputMount("kept", "/results"),))


@pytest.mark.parametrize("place", ["input", "output", ".compute-to-data"])
def test_a_workloads_mounts_do_not_follow_links(
    attacker: Attacker, linking: Callable[..., str], tmp_path: Path, place: str
) -> None:
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    attacker.image = linking({place: "/outputs/x" if place.startswith(".") else "/outputs"})
    workload = Sandbox("workload", 1, str(tmp_path / "vault"), str(dataset))
    if place.startswith("."):  # only a warm sandbox has this mount: the task gets its own container instead
        job = attacker.start("true", sandbox=workload)
        attacker.end(job)
        assert made(job.outputs) == {}
    else:
        refused(attacker, sandbox=workload)
    assert list(dataset.iterdir()) == []
    assert not (tmp_path / "vault").exists()


def test_an_images_working_directory_is_not_used(attacker: Attacker) -> None:
    with built_image("workdir", f"FROM {IMAGE}\nRUN mkdir /outputs\nWORKDIR /outputs/a/b") as attacker.image:
        job = attacker.start("pwd")
        assert attacker.said(job) == "/tmp\n"
        assert made(job.outputs) == {}


def test_harmless_links_of_images_are_followed(attacker: Attacker, inputs: Any) -> None:
    """Links between places of the image, and a link to the root of a mount."""
    recipe = f"FROM {IMAGE}\nRUN mkdir /real && ln -s /real /data && ln -s /elsewhere /outputs && mkdir /elsewhere"
    with built_image("harmless", recipe) as attacker.image:
        job = attacker.start(
            "sh", "-c", "cat /data/x; pwd -P; echo x >/outputs/mine; ls /elsewhere", inputs=inputs("/data/x"),
            working_directory="/data",
        )  # fmt: skip
        assert attacker.said(job).splitlines() == ["content/real", "mine"]
        assert list(made(job.outputs)) == ["mine"]
        job = attacker.start("pwd", "-P", working_directory="/outputs/")
        assert attacker.said(job) == "/elsewhere\n"


@pytest.fixture
def scope(attacker: Attacker, tmp_path: Path) -> str:
    """A scope of its own for the attacker's jobs, which an engine without any memory runs."""
    attacker.engine = open_docker(str(tmp_path / "state"))
    return f"scope-{uuid.uuid4()}"


@pytest.fixture
def asking(scope: str) -> dict[str, str]:
    """A filter for the containers that answer the questions of the attacker's own engine."""
    return {"label": f"{image_paths.LABEL}={scope}"}


def test_an_image_is_asked_about_its_links_only_once(
    attacker: Attacker, inputs: Any, scope: str, asking: dict[str, str]
) -> None:
    """Also for further names of inputs. No container that answered questions is left."""
    import docker

    recipe = f"FROM {IMAGE}\nRUN mkdir /inputs && ln -s /outputs/evil /inputs/x"
    with built_image("inputs", recipe) as attacker.image, closing(docker.APIClient()) as client:
        begun = int(time.time())
        for name in ("x", "y"):
            job = attacker.start("cat", f"/inputs/{name}", inputs=inputs(f"/inputs/{name}"), scope=scope)
            assert attacker.said(job) == "content"
            assert made(job.outputs) == {}
        assert client.containers(all=True, filters=asking) == []
        seen = client.events(since=begun, until=int(time.time()) + 1, filters=asking, decode=True)
        assert [event["Action"] for event in seen] == ["create", "destroy"]


def test_what_a_killed_worker_asked_with_is_removed_and_nothing_of_other_workers(
    attacker: Attacker, scope: str, asking: dict[str, str]
) -> None:
    import docker

    with closing(docker.APIClient()) as client:

        def left_by(one: str) -> str:
            made = client.create_container_from_config(
                {"Image": IMAGE, "Entrypoint": ["true"], "Labels": {image_paths.LABEL: one}}
            )
            return str(made["Id"])

        left_by(scope)
        other = left_by(f"{scope}-of-another-worker")
        try:
            attacker.engine.tidy(scope, frozenset(), 0.0)
            assert client.containers(all=True, filters=asking) == []
            assert client.inspect_container(other)["State"]["Status"] == "created"
        finally:
            client.remove_container(other)


def test_what_cannot_be_removed_at_the_time_is_removed_later(
    attacker: Attacker,
    linking: Callable[..., str],
    inputs: Any,
    scope: str,
    asking: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import docker

    def away(*_: Any, **__: Any) -> None:
        raise requests.ConnectionError("the daemon went away")

    attacker.image = linking({"data": "/outputs"})
    with closing(docker.APIClient()) as client:
        with monkeypatch.context() as daemon:
            daemon.setattr(docker.APIClient, "remove_container", away)
            refused(attacker, inputs=inputs("/data/x"), scope=scope)
        assert len(client.containers(all=True, filters=asking)) == 1
        attacker.engine.tidy(scope, frozenset(), 0.0)
        assert client.containers(all=True, filters=asking) == []


def test_a_question_that_is_being_asked_is_not_removed(
    attacker: Attacker, linking: Callable[..., str], inputs: Any, scope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker tidies in one thread while others start jobs."""
    attacker.image = linking({"data": "/outputs"})
    look = image_paths._look

    def meanwhile(*asked: Any) -> str:
        attacker.engine.tidy(scope, frozenset(), 0.0)
        return look(*asked)

    monkeypatch.setattr(image_paths, "_look", meanwhile)
    refused(attacker, inputs=inputs("/data/x"), scope=scope)


def test_a_question_without_an_answer_starts_no_job(
    attacker: Attacker, linking: Callable[..., str], scope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process removed the container that answers. Its paths are not missing paths of the image."""
    import docker

    attacker.image = linking({"data": "/outputs"})
    with closing(docker.APIClient()) as client:
        look = image_paths._look

        def too_late(engine: Any, container: str, path: str) -> str:
            with suppress(docker.errors.NotFound):
                client.remove_container(container)
            return look(engine, container, path)

        monkeypatch.setattr(image_paths, "_look", too_late)
        with pytest.raises(EngineError, match="No such container"):
            attacker.start("true", output_mounts=(OutputMount("kept", "/data"),), scope=scope)
