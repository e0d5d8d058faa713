"""Private names of python-irodsclient and docker-py that we use: a new release may drop them.

Looked for where one can stand: in the package, and in what tests have in common.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
ADAPTERS = ("compute_to_data/engines/docker", "compute_to_data/zones/irods")
FOLDERS = ("compute_to_data", "tests/contract", "tests/support")
LIBRARIES = ("docker", "irods")


@dataclass(frozen=True)
class PrivateName:
    """A name that a library keeps for itself: the object that has it, who uses it, and what for."""

    module: str
    holder: str
    name: str
    user: str
    purpose: str

    def __str__(self) -> str:
        return ".".join(filter(None, (self.module, self.holder, self.name)))


NAMES = [
    PrivateName(
        "docker.transport.unixconn",
        "UnixHTTPConnectionPool",
        "_new_conn",
        "engines/docker/connection.py",
        "connections that close their socket when no daemon listens",
    ),
    PrivateName("irods.message", "", "_OrderedMultiMapping", "zones/irods/query.py", "two conditions on one column"),
    PrivateName("irods.message", "StartupPack", "_name", "zones/irods/registration.py", "a message of ours"),
    PrivateName(
        "irods.connection",
        "Connection",
        "_connect",
        "zones/irods/connections.py",
        "noticing a server that requires TLS",
    ),
    PrivateName(
        "irods.account",
        "iRODSAccount",
        "_original_authentication_scheme",
        "zones/irods/entrance.py",
        "the authentication scheme of a person's account",
    ),
]


@pytest.mark.parametrize("private", NAMES, ids=str)
def test_the_library_still_has_it(private: PrivateName) -> None:
    found = importlib.import_module(private.module)
    holder = getattr(found, private.holder) if private.holder else found
    is_set = isinstance(holder, type) and f"self.{private.name} = " in inspect.getsource(holder)  # in its objects
    assert hasattr(holder, private.name) or is_set, (
        f"this release has no {private} any more: {private.user} uses it for {private.purpose}. "
        "Find another way there, or exclude the release in pyproject.toml and tests/requirements.txt"
    )


def test_every_one_that_we_use_is_listed() -> None:
    known = {private.name for private in NAMES}
    missing = [use for use in uses() if use.name not in known]
    assert not missing, f"not in the list of private names above: {[str(use) for use in missing]}"


def test_every_one_that_is_listed_is_used() -> None:
    assert {private.name for private in NAMES} <= {use.name for use in uses()}


@dataclass(frozen=True)
class Use:
    """Where a private name of a library stands in our sources."""

    file: str
    line: int
    name: str


@functools.cache
def uses() -> tuple[Use, ...]:
    """Private names that are imported from a library, overridden in a class derived from one of its
    classes, or looked up on an object and defined nowhere in our own sources."""
    files = [file for folder in FOLDERS for file in (CHECKOUT / folder).rglob("*.py")]
    trees = {file.relative_to(CHECKOUT).as_posix(): ast.parse(file.read_text(encoding="utf-8")) for file in files}
    own = {name for tree in trees.values() for name in defined(tree)}
    used: list[Use] = []
    for file, tree in trees.items():
        imported = dict(imports(tree))
        if not imported and not file.startswith(ADAPTERS):
            continue
        found = [(line, name) for name, line in imported.items()]
        found += overridden(tree, imported)
        found += [(node.lineno, node.attr) for node in ast.walk(tree)
                  if isinstance(node, ast.Attribute) and node.attr not in own]  # fmt: skip
        used += [Use(file, line, name) for line, name in found if is_private(name)]
    return tuple(used)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def defined(tree: ast.Module) -> Iterator[str]:
    """What a module defines outside classes that it derives from a library's: functions, classes,
    variables, attributes of self."""
    derived = {id(node) for one in derived_classes(tree, dict(imports(tree))) for node in ast.walk(one)}
    for node in ast.walk(tree):
        if id(node) in derived:
            continue
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            yield node.attr


def imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """What a module imports from the libraries, and where."""
    for node in ast.walk(tree):
        names = node.names if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        origin = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
        for name in names:
            if (origin or name.name).split(".")[0] in LIBRARIES:
                yield name.name, node.lineno


def derived_classes(tree: ast.Module, imported: dict[str, int]) -> Iterator[ast.ClassDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base) in imported for base in node.bases):
            yield node


def overridden(tree: ast.Module, imported: dict[str, int]) -> Iterator[tuple[int, str]]:
    """What classes derived from a library's define."""
    for one in derived_classes(tree, imported):
        for node in one.body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            yield from ((node.lineno, target.id) for target in targets if isinstance(target, ast.Name))
            if isinstance(node, ast.FunctionDef):
                yield node.lineno, node.name
