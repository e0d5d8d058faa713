"""The rules this package gives to a zone. ``__all__`` is the whole list.

Whatever is an attribute of ``core`` is a rule that any user may call, so ``core.py`` takes these
names and no others.
"""

from __future__ import annotations

from compute_to_data.rule import rule

__all__ = ["container_dispatch", "container_submit"]


@rule
def container_dispatch(site, command, configuration_object, resource, output_locator, task_id):  # type: ignore[no-untyped-def]
    """Run a task and wait for its end.

    ``command`` is ``containers.run``; ``configuration_object`` the logical path of a task in our
    own or the 2019 training module's format; ``resource`` the compute resource (empty: the
    task's own, or chosen by role); ``output_locator`` a collection that stands above the task's
    output collection (empty: the task's own); ``task_id`` empty for a new one.

    Returns 0 when the task COMPLETED, else the iRODS code of the failure. In a delayed rule it
    does not wait, as ``container_submit``: a delay executor is never held.
    """
    from compute_to_data.agent import dispatch

    return dispatch.run(site, command, configuration_object, resource, output_locator, task_id)


@rule
def container_submit(site, command, configuration_object, resource, output_locator, task_id):  # type: ignore[no-untyped-def]
    """Queue a task and return at once.

    Arguments as for ``container_dispatch``; a string variable as ``task_id`` holds the task's id
    afterwards. Returns 0 when the task is queued, else the iRODS code of the refusal.
    """
    from compute_to_data.agent import dispatch

    return dispatch.submit(site, command, configuration_object, resource, output_locator, task_id)
