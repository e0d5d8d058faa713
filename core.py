"""What an iRODS server's Python rule engine loads for every connection.

If this file cannot be imported the whole zone stops, so nothing it needs may bring it down: with
a package that is broken, missing or half installed, the rules are still there, say once in the
server log what is wrong, and return an error to whoever calls them.

An administrator with rules of their own adds the `try` block below to their core.py.
"""

__all__ = ["container_dispatch", "container_submit"]

try:
    from compute_to_data.rulebase import container_dispatch, container_submit
except BaseException as _error:  # noqa: BLE001 - SystemExit from a broken module, too, must not stop the zone
    _problem = f"compute_to_data cannot be loaded: {type(_error).__name__}: {_error}"
    _told: "list[bool]" = []

    def container_dispatch(rule_args, callback, rei):  # type: ignore[no-untyped-def]
        """Stands in for the rule of the same name while its package cannot be loaded."""
        if not _told:
            _told.append(True)
            callback.writeLine("serverLog", _problem)
        callback.writeLine("stdout", "compute_to_data is not installed correctly; tell the administrator.")
        return -154000  # SYS_INTERNAL_ERR

    container_submit = container_dispatch
