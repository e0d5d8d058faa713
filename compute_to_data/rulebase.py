"""The rules that this package adds to a zone. ``__all__`` lists them all.

Every attribute of ``core`` is a rule that any user may call, so ``core.py`` imports only these names.
"""

from __future__ import annotations

from compute_to_data.rule import rule

__all__ = ["container_dispatch", "container_submit"]


@rule
def container_dispatch(site, command, configuration_object, resource, output_locator, task_id):  # type: ignore[no-untyped-def]
    """Run a task and wait for its end.

    ``command`` is ``containers.run``. ``configuration_object`` is the logical path of a task in our
    format or in that of the 2019 training module. ``resource`` is the compute resource (empty: the
    task names it, or its role decides). ``output_locator`` is a collection that overrides the task's
    output collection (empty: the task's own). ``task_id`` is the new task's id (empty: we make one).

    Returns 0 when the task COMPLETED, else the iRODS code of the failure. In a delayed rule it does
    not wait, like ``container_submit``, so that it does not occupy a delay executor.
    """
    from compute_to_data.agent import dispatch

    return dispatch.run(site, command, configuration_object, resource, output_locator, task_id)


@rule
def container_submit(site, command, configuration_object, resource, output_locator, task_id):  # type: ignore[no-untyped-def]
    """Queue a task and return at once.

    The arguments are those of ``container_dispatch``. When ``task_id`` is a string variable, it holds
    the task's id afterwards. Returns 0 when the task is queued, else the iRODS code of the refusal.
    """
    from compute_to_data.agent import dispatch

    return dispatch.submit(site, command, configuration_object, resource, output_locator, task_id)
