"""Finds symbolic links in images, because the runtime must not follow them when it makes a container.

The runtime makes missing mount points and working directories as root, and follows the image's links. A link to
``/outputs`` leads it into the vault. The worker cannot read an image's files, so it asks the daemon, which looks
into a container that never starts. This container has no bind mounts: the daemon, too, makes missing mount points.
"""

from __future__ import annotations

import posixpath
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from docker.errors import DockerException, NotFound
from requests.exceptions import RequestException

from compute_to_data.engines.docker.client import Client
from compute_to_data.engines.docker.messages import asking_about
from compute_to_data.engines.docker.sandbox import RESOURCE_LABEL, normal
from compute_to_data.errors import EngineError

LABEL = "compute_to_data.image_paths"
"""Marks a container that answers questions about an image. Its value is the scope of the job."""
_MOST_KNOWN = 10_000
"""How many paths of an image to remember."""
_LINK, _DIRECTORY = 1 << 27, 1 << 31  # https://pkg.go.dev/io/fs#FileMode
_FILLED = ("/proc", "/sys", "/dev")
"""The runtime mounts these. ``/proc`` has links into every mount."""
_FILES = ("/sbin/docker-init", "/etc/hostname", "/etc/resolv.conf")
"""Docker may mount these."""
_ELSE = "-"
_REMEDY = "Build the image without the symbolic link or the VOLUME there, or name another path"


class ImagePaths:
    """The symbolic links of images. Threads may share it. The content of an image never changes, so each is asked
    about only once."""

    def __init__(self, docker: Callable[[], Client], known: dict[str, dict[str, str]] | None = None) -> None:
        """``known``: what earlier checks have found, by the images' digests. This adds to it."""
        self._docker = docker
        self._known = {} if known is None else known
        self._lock = threading.Lock()
        self._in_use: set[str] = set()

    def check(self, body: Mapping[str, Any], image: str, volumes: Iterable[str]) -> None:
        """EngineError when the runtime would make anything inside a mount, or would mount two things at one place.

        ``body``: the request for the container. ``image``: the image's name. ``volumes``: the paths at which it
        declares volumes.
        """
        mounts, volumes = body["HostConfig"]["Mounts"], [normal(path) for path in volumes]
        with asking_about(f"image {image}"), ExitStack() as probe:
            if len(self._known.get(body["Image"], ())) > _MOST_KNOWN:
                self._known[body["Image"]] = {}
            known = self._known.setdefault(body["Image"], {})
            scratch = [mount["Target"] for mount in mounts if mount["Type"] == "tmpfs"]
            walk = _Walk(known, lambda: self._probe(probe, body), scratch)
            asked = [body["WorkingDir"], *_FILLED, *_FILES, *volumes, *(mount["Target"] for mount in mounts)]
            found = {path: walk.resolve(path) for path in asked}
        problem = _misplaced(mounts, [*volumes, body["WorkingDir"]], found)
        if problem:
            raise EngineError(f"image {image}", problem, _REMEDY)

    def tidy(self, scope: str) -> None:
        """Remove the containers that killed workers of the scope left. Also remove those that this worker could not
        remove at the time. EngineError when the daemon fails."""
        with asking_about(f"the containers that answered questions for {scope}"):
            found = self._docker().containers(all=True, filters={"label": f"{LABEL}={scope}"})
            for container in found:
                with self._lock:
                    left = self._in_use.isdisjoint(name.lstrip("/") for name in container["Names"] or ())
                if left:
                    self._remove(container["Id"])

    def _probe(self, stack: ExitStack, body: Mapping[str, Any]) -> Callable[[str], str]:
        """Make a container of the image that never starts. Returns a function that looks at one path in it."""
        name = f"compute-to-data-paths-{uuid.uuid4().hex}"
        probe = {
            "Image": body["Image"],
            "Entrypoint": ["/never/started"],
            "NetworkDisabled": True,
            "Labels": {LABEL: body["Labels"][RESOURCE_LABEL]},
            "HostConfig": {
                "NetworkMode": "none",
                # Without these, Docker would copy the content of the image's volumes.
                "Mounts": [mount for mount in body["HostConfig"]["Mounts"] if mount["Type"] == "tmpfs"],
            },
        }
        with self._lock:
            self._in_use.add(name)
        stack.callback(self._end, name)  # first, because the daemon may make the container and not answer
        self._docker().create_container_from_config(probe, name)
        return lambda path: _look(self._docker(), name, path)

    def _end(self, name: str) -> None:
        # The answers are good even if this fails. Then tidy removes the container.
        with suppress(DockerException, RequestException):
            self._remove(name)
        with self._lock:
            self._in_use.discard(name)

    def _remove(self, container: str) -> None:
        with suppress(NotFound):
            self._docker().remove_container(container, force=True, v=True)


class _Walk:
    """Follows paths in an image. ``known``: what each path is, see :func:`_look`; the walk adds to it. ``scratch``:
    mounts that hide what the image has there. The runtime makes a mount after those above it."""

    def __init__(
        self, known: dict[str, str], probe: Callable[[], Callable[[str], str]], scratch: Sequence[str]
    ) -> None:
        self._known = known
        self._scratch = scratch
        self._probe = probe
        self._look: Callable[[str], str] | None = None

    def resolve(self, path: str) -> str:
        """The place that a path leads to. ``path`` is absolute, without '.' and '..'."""
        above = next((one for one in self._scratch if path.startswith(f"{one}/")), "")
        if above:
            return self.resolve(above) + path[len(above) :]
        parts = path.strip("/").split("/")
        place = "/"
        for number, part in enumerate(parts):
            place = posixpath.join(place, part)
            while (kind := self._kind(place)).startswith("/"):
                place = kind
            if kind == _ELSE:
                return posixpath.join(place, *parts[number + 1 :])
        return place

    def _kind(self, place: str) -> str:
        if place not in self._known:
            self._look = self._look or self._probe()
            self._known[place] = self._look(place)
        return self._known[place]


def _look(docker: Client, container: str, path: str) -> str:
    """What the image has at ``path``, which has no link above it: '' for a directory, the place to which a link
    leads, or :data:`_ELSE` when there is nothing or a file."""
    found = docker.path_in(container, path)
    if found is None:
        return _ELSE
    if found["mode"] & _LINK:
        return str(found["linkTarget"])
    return "" if found["mode"] & _DIRECTORY else _ELSE


def _misplaced(mounts: Sequence[Mapping[str, Any]], more: Sequence[str], found: Mapping[str, str]) -> str:
    """Why the container cannot be made safely; '' when it can. ``more``: other directories that the runtime makes.
    ``found``: where each path leads."""
    binds = [mount["Target"] for mount in mounts if mount["Type"] == "bind"]
    targets = [mount["Target"] for mount in mounts]
    for path in _FILLED:
        if found[path] != path:
            return f"its {path} is a symbolic link"
    for path in (*targets, *more):
        if f"{found[path]}/".startswith("/proc/" if found[path] == path else ("/proc/", "/sys/", "/dev/")):
            return f"{_leads(path, found[path])} is a place that the kernel fills"
    for path in (*targets, *_FILES, *more):
        around = next((one for one in binds if found[path].startswith(f"{found[one]}/")), "")
        if around:
            return f"{_leads(path, found[path])} lies inside {around}, where the engine would make it as root"
    for number, path in enumerate((*targets, *_FILES)):
        same = next((one for one in targets[:number] if found[one] == found[path]), "")
        if same:
            return f"{_leads(path, found[path])} is the place of {same}"
    return ""


def _leads(path: str, place: str) -> str:
    return path if path == place else f"{path}, which leads to {place},"
