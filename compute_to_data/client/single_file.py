"""One file of a task or a dataset, for a program that wants its content instead of a file in a folder."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, BinaryIO

from compute_to_data.client import results
from compute_to_data.client.results import Result, Tree
from compute_to_data.errors import InvalidRequest, NotFound
from compute_to_data.task import LOG_NAMES

if TYPE_CHECKING:
    from compute_to_data.ports.zone import ClientCatalog


def pass_on(catalog: ClientCatalog, collection: str, paths: Sequence[str], receive: Callable[[BinaryIO], None]) -> None:
    """Give ``receive`` the content of the one file that paths choose, or of a task's only output, after it has
    arrived whole and verified. InvalidRequest when there are several."""
    try:
        result = _the_only(results.tree(catalog, collection), paths)
    except NotFound:
        if list(paths) in ([name] for name in LOG_NAMES):
            return  # a log that the task does not have is empty
        raise
    with tempfile.TemporaryDirectory(prefix="c2d-") as folder:
        file = os.path.join(folder, secrets.token_hex(6))
        result.catalog.get(result.path, file)
        with open(file, "rb") as content:
            receive(content)


def _the_only(tree: Tree, paths: Sequence[str]) -> Result:
    """The one file that paths choose, or the only output of a task. InvalidRequest when there are several."""
    found = tree.chosen(paths).files if paths else results.without_records(tree.files)
    if not found:
        raise NotFound("standard output", "there is no file to write to it")
    if len(found) > 1:
        named = ", ".join([*found][:5]) + (" and more" if len(found) > 5 else "")
        raise InvalidRequest("standard output", f"takes one file, and these were chosen: {named}", "Name one of them")
    return next(iter(found.values()))
