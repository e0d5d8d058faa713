"""What stands behind a rule once it is called: its site, and errors turned into codes."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from compute_to_data.configuration import Configuration
from compute_to_data.errors import Code, ComputeToDataError, InvalidRequest, zone_error
from compute_to_data.ports import Catalog

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Site:
    """What a rule works with: the calling user's session, the configuration, the user's ear."""

    catalog: Catalog
    configuration: Configuration
    tell: Callable[[str], None]


def call(function: Callable[..., int], rule_args: list[str], callback: Any, rei: Any) -> int:
    """Call the function behind a rule. Returns 0, or a negative iRODS code after telling why."""

    def tell(text: str) -> None:
        callback.writeLine("stdout", text)

    try:
        _check_arguments(function, rule_args)
        return function(site_of(rei, tell), *rule_args)
    except ComputeToDataError as error:
        tell(f"{function.__name__}: {error}")
        return int(error.code)
    except Exception as error:  # noqa: BLE001 - the boundary: the engine would only say -1828000
        callback.writeLine("serverLog", f"{function.__name__}: {type(error).__name__}: {error}")
        tell(f"{function.__name__}: internal error, see the server's log ({type(error).__name__})")
        return int(Code.SYS_INTERNAL_ERR)


def _check_arguments(function: Callable[..., int], rule_args: list[str]) -> None:
    names = list(inspect.signature(function).parameters)[1:]
    if len(rule_args) != len(names) or not all(isinstance(one, str) for one in rule_args):
        raise InvalidRequest(
            function.__name__,
            f"found {len(rule_args)} arguments, expected {len(names)} strings",
            f"Call it as {function.__name__}({', '.join(names)})",
        )


def site_of(rei: Any, tell: Callable[[str], None]) -> Site:
    """The zone that a rule was called in. The embedded zone's ``rei`` brings its own; the real
    one is a struct of the rule engine plugin, whose adapter is not built yet."""
    attach = getattr(rei, "compute_to_data_session", None)
    if attach is None:
        raise zone_error(
            Code.SYS_NOT_SUPPORTED,
            "compute_to_data",
            "this version works with the embedded zone only",
            "Remove its line from core.py until a version for iRODS servers is installed",
        )
    catalog, configuration = attach()
    return Site(catalog, configuration, tell)
