"""Chooses among a resource's roles for a request that names none.

The request and the site's configuration decide. This module does not load the roles' classes: they
may be installed only where the worker runs, and an agent imports the standard library only. A table
says what the product's own classes run. A site's own class may run any request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum

from compute_to_data.configuration import RoleSettings
from compute_to_data.task import Notebook, Task

RECEIVER = "LONG_TERM_STORAGE"
"""The role that runs nothing: a resource with this role receives results."""


FILTER_NOTEBOOK = "lpfilter.ipynb"
"""The own notebook of SIGNAL_PROCESSING, unless its settings name another one."""


class Asked(Enum):
    """The kind of program that a request asks for, in words."""

    COMMANDS = "the request's own commands"
    NOTEBOOK = "the request's notebook"
    DEFAULT = "a request that has neither a process nor a notebook"


RUNS: Mapping[str, frozenset[Asked]] = {
    "compute_to_data.roles.container:Container": frozenset({Asked.COMMANDS}),
    "compute_to_data.roles.image_processing:ImageProcessing": frozenset({Asked.COMMANDS, Asked.DEFAULT}),
    "compute_to_data.roles.notebook:NotebookRole": frozenset(Asked),
    "compute_to_data.roles.signal_processing:SignalProcessing": frozenset(Asked),
}
"""The kinds of requests that each of the product's classes runs."""

_OWN_NOTEBOOKS = {"compute_to_data.roles.signal_processing:SignalProcessing": FILTER_NOTEBOOK}


def asked_by(task: Task) -> Asked:
    """The kind of program that the request asks for."""
    if task.process is not None or task.tes is not None:
        return Asked.COMMANDS
    return Asked.DEFAULT if task.notebook is None else Asked.NOTEBOOK


def candidates(roles: Mapping[str, RoleSettings], task: Task) -> list[str]:
    """The sorted names of the roles that could run the request.

    One name is the answer. With several names the request is ambiguous; with none, no role can run
    it. The function prefers, in this order: for commands, roles that run nothing else; roles whose
    own image and notebook the request names; roles whose settings are complete.
    """
    asked = asked_by(task)
    able = {name: role for name, role in roles.items() if name != RECEIVER and asked in _runs(role)}
    if asked is Asked.COMMANDS:
        able = _narrowed(able, lambda role: _runs(role) == {Asked.COMMANDS})
    notebook = task.notebook or Notebook()
    image = task.process.image if task.process else notebook.image
    if image:
        able = _narrowed(able, lambda role: role.settings.get("image") == image)
    if notebook.name:
        able = _narrowed(able, lambda role: role.settings.get("notebook") == notebook.name)
    if asked is not Asked.COMMANDS and all(role.implementation in RUNS for role in able.values()):
        able = _narrowed(able, lambda role: _is_complete(role, notebook))
    return sorted(able)


def _runs(role: RoleSettings) -> frozenset[Asked]:
    return RUNS.get(role.implementation, frozenset(Asked))


def _narrowed(roles: dict[str, RoleSettings], fits: Callable[[RoleSettings], bool]) -> dict[str, RoleSettings]:
    """The roles that fit, or all of them when none fits."""
    return {name: role for name, role in roles.items() if fits(role)} or roles


def _is_complete(role: RoleSettings, asked: Notebook) -> bool:
    """Whether the request and the settings together name everything that the role's program needs.

    Without the defaults of :data:`_OWN_NOTEBOOKS`: clients that know no settings must not prefer a role for them.
    """
    needs_notebook = Asked.NOTEBOOK in _runs(role)
    has_notebook = asked.name or asked.data_object or role.settings.get("notebook")
    return bool((asked.image or role.settings.get("image")) and (has_notebook or not needs_notebook))


def lacking(role: RoleSettings, asked: Notebook | None = None) -> tuple[str, ...]:
    """The settings that one of the product's own roles lacks for a request with this notebook, which may be {}:
    ``image``, ``notebook``. () for a role that is ready, that runs commands only, or that is a site's own."""
    asked, runs = asked or Notebook(), RUNS.get(role.implementation, frozenset())
    missing = []
    if Asked.DEFAULT in runs and not (asked.image or role.settings.get("image")):
        missing.append("image")
    if Asked.NOTEBOOK in runs and not (asked.name or asked.data_object or _own_notebook(role)):
        missing.append("notebook")
    return tuple(missing)


def _own_notebook(role: RoleSettings) -> str:
    return str(role.settings.get("notebook") or _OWN_NOTEBOOKS.get(role.implementation, ""))
