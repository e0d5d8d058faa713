"""Call the function behind a rule: give it its site, and turn errors into iRODS codes."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from compute_to_data import site_file, this_host
from compute_to_data.configuration import Configuration
from compute_to_data.errors import Code, ComputeToDataError, InvalidRequest
from compute_to_data.plain_text import one_line
from compute_to_data.ports.zone import Catalog

_LONGEST_MESSAGE = 900
"""Characters; iRODS cuts messages of its error stack at 1,024 bytes."""
_DELAY_SERVER = "irodsDelayServer"


@dataclass(frozen=True)
class Site:
    """What a rule works with.

    ``catalog`` is the calling user's session. ``tell`` writes a line to the caller.
    ``hand_back(name, value)`` returns a value to the caller through the argument of that name.
    ``log`` writes to the server's log. ``delayed``: the rule runs in one of the zone's few delay
    executors, where no client reads its output. ``hosts``: the names of this server.
    ``abandoned()``: whether the client has disconnected. ``by_service``: a worker's own operation
    triggered the rule. ``run_there(host, text)`` runs text in the rule language on another server.
    """

    catalog: Catalog
    configuration: Configuration
    tell: Callable[[str], None]
    hand_back: Callable[[str, str], None]
    log: Callable[[str], None]
    delayed: bool = False
    hosts: frozenset[str] = frozenset({"localhost"})
    abandoned: Callable[[], bool] = lambda: False
    by_service: bool = False
    run_there: Callable[[str, str], None] = lambda host, text: None


def call(function: Callable[..., int], rule_args: list[str], callback: Any, rei: Any) -> int:
    """Call the function behind a rule. Returns 0, or a negative iRODS code after telling the caller why."""
    told = [""]

    def tell(text: str) -> None:
        told.append(sendable(text))
        callback.writeLine("stdout", told[-1])

    def hand_back(name: str, value: str) -> None:
        rule_args[_parameters(function).index(name)] = value

    try:
        _check_arguments(function, rule_args)
        code = function(site_of(callback, rei, tell, hand_back), *rule_args)
    except ComputeToDataError as error:
        code = int(error.code)
        tell(with_code(f"{function.__name__}: {error}", code))
    except Exception as error:  # noqa: BLE001 - the boundary: the rule engine would report only -1828000
        code = int(Code.SYS_INTERNAL_ERR)
        callback.writeLine("serverLog", sendable(f"{function.__name__}: {type(error).__name__}: {error}"))
        tell(f"{function.__name__}: internal error ({type(error).__name__}). The server's log has the details")
    if code < 0:
        _leave(callback, code, told[-1])
    return code


def with_code(text: str, code: int) -> str:
    """A sentence with its code, because ``irule`` shows either what a rule wrote or its code, not both."""
    return f"{text} (iRODS code {code})"


def sendable(text: str) -> str:
    """Text that the plugin can pass to the server, UTF-8 without NUL, and that is harmless in a terminal and in a log.
    Users' text may break each of these rules, and an error while reporting an error would reach the rule engine."""
    return one_line(text)


def _leave(callback: Any, code: int, text: str) -> None:
    """Put the reason on the client's error stack, too. ``irule -r <engine>`` drops what a failing rule
    wrote to stdout. Without ``-r``, irule shows that text and drops the code."""
    explain = getattr(callback, "msiExit", None)  # an embedded zone's callback has no msiExit
    if explain is not None:
        with contextlib.suppress(RuntimeError):  # msiExit always fails with the given code
            explain(str(code), text[:_LONGEST_MESSAGE])


def _parameters(function: Callable[..., int]) -> list[str]:
    return list(inspect.signature(function).parameters)[1:]


def _check_arguments(function: Callable[..., int], rule_args: list[str]) -> None:
    names = _parameters(function)
    if len(rule_args) != len(names) or not all(isinstance(one, str) for one in rule_args):
        raise InvalidRequest(
            "arguments",
            f"found {len(rule_args)}, expected {len(names)} strings",
            f"Call it as {function.__name__}({', '.join(names)})",
        )


def site_of(callback: Any, rei: Any, tell: Callable[[str], None], hand_back: Callable[[str, str], None]) -> Site:
    """The site of the zone in which a rule was called. An embedded zone's ``rei`` brings its session.
    A real ``rei`` is a struct of the rule engine plugin; there everything goes through ``callback``.

    ZoneError (SYS_NOT_SUPPORTED) in any other process; ConfigurationError when the site's file is wrong.
    """

    def log(text: str) -> None:
        callback.writeLine("serverLog", sendable(f"compute_to_data: {text}"))

    attach = getattr(rei, "compute_to_data_session", None)
    if attach is not None:
        catalog, configuration = attach()
        return Site(catalog, configuration, tell, hand_back, log)
    from compute_to_data.zones.rule_engine import Agent, AgentCatalog

    agent = Agent(callback, rei)
    configuration = site_file.load(site_file.path())
    delayed = agent.client_program == _DELAY_SERVER
    hosts = this_host.names()
    catalog = AgentCatalog(agent)
    return Site(
        catalog,
        configuration,
        tell,
        hand_back,
        log,
        delayed,
        hosts,
        abandoned=agent.client_is_gone,
        by_service=agent.by_service,
        run_there=agent.run_there,
    )
