"""The rule boundary: an iRODS rule around a plain function.

A rule gets ``(rule_args, callback, rei)``, all arguments strings. What the wrapped function
raises becomes one sentence on the client's ``stdout`` and the error's iRODS code as the rule's
return value; nothing is ever raised into the engine, which would turn it into a bare -1828000
with an empty message. Nothing is imported here until a rule is called: every agent of the zone
loads this module.
"""

from __future__ import annotations

_SENTENCE = "compute_to_data is not installed correctly; tell the administrator. (iRODS code -154000)"
_told: list[BaseException] = []  # an agent says once in the server log what is wrong


def rule(function):  # type: ignore[no-untyped-def]  # typing would cost an import in every agent
    """Make ``function(site, *strings) -> int`` a rule of as many string arguments."""

    def wrapped(rule_args, callback, rei):  # type: ignore[no-untyped-def]
        try:
            from compute_to_data.agent import boundary
        except BaseException as error:  # noqa: BLE001 - a half-installed package must not raise into the engine
            if not _told:
                _told.append(error)
                callback.writeLine("serverLog", f"compute_to_data cannot be loaded: {type(error).__name__}: {error}")
            callback.writeLine("stdout", _SENTENCE)
            try:  # noqa: SIM105 - no imports; `irule -r` shows only what msiExit says, and it fails by design
                callback.msiExit("-154000", _SENTENCE)
            except (AttributeError, RuntimeError):  # an embedded zone has no msiExit
                pass
            return -154000  # SYS_INTERNAL_ERR, as in core.py
        return boundary.call(function, rule_args, callback, rei)

    wrapped.__name__ = function.__name__
    wrapped.__doc__ = function.__doc__
    return wrapped
