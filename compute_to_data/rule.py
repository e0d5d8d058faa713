"""The rule boundary: it makes an iRODS rule from a plain function.

A rule gets ``(rule_args, callback, rei)``; all arguments are strings. When the function raises, the
client gets one sentence on ``stdout``, and the rule returns the error's iRODS code. An exception must
never reach the rule engine, which would report only -1828000 with an empty message. This module
imports nothing until a rule is called, because every agent of the zone loads it.
"""

from __future__ import annotations

_SENTENCE = "compute_to_data is not installed correctly; tell the administrator. (iRODS code -154000)"
_logged: list[BaseException] = []  # an agent logs the error only once


def rule(function):  # type: ignore[no-untyped-def]  # typing would cost an import in every agent
    """Make ``function(site, *strings) -> int`` a rule with the same number of string arguments."""

    def wrapped(rule_args, callback, rei):  # type: ignore[no-untyped-def]
        try:
            from compute_to_data.agent import boundary
        except BaseException as error:  # noqa: BLE001 - a half-installed package must not raise into the engine
            if not _logged:
                _logged.append(error)
                callback.writeLine("serverLog", f"compute_to_data cannot be loaded: {type(error).__name__}: {error}")
            callback.writeLine("stdout", _SENTENCE)
            try:  # noqa: SIM105 - no imports; `irule -r` shows only the message of msiExit, which always fails
                callback.msiExit("-154000", _SENTENCE)
            except (AttributeError, RuntimeError):  # an embedded zone has no msiExit
                pass
            return -154000  # SYS_INTERNAL_ERR, as in core.py
        return boundary.call(function, rule_args, callback, rei)

    wrapped.__name__ = function.__name__
    wrapped.__doc__ = function.__doc__
    return wrapped
