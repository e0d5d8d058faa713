"""Services: process definitions of the type ``service``, each message to which is a data object.

A service is a workload, whose sandboxes stay warm, and a tag on the collection where its messages arrive. The policy
for arrivals (docs/arrivals.md) makes a task of the workload for each message; its result is the answer. The program
itself starts for each message.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compute_to_data.client import processes, workloads
from compute_to_data.documents import parameter_check, parameters, request
from compute_to_data.documents.json_text import MAXIMUM_BYTES, read_json
from compute_to_data.documents.process_definition import image_of
from compute_to_data.documents.schema import first, summary
from compute_to_data.errors import InvalidRequest, NotFound, Refused
from compute_to_data.model import Access, Avu, Collection, Entity, EntityKind, name_of
from compute_to_data.records import definition
from compute_to_data.records.access import require
from compute_to_data.records.workload import Workload, WorkloadRecord
from compute_to_data.submission import arrivals, definitions

if TYPE_CHECKING:
    from compute_to_data.client.workbench import Workbench

TEMPLATE = "service.json"
"""The data object in a service's workload that says what runs for each message."""
SERVICE, SINGLE = "service", "single"


@dataclass(frozen=True)
class Service:
    """A service that has been started. ``workload``: its id; ``process``: the name of its definition; ``messages``: the
    collection where messages arrive; ``answers``: the collection with a task for each message."""

    workload: str
    process: str
    messages: str
    answers: str
    resource: str


def start(
    workbench: Workbench,
    process: str,
    messages: str,
    *,
    instances: int = 1,
    values: Mapping[str, Any] | None = None,
    limits: Mapping[str, Any] | None = None,
    role: str = "",
    resource: str = "",
) -> Service:
    """Start a service: from now on, each data object that arrives in the collection ``messages`` is a message to it.

    ``process``: a definition of the type ``service``, as for :func:`processes.find`. ``values``: of its parameters.
    ``instances``: how many messages are worked on at a time. The collection is made if it does not exist. Refused,
    InvalidRequest, or the zone's error, and then nothing is started.
    """
    path = processes.find(workbench, process)
    found = definition.read(workbench.catalog, workbench.attributes, path)
    document = _checked(found, values or {})
    filled = definitions.with_image_of_application(workbench.configuration, {"process": document})["process"]
    _prepare(workbench, messages)
    handle = workloads.start(
        workbench,
        image_of(filled),
        instances=instances,
        limits=limits,
        role=role,
        resource=resource,
        name=found.stored.name,
    )
    try:
        workload = handle.describe().workload
        template = {
            **_template(handle.collection, workload, messages),
            "process": filled,
            definitions.PIN: vars(found.stored),
            **({"parameters": dict(values)} if values else {}),
        }
        content = json.dumps(template, indent=2, ensure_ascii=False).encode()
        workbench.catalog.write(f"{handle.collection}/{TEMPLATE}", content)
        workbench.catalog.annotate(Entity(EntityKind.COLLECTION, messages), add=[_tag(workbench, handle.collection)])
    except BaseException:
        handle.stop()
        raise
    return Service(handle.id, found.stored.name, messages, handle.collection, workload.resource)


def _template(collection: str, workload: Workload, messages: str) -> dict[str, Any]:
    """What every message's request says about the workload at ``collection`` that works on it."""
    return {
        "workload": collection,
        "output_collection": collection,
        "role": workload.role,
        "resource": workload.resource,
        "inputs": [{arrivals.PLACE: messages}],
        "limits": request.limits_document(workload.limits),
    }


def _tag(workbench: Workbench, workload: str) -> Avu:
    """The AVU on the collection of messages that names the template."""
    return Avu(workbench.attributes.named("trigger"), f"{workload}/{TEMPLATE}")


def _checked(found: definition.Definition, values: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a definition that can be a service with these values."""
    document, subject = found.document, f"process definition {found.stored.name}"
    if document.get("process_type", SINGLE) != SERVICE:
        remedy = f'Run it once with: c2d run --process {found.stored.name}, or give it "process_type": "service"'
        raise InvalidRequest(subject, "is not of the type service", remedy)
    wrong = first(parameters.disagreements(document.get("parameters", {}), values, "/parameters"))
    if wrong:
        raise InvalidRequest(*summary(wrong))
    with contextlib.suppress(parameter_check.LacksLibrary):  # the worker checks each message's
        parameter_check.check_values(document.get("parameters", {}), values)
    return document


def _prepare(workbench: Workbench, messages: str) -> None:
    """Make the collection of messages if it is missing. Refused when another service listens there."""
    workbench.catalog.create_collection(messages, parents=True)
    require(workbench.catalog, messages, Access.OWN, "to tag it for the service")
    entity = Entity(EntityKind.COLLECTION, messages)
    for avu in workbench.catalog.avus(entity, workbench.attributes.named("trigger")):
        if avu.value.endswith(f"/{TEMPLATE}"):
            cause = f"is where another service listens already ({name_of(avu.value[: -len(TEMPLATE) - 1])})"
            raise Refused(messages, cause, "Stop it with c2d process stop, or choose another collection")


def stop(workbench: Workbench, given: str) -> Service:
    """Stop a service, given the id of its workload or the beginning of one: what arrives from now on is no message,
    and messages that it has not answered get no answer. NotFound when it is no service."""
    handle = workloads.find(workbench, given)
    service = describe(workbench, handle)
    entity = Entity(EntityKind.COLLECTION, service.messages)
    with contextlib.suppress(NotFound):
        if isinstance(workbench.catalog.stat(service.messages), Collection):
            workbench.catalog.annotate(entity, remove=[_tag(workbench, handle.collection)])
    handle.stop()
    return service


def describe(workbench: Workbench, handle: workloads.WorkloadHandle) -> Service:
    """The service that a workload is. NotFound when it is none."""
    path = f"{handle.collection}/{TEMPLATE}"
    try:
        document = read_json(workbench.catalog.read(path, MAXIMUM_BYTES), path)
        messages, pin = document["inputs"][0][arrivals.PLACE], document[definitions.PIN]
    except (NotFound, KeyError, IndexError, TypeError):
        remedy = "c2d process start starts one; c2d workload list lists all workloads"
        raise NotFound(f"workload {handle.id}", "is no service", remedy) from None
    record = WorkloadRecord(workbench.catalog, workbench.attributes, handle.collection, "")
    return Service(handle.id, str(pin["name"]), str(messages), handle.collection, record.read().resource)
