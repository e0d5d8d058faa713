"""``c2d project``: the collection that a person works in. The session file remembers it."""

from __future__ import annotations

from argparse import ArgumentParser

from compute_to_data.cli import zone_words
from compute_to_data.cli.command import Call, Commands
from compute_to_data.cli.zone_words import completes


def register(commands: Commands) -> None:
    """Add this noun's commands."""
    project = commands.group("project", "choose the collection that you work in")
    project.add("list", _list, "list your collections that can be a project", example="list")
    project.add("set", _set, "work in this collection from now on", example="set notebooks", arguments=_collection)
    project.add("show", _show, "show the current project, and where results go", example="show")


def _collection(parser: ArgumentParser) -> None:
    collection = parser.add_argument("collection", help="a logical path, absolute or below home; '' for no project")
    collection.may_be_empty = True  # type: ignore[attr-defined]
    completes(collection, zone_words.projects)


def _list(call: Call) -> int:
    from compute_to_data.model import Collection

    session = call.session
    current = session.project
    found = [one for one in session.catalog.children(session.home) if isinstance(one, Collection)]
    rows = [{"project": one.logical_path, "current": one.logical_path == current} for one in found]
    shown = [{**row, "mark": "*" if row["current"] else ""} for row in rows]
    if call.out.form == "json":
        call.out.result(rows)
    else:
        call.out.table(shown, {"project": "PROJECT", "mark": "CURRENT"}, empty=f"No collections in {session.home} yet.")
    return 0


def _set(call: Call) -> int:
    chosen = call.session.use_project(call.options.collection)
    call.out.result({"project": chosen}, chosen)
    return 0


def _show(call: Call) -> int:
    session = call.session
    document = {"project": session.project, "results": session.results}
    call.out.facts(document, list(document.items()))
    return 0
