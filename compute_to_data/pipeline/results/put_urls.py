"""The step that sends results to the URLs that the request names, after their registration.

The task completes when all of them are there. When one cannot be put, the task fails; those that were put before it
stay where they are, and the fact ``put_to`` names them. A worker that was killed meanwhile leaves the task at the
resume point EXITED, so its successor puts all of them again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from urllib.parse import quote

from compute_to_data.errors import ReasonCode, TaskFailed
from compute_to_data.model import Avu, Entity, EntityKind, Registration, zone_of
from compute_to_data.pipeline.execution import Execution
from compute_to_data.pipeline.staging.fetch_urls import going_on
from compute_to_data.records import secret
from compute_to_data.task import RESERVED_NAMES, Put
from compute_to_data.urls import transfer
from compute_to_data.urls.address import HTTPS, Address, parse

PUT_TO = "put_to"
"""The fact that names a URL that a result was put to; units the beginning of the result's name."""
_LONGEST_UNITS = 250


def put(execution: Execution, results: Sequence[Registration]) -> None:
    """Send results to URLs. All of them together may take as long as the task's walltime.

    TaskFailed, which names the URL without credentials, the cause and the remedy; Cancelled; Detached when the worker
    is stopping.
    """
    wanted = execution.task.put
    if not wanted:
        return
    record, urls = execution.record, execution.context.configuration.urls
    elsewhere = {path: name for name, path in execution.places.items()}
    own = len(record.collection) + 1
    named = {elsewhere.get(one.logical_path) or one.logical_path[own:]: one for one in results}
    secrets = secret.read(record.catalog, zone_of(record.collection), execution.task.secrets_of_urls)
    check = going_on(execution, "putting results to")
    collection = Entity(EntityKind.COLLECTION, record.collection)
    for one in wanted:
        for name, address in targets(one, named):
            file, credentials = named[name], secrets.get(one.secret, b"")
            transfer.put(file.physical_path, file.size, file.checksum, address, urls, secret=credentials, check=check)
            done = Avu(record.attributes.named(PUT_TO), address.shown, _beginning(name))
            record.catalog.annotate(collection, add=[done])


def targets(wanted: Put, named: Sequence[str] | dict[str, Registration]) -> Iterator[tuple[str, Address]]:
    """The results that are put, by their names, and the URL of each. An empty directory has none.

    TaskFailed for a file of ours that there is not. ``expected`` has looked for all others.
    """
    url, below = parse(wanted.url), f"{wanted.output}/"
    if wanted.output in named:
        last = wanted.output.rpartition("/")[2]
        yield wanted.output, _below(url, last) if url.path.endswith("/") else url
        return
    members = [name for name in named if name.startswith(below)]
    if not members and wanted.output in RESERVED_NAMES:
        cause = "there is no such result, so it cannot be put to its URL"
        raise TaskFailed(ReasonCode.OUTPUT_MISSING, f"output {wanted.output}", cause)
    for name in members:
        yield name, _below(url, name[len(below) :])


def _below(url: Address, relative: str) -> Address:
    """The URL of a file below a URL."""
    written = quote(relative, safe="/") if url.scheme == HTTPS else relative
    return replace(url, path=f"{url.path.rstrip('/')}/{written}")


def _beginning(name: str) -> str:
    return name.encode()[:_LONGEST_UNITS].decode(errors="ignore")
