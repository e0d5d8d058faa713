"""The steps that register the results, all of them or nothing, and annotate them."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Iterable, Sequence
from typing import overload

from compute_to_data.catalog_tree import data_objects, walk
from compute_to_data.errors import (
    Code,
    EngineError,
    NotFound,
    ZoneError,
)
from compute_to_data.model import (
    Entity,
    EntityKind,
    Registration,
    parent_of,
)
from compute_to_data.pipeline.execution import Execution
from compute_to_data.pipeline.results import output_avus, placing, replacing
from compute_to_data.pipeline.running import job_log, plan
from compute_to_data.pipeline.running.job_log import delete, log_files
from compute_to_data.pipeline.vault import outputs, workspace
from compute_to_data.provenance import crate, outcome
from compute_to_data.task import CRATE_NAME

_AT_ONCE = 500
"""How many outputs the worker registers or annotates before it looks again whether a user cancels the task: real
zones need about half a second for this."""
_AVUS_AT_ONCE = 10_000
"""How many AVUs the worker puts on outputs in one call, so that it can stop between two."""


class _Results(Sequence[Registration]):
    """Outputs, logs and crate. Each is made when it is read: all of a hundred thousand outputs would take more memory
    than their names do."""

    def __init__(self, execution: Execution, own: Sequence[Registration]) -> None:
        self._execution, self._own = execution, own
        self._files, self._outputs = execution.files, execution.job.outputs

    def __len__(self) -> int:
        return len(self._files) + len(self._own)

    @overload
    def __getitem__(self, at: int) -> Registration: ...
    @overload
    def __getitem__(self, at: slice) -> list[Registration]: ...
    def __getitem__(self, at: int | slice) -> Registration | list[Registration]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        at = range(len(self))[at]
        if at >= len(self._files):
            return self._own[at - len(self._files)]
        file = self._files[at]
        logical_path, place = self._execution.logical_path(file.relative), f"{self._outputs}/{file.relative}"
        return Registration(logical_path, place, file.size, file.checksum)

    def own_paths(self) -> list[str]:
        """The logical paths of those that are in the task's collection."""
        within = f"{self._execution.record.collection}/"
        return [one.logical_path for one in self if one.logical_path.startswith(within)]


def register(execution: Execution) -> Sequence[Registration]:
    """Register outputs, logs and crate in the owner's session: all of them or nothing. Returns what it registered."""
    catalog, record = execution.record.catalog, execution.record
    own = [*log_files(execution), _crate_file(execution)]
    job_log.hide(execution)
    results = _Results(execution, own)
    record.confirm()  # the results at these paths may be another worker's
    if execution.resume_point.has_exited:
        catalog.unregister(results.own_paths())  # an interrupted registration may have done some
        placing.unregister(execution)
    replacing.set_aside(execution)
    _make_collections(execution)
    execution.undo.push(
        f"unregister the outputs of {record.collection}", lambda: catalog.unregister(results.own_paths())
    )
    _push_unplacing(execution)
    for start in range(0, len(results), _AT_ONCE):
        execution.interruption.check()
        catalog.register(execution.context.resource.name, results[start : start + _AT_ONCE])
    execution.interruption.check()
    if execution.files:
        outputs.still_there(execution.job.outputs, execution.files, execution.interruption.check)
    return results


def _make_collections(execution: Execution) -> None:
    """Make a collection for each directory, also for one that holds nothing."""
    record = execution.record
    own = [file.relative for file in execution.files if file.relative not in execution.places]
    folders = {*(name.rpartition("/")[0] for name in own), *execution.folders} - {""}
    tops = {folder.split("/", 1)[0] for folder in folders}
    for top in sorted(tops):
        execution.undo.push(
            f"remove {record.collection}/{top}",
            functools.partial(_remove_collection, execution, f"{record.collection}/{top}"),
        )
    for folder in sorted(folders):
        execution.interruption.check()
        record.catalog.create_collection(f"{record.collection}/{folder}", parents=True)
    for collection in sorted({parent_of(path) for path in execution.places.values()}):
        execution.interruption.check()
        record.catalog.create_collection(collection, parents=True)


def _push_unplacing(execution: Execution) -> None:
    execution.undo.push(
        f"unregister the outputs elsewhere of {execution.record.collection}",
        functools.partial(placing.unregister, execution),
    )


def push_unregistering(execution: Execution) -> None:
    """If the task fails, unregister what an interrupted attempt may have registered."""
    crate = os.path.join(execution.private, CRATE_NAME)
    execution.undo.push(f"delete {crate}", functools.partial(delete, crate))
    execution.undo.push(
        f"unregister what is in {execution.record.collection}", functools.partial(_unregister_all, execution)
    )
    replacing.push_back(execution)
    _push_unplacing(execution)
    execution.undo.push(
        f"remove the AVUs of {execution.record.collection}", functools.partial(_remove_annotations, execution)
    )


def _remove_annotations(execution: Execution) -> None:
    """Remove AVUs that an interrupted attempt may have put on the task's collection, as on that of a success."""
    catalog, collection = execution.record.catalog, Entity(EntityKind.COLLECTION, execution.record.collection)
    named = execution.record.attributes.named
    only_of_success = {named(name) for name in outcome.ONLY_OF_SUCCESS}
    asked = set(execution.task.metadata)
    attributes = {*only_of_success, *(avu.attribute for avu in asked)}
    found = [avu for avu in catalog.avus(collection, *attributes) if avu in asked or avu.attribute in only_of_success]
    if found:
        catalog.annotate(collection, remove=found)


def _unregister_all(execution: Execution) -> None:
    catalog, record = execution.record.catalog, execution.record
    emptied = []
    for _, below, members in walk(catalog, record.collection, execution.most_members):
        emptied += [one.logical_path for one in below]
        catalog.unregister([one.logical_path for one in members if one.logical_path != record.request_path])
    for collection in reversed(emptied):  # the inner ones first
        catalog.remove(collection)


def clear_lost(execution: Execution) -> None:
    """Remove what an attempt registered whose checkpoint is lost, with the files, in the owner's session.

    Such a file lies in the task's directory of the vault, but not at the place that follows from its
    logical path.
    """
    resource, collection = execution.context.resource, execution.record.collection
    directory = workspace.task_directory(resource, collection)
    replacing.push_back(execution)
    for one in [*placing.there(execution)]:
        execution.record.catalog.remove(one.logical_path)
    emptied: set[str] = set()
    kept: set[str] = set()
    lost: set[str] = set()
    for one in data_objects(execution.record.catalog, collection, execution.most_members):
        places = [replica.physical_path for replica in one.replicas if replica.leaf == resource.name]
        usual = workspace.task_directory(resource, one.logical_path)
        beyond = [place for place in places if place.startswith(f"{directory}/") and place != usual]
        (lost if beyond else kept).update(beyond or places)
        if beyond:
            execution.record.catalog.remove(one.logical_path)
            emptied.add(parent_of(one.logical_path))
    _remove_emptied(execution, emptied)
    for place in lost:  # the job's log is in the same private directory, and in the catalog only while it is shown
        token = place[len(directory) + 1 :].partition("/")[0]
        log_file = workspace.log_file(os.path.join(directory, token))
        if log_file not in kept:
            workspace.discard_file(log_file)
    workspace.discard_empty_below(directory)


def _remove_emptied(execution: Execution, collections: set[str]) -> None:
    """Remove collections below the task's own, and those above them, unless they hold anything else."""
    top = execution.record.collection
    for collection in sorted(collections, reverse=True):  # the inner ones first
        while collection.startswith(f"{top}/"):
            try:
                execution.record.catalog.remove(collection)
            except NotFound:
                pass  # removed already, with another one below it
            except ZoneError as error:
                if error.code is not Code.CAT_COLLECTION_NOT_EMPTY:
                    raise
                break
            collection = parent_of(collection)


def _remove_collection(execution: Execution, collection: str) -> None:
    try:
        execution.record.catalog.remove(collection, recursive=True)
    except NotFound:
        return


def _crate_file(execution: Execution) -> Registration:
    place = os.path.join(execution.private, CRATE_NAME)
    execution.undo.push(f"delete {place}", functools.partial(delete, place))  # first: a user may cancel meanwhile
    return _write_beside(execution, CRATE_NAME, crate.in_pieces(_outcome(execution)))


def _write_beside(execution: Execution, name: str, content: Iterable[bytes]) -> Registration:
    """Write a file beside the outputs directory, where no job can write."""
    folder = execution.private
    physical_path = os.path.join(folder, name)
    digest, size = hashlib.sha256(), 0
    try:
        os.makedirs(folder, mode=0o755, exist_ok=True)
        with open(physical_path, "wb") as file:
            for piece in content:
                execution.interruption.check()
                file.write(piece)
                digest.update(piece)
                size += len(piece)
    except OSError as error:
        with contextlib.suppress(OSError):
            delete(physical_path)  # it is incomplete
        vault = f"the vault of resource {execution.context.resource.name}"
        cause = f"the worker cannot write {name} there ({error.strerror})"
        raise EngineError(vault, cause, "An administrator makes room", code=Code.UNIX_FILE_OPEN_ERR) from error
    checksum = outputs.checksum_text(digest.digest())
    return Registration(f"{execution.record.collection}/{name}", physical_path, size, checksum)


def _outcome(execution: Execution) -> outcome.Outcome:
    return outcome.Outcome(
        **vars(plan.of(execution)),
        input_folders=execution.input_folders,
        changed_inputs=execution.changed_inputs or (),
        outputs=execution.files,
        places=execution.places,
        exit=execution.exit,
        stage_in_seconds=execution.stage_in_seconds,
        extra=(*execution.role.annotations(execution.task, execution.exit), *execution.metadata),
    )


def annotate(execution: Execution) -> None:
    """Put provenance and the task's own metadata on its collection and on every output."""
    record = execution.record
    facts = outcome.avus(execution.context.configuration.attributes, _outcome(execution))
    each, more = output_avus.chosen(execution, facts)
    facts = (*facts, *more, *placing.facts(execution))
    collection = Entity(EntityKind.COLLECTION, record.collection)
    present = set(record.catalog.avus(collection, *{avu.attribute for avu in facts}))
    new = [avu for avu in facts if avu not in present]
    record.confirm()
    execution.undo.push(
        f"remove the AVUs of {record.collection}", lambda: record.catalog.annotate(collection, remove=new)
    )
    record.catalog.annotate(collection, add=new)
    at_once = max(1, min(_AT_ONCE, _AVUS_AT_ONCE // len(each)))
    for start in range(0, len(execution.files), at_once):
        execution.interruption.check()
        some = execution.files[start : start + at_once]
        record.catalog.annotate_all([execution.logical_path(file.relative) for file in some], each)
