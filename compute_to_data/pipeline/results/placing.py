"""Results that the request wants at other logical paths than in the task's collection.

The files stay where the program left them, in the task's directory of the vault. Only their logical paths differ. Of
what is there, a task replaces only results of earlier tasks (``replacing``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from compute_to_data.catalog_tree import walk
from compute_to_data.errors import Code, NotFound, ReasonCode, TaskFailed, ZoneError
from compute_to_data.irods_names import check_in_zone
from compute_to_data.job import OutputFile
from compute_to_data.model import Avu, DataObject, Entity, EntityKind, zone_of
from compute_to_data.pipeline.execution import Execution
from compute_to_data.pipeline.vault import workspace
from compute_to_data.tes_task import Placed, PlacedKind

PLACED = "placed"
"""The fact that names a result that is registered elsewhere; units its size in bytes."""
_MOST_NAMED = 1000
"""How many of these facts a task's collection gets."""


def places(execution: Execution) -> Mapping[str, str]:
    """The logical paths of results that are registered elsewhere, by their names below the outputs.

    TaskFailed when a file is named by two outputs, when two would have the same path, or when a path is impossible.
    """
    tes = execution.task.tes
    found: dict[str, str] = {}
    taken: set[str] = set()
    for one in tes.placed if tes else ():
        for name, logical_path in _of(one, execution.files):
            if name in found and found[name] != logical_path:
                raise _refused(name, f"is to be at {found[name]} and at {logical_path}")
            if logical_path in taken and name not in found:
                raise _refused(name, f"is to be at {logical_path}, as another output is")
            try:
                check_in_zone(logical_path, zone_of(execution.record.collection))
            except ZoneError as error:
                raise _refused(name, error.cause) from None
            found[name] = logical_path
            taken.add(logical_path)
    return found


def _refused(name: str, cause: str) -> TaskFailed:
    return TaskFailed(ReasonCode.OUTPUT_REFUSED, f"output {name}", cause)


def _of(one: Placed, files: Sequence[OutputFile]) -> Iterator[tuple[str, str]]:
    if one.kind is PlacedKind.FILE:
        yield from ((file.relative, one.logical_path) for file in files if file.relative == one.output)
        return
    above = one.output if one.kind is PlacedKind.DIRECTORY else one.prefix
    pattern = one.output if one.kind is PlacedKind.PATTERN else ""
    for file in files:
        name = file.relative
        if above and not name.startswith(f"{above}/"):
            continue
        if not pattern or fits(name, pattern):
            yield name, f"{one.logical_path}/{name[len(above) + 1 if above else 0 :]}"


def fits(name: str, pattern: str) -> bool:
    """Whether a name, or a directory above it, fits a pattern. As in a shell, a wildcard stands for no slash, and not
    for a dot at the beginning of a name."""
    parts, patterns = name.split("/"), pattern.split("/")
    return len(parts) >= len(patterns) and all(
        fnmatchcase(part, one) and (one.startswith(".") or not part.startswith("."))
        for part, one in zip(parts, patterns)
    )


def expected(placed: Sequence[Placed]) -> Iterator[str]:
    """The names below the outputs that a successful program must leave."""
    return (one.output for one in placed if one.kind is not PlacedKind.PATTERN and one.output)


def facts(execution: Execution) -> list[Avu]:
    """The AVUs that name the results that are registered elsewhere: the first thousand."""
    named = execution.record.attributes.named(PLACED)
    sizes = {file.relative: file.size for file in execution.files}
    found = [Avu(named, path, str(sizes[name])) for name, path in sorted(execution.places.items())]
    return found[:_MOST_NAMED]


def there(execution: Execution) -> Iterator[DataObject]:
    """The data objects at such paths whose files are the task's own."""
    tes = execution.task.tes
    directory = workspace.task_directory(execution.context.resource, execution.record.collection)
    for one in tes.placed if tes else ():
        for data_object in at(execution, one):
            if any(replica.physical_path.startswith(f"{directory}/") for replica in data_object.replicas):
                yield data_object


def annotated(execution: Execution) -> Iterator[DataObject]:
    """The data objects at such paths that bear the task's id, also if none of their replicas is here any more."""
    tes, named = execution.task.tes, execution.record.attributes.named("task_id")
    for one in tes.placed if tes else ():
        for data_object in at(execution, one):
            avus = execution.record.catalog.avus(Entity(EntityKind.DATA_OBJECT, data_object.logical_path), named)
            if any(avu.value == execution.record.task_id for avu in avus):
                yield data_object


def at(execution: Execution, one: Placed) -> Iterator[DataObject]:
    """The data objects at or below a place that the request names."""
    catalog = execution.record.catalog
    try:
        if one.kind is PlacedKind.FILE:
            found = catalog.stat(one.logical_path)
            if isinstance(found, DataObject):
                yield found
            return
        for _, _, members in walk(catalog, one.logical_path, execution.most_members):
            yield from members
    except NotFound:
        return


def unregister(execution: Execution) -> None:
    """Unregister the task's results at such paths, and remove collections in which nothing else is."""
    if execution.task.tes is None or not execution.task.tes.placed:
        return
    catalog = execution.record.catalog
    paths = [one.logical_path for one in there(execution)]
    catalog.unregister(paths)
    tops = {one.logical_path for one in execution.task.tes.placed}
    emptied = {path[:end] for path in paths for end, letter in enumerate(path) if letter == "/" and end}
    below = [one for one in emptied if any(one.startswith(f"{top}/") for top in tops)]
    for collection in sorted(below, reverse=True):  # the inner ones first
        try:
            catalog.remove(collection)
        except NotFound:
            continue
        except ZoneError as error:
            if error.code is not Code.CAT_COLLECTION_NOT_EMPTY:
                raise
