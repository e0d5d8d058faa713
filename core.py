"""An iRODS server's Python rule engine loads this file for every connection.

If it cannot be imported, the whole zone stops. So it must load even when the package is broken,
missing or half installed. Then the rules still exist, log the reason once in the server log, and
return an error to their callers.

An administrator who has rules of their own adds the `try` block below to their core.py.
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
        """Replaces the rule of the same name while the package cannot be loaded."""
        sentence = "compute_to_data is not installed correctly; tell the administrator. (iRODS code -154000)"
        if not _compute_to_data_told:
            _compute_to_data_told.append(True)
            callback.writeLine("serverLog", _compute_to_data_problem)
        callback.writeLine("stdout", sentence)
        try:  # noqa: SIM105 - `irule -r` shows only the message of msiExit, which always fails
            callback.msiExit("-154000", sentence)
        except (AttributeError, RuntimeError):  # an embedded zone has no msiExit
            pass
        return -154000  # SYS_INTERNAL_ERR

    container_submit = container_dispatch
