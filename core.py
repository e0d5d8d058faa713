"""What an iRODS server's Python rule engine loads for every connection.

If this file cannot be imported the whole zone stops, so nothing it needs may bring it down: with
a package that is broken, missing or half installed, the rules are still there, say once in the
server log what is wrong, and return an error to whoever calls them.

An administrator with rules of their own adds the `try` block below to their core.py.
"""

__all__ = ["container_dispatch", "container_submit"]

try:
    from compute_to_data.rulebase import container_dispatch, container_submit
except BaseException as _compute_to_data_error:  # noqa: BLE001 - SystemExit, too, must not stop the zone
    _compute_to_data_problem = (
        f"compute_to_data cannot be loaded: {type(_compute_to_data_error).__name__}: {_compute_to_data_error}"
    )
    _compute_to_data_told: "list[bool]" = []

    def container_dispatch(rule_args, callback, rei):  # type: ignore[no-untyped-def]
        """Stands in for the rule of the same name while its package cannot be loaded."""
        sentence = "compute_to_data is not installed correctly; tell the administrator. (iRODS code -154000)"
        if not _compute_to_data_told:
            _compute_to_data_told.append(True)
            callback.writeLine("serverLog", _compute_to_data_problem)
        callback.writeLine("stdout", sentence)
        try:  # noqa: SIM105 - `irule -r` shows only what msiExit says; it fails with the code, by design
            callback.msiExit("-154000", sentence)
        except (AttributeError, RuntimeError):  # an embedded zone has no msiExit
            pass
        return -154000  # SYS_INTERNAL_ERR

    container_submit = container_dispatch
