"""The bounds on what staging brings to a compute resource, checked before it brings anything.

``limits.input_bytes`` bounds what one task brings. The vault must have room for it besides its reserve, and so must the
quotas of the inputs' owners: a zone counts each replica for the owner of the data object.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from compute_to_data.errors import Refused
from compute_to_data.model import DataObject, User, lineage
from compute_to_data.pipeline.execution import Execution
from compute_to_data.pipeline.vault.vault_room import VaultRoom


@contextmanager
def room_for(execution: Execution, inputs: Iterable[DataObject]) -> Iterator[None]:
    """Keep room in the vault for those inputs that have no good replica there, in this context.

    Refused when the task may not bring as much. Errors as for ``Arriving.promised``.
    """
    context, brought = execution.context, execution.checkpoint.staged
    here = context.resource.name
    known = {one.logical_path: one for one in inputs}.values()
    missing = [one for one in known if one.good_replica_on(here) is None]
    counted = [one for one in known if one in missing or one.logical_path in brought]
    if missing:
        _need_within_limit(execution, counted)
        _need_quota(execution, missing)
    size = sum(one.size for one in missing if not context.transfers.is_going(one.logical_path))
    room = VaultRoom(context.resource, context.configuration.worker.vault_reserve_bytes)
    with context.in_use.arriving.promised(execution.record.collection, size, room):
        yield


def _need_within_limit(execution: Execution, counted: Sequence[DataObject]) -> None:
    context, size = execution.context, execution.fetched_bytes + sum(one.size for one in counted)
    most = context.configuration.effective_limits(execution.task.limits, None).input_bytes
    if size > most:
        raise Refused(
            "inputs",
            f"{len(counted)} of them must be replicated to {context.resource.name} and have {size} bytes together"
            f"{', with what was fetched from URLs' if execution.fetched_bytes else ''}, "
            f"but the task may bring at most {most} bytes there",
            "Ask for more in limits.input_bytes, use fewer inputs, or a resource that holds them already",
        )


def _need_quota(execution: Execution, missing: Iterable[DataObject]) -> None:
    """Refused when a quota of an owner of these data objects has no room for their replicas."""
    context, sizes = execution.context, Counter[User]()
    for one in missing:
        sizes[one.owner] += one.size
    line = [one.name for one in lineage(context.resource, context.catalog.resources())]
    for owner, size in sizes.items():
        left = context.storage.quota_left(owner, line)
        if left is not None and size > left:
            raise Refused(
                f"the quota of user {owner}",
                f"has room for {max(0, left)} bytes on {line[-1]}, and the inputs to replicate there have {size} bytes",
                "Remove what is not needed, ask an administrator for more, or use a resource that holds the inputs",
            )
