"""Checks a person's requests, before anything of them is recorded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compute_to_data.client import notebook_parameters
from compute_to_data.client.given import Given, several
from compute_to_data.errors import ComputeToDataError, InvalidRequest
from compute_to_data.submission import submit

if TYPE_CHECKING:
    from compute_to_data.client.workbench import Workbench


def accepted(
    workbench: Workbench,
    document: Any,
    *,
    resource: str = "",
    output_collection: str = "",
    image: str = "",
    task_id: str = "",
    after: Given | Sequence[Given] | None = (),
    reuse: bool = False,
    priority: int | None = None,
    coming: Collection[str] = (),
) -> submit.Accepted:
    """Check a request, and choose where it will run. For the arguments see :meth:`Session.submit`; ``coming``: the
    logical paths of inputs that are not uploaded yet."""
    names_own = isinstance(document, Mapping) and ("output_collection" in document or "external" in document)
    if not names_own and not output_collection:
        output_collection = workbench.results
        workbench.catalog.create_collection(output_collection, parents=True)
    found = submit.accept(
        workbench.catalog,
        workbench.configuration,
        document,
        resource=resource,
        output_collection=output_collection,
        image=image,
        task_id=task_id,
        after=several(after or (), "after"),
        reuse_earlier=reuse,
        priority=priority,
        ask_images=workbench.held_images,
        project=workbench.named_project,
        coming=coming,
    )
    notebook_parameters.check(workbench, found.task)
    return found


def check(workbench: Workbench, document: Any, coming: Collection[str], **options: Any) -> None:
    """Check a request before its inputs at the logical paths ``coming`` are uploaded, so that no upload is in vain.
    Raises what submitting it would raise. For ``options`` see :meth:`Session.submit`."""
    accepted(workbench, document, coming=coming, **options)


def all_accepted(
    workbench: Workbench, documents: Sequence[tuple[str, Callable[[], Any]]], **options: Any
) -> list[submit.Accepted]:
    """Check several requests. ``documents``: the name of each request's file, and a function that reads it. When one is
    refused, the error names each file that is wrong."""
    passed, errors = [], []
    for name, read in documents:
        try:
            passed.append(accepted(workbench, read(), **options))
        except ComputeToDataError as error:
            errors.append((name, error))
    if errors:
        raise _together(errors, len(documents))
    return passed


def _together(errors: Sequence[tuple[str, ComputeToDataError]], total: int) -> ComputeToDataError:
    """One error for the files that are wrong, of the class of the first."""
    first = errors[0][1]
    if total == 1:
        return first
    kind = InvalidRequest if isinstance(first, InvalidRequest) else type(first)
    listed = "\n".join(f"{name}: {error}" for name, error in errors)
    return kind(f"{len(errors)} of {total} files", f"cannot be submitted, so none was\n{listed}", code=first.code)
