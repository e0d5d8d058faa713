"""``c2d ls | share``: what tasks, datasets and workloads hold, and who may read it."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from typing import TYPE_CHECKING

from compute_to_data.cli import zone_words
from compute_to_data.cli.command import Call, Commands
from compute_to_data.cli.exits import ExitCode
from compute_to_data.cli.zone_words import Candidate, completes

if TYPE_CHECKING:
    from compute_to_data.client.browsing import Member
    from compute_to_data.client.kinds import Named

ANY_ID = "the id of a task, dataset or workload, the beginning of one, or a logical path"


def register(commands: Commands) -> None:
    """Add these commands."""
    commands.add(
        "ls",
        _ls,
        "list the files of a task, dataset or workload, with their sizes",
        example="ls 3f2a plots",
        arguments=_ls_arguments,
    )
    commands.add(
        "share",
        _share,
        "let another user read a dataset, task or workload, or show who can",
        example="share d-0123456789ab bob read",
        arguments=_share_arguments,
    )


def _ls_arguments(parser: ArgumentParser) -> None:
    completes(parser.add_argument("given", metavar="ID", help=ANY_ID), zone_words.everything)
    parser.add_argument(
        "path", metavar="PATH", nargs="?", default="", help="a folder or file in it, or a pattern such as '*.csv'"
    )
    parser.add_argument("--recursive", "-r", action="store_true", help="also list what is in its folders")


def _share_arguments(parser: ArgumentParser) -> None:
    completes(parser.add_argument("given", metavar="ID", help=ANY_ID), zone_words.everything)
    parser.add_argument("user", metavar="USER", nargs="?", default="", help="a user or group: NAME or NAME#ZONE")
    access = parser.add_argument(
        "access",
        metavar="ACCESS",
        nargs="?",
        type=_access,
        help="read: they can read it, with all that is added later; none: not any more",
    )
    completes(access, lambda session, beginning: iter([Candidate("read"), Candidate("none")]))


def _access(text: str) -> str:
    if text not in ("read", "none"):
        raise ArgumentTypeError(f"found {text!r}, expected read or none")
    return text


def _ls(call: Call) -> int:
    from compute_to_data.client import browsing
    from compute_to_data.client.naming import named

    options, catalog = call.options, call.session.catalog
    found = named(call.session, options.given)
    members = browsing.members(catalog, found.top, options.path, recursive=options.recursive)
    if call.out.form == "json":
        call.out.result([one.document() for one in members])
        return ExitCode.DONE
    size = "size" if call.out.form == "raw" else "amount"
    columns = {size: "SIZE", "files": "FILES", "modified": "MODIFIED", "name": "NAME"}
    call.out.table([_row(one) for one in members], columns, empty=f"Nothing is in {found}.")
    if members:
        call.out.note(_total(members))
    _note_incomplete(call, found)
    return ExitCode.DONE


def _row(one: Member) -> dict[str, object]:
    from compute_to_data.client.task_status.wording import amount

    return {**one.document(), "amount": amount(one.size), "files": one.files if one.kind == "folder" else ""}


def _total(members: list[Member]) -> str:
    """How many files were listed, or are in listed folders. Either all files of a folder are listed, or none."""
    from compute_to_data.client.task_status.wording import amount, file_count
    from compute_to_data.records.manifest import ancestors

    folders = {one.name for one in members if one.kind == "folder"}
    files = [one for one in members if one.kind == "file"]
    is_nested = any(f"{above}/" in folders for one in files for above in ancestors(one.name))
    counted = files if is_nested else members
    return f"{file_count(sum(one.files for one in counted))}, {amount(sum(one.size for one in counted))}"


def _note_incomplete(call: Call, found: Named) -> None:
    from compute_to_data.client.kinds import Kind
    from compute_to_data.errors import InvalidRequest
    from compute_to_data.records.dataset_content import manifest_of

    if found.kind is not Kind.DATASET:
        return
    try:
        is_complete = manifest_of(call.session.catalog, found.collection) is not None
    except InvalidRequest as error:
        call.out.note(str(error))
        return
    if not is_complete:
        call.out.note(f"{found} is not complete: its upload is under way, or was interrupted")


def _share(call: Call) -> int:
    from compute_to_data.client import sharing

    options = call.options
    if options.user and not options.access:
        options.parser.error(f"say which access {options.user} gets: read or none")
    if options.user:
        readers = sharing.share(call.session, options.given, options.user, options.access)
    else:
        readers = sharing.readers(call.session, options.given)
    columns = {"user": "CAN READ", "kind": "KIND", "access": "ACCESS"}
    call.out.table([vars(one) for one in readers], columns)
    return ExitCode.DONE
