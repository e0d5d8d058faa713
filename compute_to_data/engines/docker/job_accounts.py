"""Chooses the account of each container, and lets it use the job's files.

Only the daemon knows which ids are in use: a container keeps its own, as its user, until it is removed. So nothing is
lost when the worker is killed. First a container is made with the ids and their label, then the worker looks whether
another one has the same. Of two that meet, both give way. What the job's account may use is given to it between the
container's creation and its start, and taken back before its removal.
"""

from __future__ import annotations

import grp
import logging
import pwd
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from docker.errors import NotFound

from compute_to_data.engines import access_lists, guard_client, job_ids, ownership
from compute_to_data.engines.docker.client import Client
from compute_to_data.engines.job_ids import Account, JobIds
from compute_to_data.engines.output_quotas import OutputQuotas
from compute_to_data.errors import EngineOutOfReach
from compute_to_data.job import Job

log = logging.getLogger(__name__)

UID_LABEL = "compute_to_data.uid"
_FEW = 1024
"""In a smaller range, ids are chosen among those that are free: two at random could often be the same."""
_TRIES = 100


class AccountTaken(EngineOutOfReach):
    """Another container got the same ids in the same moment. The one that was to have them is gone: choose others."""


class JobAccounts:
    """The accounts of one engine's containers. Threads may share it."""

    def __init__(
        self,
        docker: Callable[[], Client],
        setting: str | None,
        owner: Account,
        seen: Callable[[Account], Account] = lambda account: account,
        *,
        have_quotas: bool = False,
    ) -> None:
        """``setting``: the engine's ``job_uids``. ``owner``: to whom outputs belong in the end, and the account of all
        jobs if they share one. ``seen``: the numbers that a job sees as its own, for an account of the host.
        ``have_quotas``: whether outputs have a project quota."""
        self.seen = seen
        self._docker = docker
        self._have_quotas = have_quotas
        self._setting = setting
        self._owner = owner
        self._ids: JobIds | None = None
        self._given: dict[str, tuple[int, list[str]]] = {}
        """The uid of each container that this process made, and what it may read. For others, the daemon knows it."""

    @property
    def owner(self) -> Account:
        """The account to which outputs belong in the end."""
        return self._owner

    def ids(self) -> JobIds | None:
        """The ids of jobs; None when they share an account. EngineError when the worker's account has none."""
        if self._ids is None:
            self._ids = job_ids.of_setting(self._setting)
        return self._ids

    def quotas(self) -> OutputQuotas | None:
        """The project quotas of outputs; None without. EngineError as :meth:`ids`."""
        ids = self.ids() if self._have_quotas else None
        return None if ids is None else OutputQuotas(ids)

    def choose(self) -> Account:
        """An account for a new container, which no other one had a moment ago."""
        ids = self.ids()
        if ids is None:
            return self._owner
        taken = self._taken() if ids.count < _FEW else frozenset()
        free = range(ids.count) if not taken else [one for one in range(ids.count) if ids.account(one)[0] not in taken]
        for _ in range(_TRIES if free else 0):
            account = ids.account(random.choice(free))
            if not _is_real(account):
                return account
        raise EngineOutOfReach("the user ids of jobs", f"all {ids.count} are in use")

    def _taken(self) -> frozenset[int]:
        found = self._docker().containers(all=True, filters={"label": UID_LABEL})
        return frozenset(int(one["Labels"][UID_LABEL]) for one in found if one["Labels"][UID_LABEL].isdecimal())

    def mark(self, body: dict[str, Any]) -> None:
        """Label a container with its uid, before it is made."""
        if self.ids() is not None:
            body["Labels"][UID_LABEL] = body["User"].partition(":")[0]

    def hand_over(self, container: str, body: Mapping[str, Any], inputs: Iterable[str], job: Job | None = None) -> None:
        """Let the account of a container that was made and not started read ``inputs`` and own its outputs. ``body``:
        the request that made it. ``job``: the only one of the container.

        AccountTaken when another container has the same uid: then this one must be removed. EngineError when a file
        cannot be given, or the outputs' file system has no project quotas.
        """
        uid, gid = map(int, body["User"].split(":"))
        if self.ids() is None:
            self._given[container] = uid, []
            return
        same = self._docker().containers(all=True, filters={"label": f"{UID_LABEL}={uid}"})
        if len(same) != 1:
            raise AccountTaken("the user ids of jobs", f"another job has the uid {uid}")
        mounts = body["HostConfig"]["Mounts"]
        self._given[container] = uid, _sources(mounts, read_only=True)
        quotas = self.quotas()
        if quotas is not None and job is not None:
            quotas.hold(job.outputs, uid, job.limits.output_bytes, 2 * job.limits.output_files)
        for source in reversed(_sources(mounts, read_only=False)):  # the worker cannot look below what it has given
            ownership.hand_on(source, self._owner, (uid, gid))
            ownership.give(source, (uid, gid))
        self.allow(inputs, uid)

    def keep(self, user: str, job: Job) -> None:
        """Let the guard hold the limits of a job's outputs when the worker has ended. ``user``: the container's."""
        if self.ids() is not None:
            uid, gid = map(int, user.split(":"))
            limits = job.limits
            guard_client.keep(job.key.text, job.outputs, (uid, gid), limits.output_bytes, 2 * limits.output_files)

    def allow(self, sources: Iterable[str], uid: int) -> None:
        """Let ``uid`` read files, and directories with all that they hold. EngineError when that fails."""
        if self.ids() is not None:
            for source in sources:
                access_lists.allow(source, uid)

    def withdraw(self, container: str) -> None:
        """Let the account of a container no longer read its inputs. Does nothing when there is no such container."""
        given = self._given.pop(container, None) or self._given_before(container)
        if given is not None:
            self.forbid(given[1], given[0])

    def _given_before(self, container: str) -> tuple[int, list[str]] | None:
        """The uid of a container that another process made, and what it may read; None for nothing to undo."""
        try:
            found = self._docker().inspect_container(container)
        except NotFound:
            return None
        uid = found["Config"]["User"].partition(":")[0]
        if UID_LABEL not in found["Config"]["Labels"] or not uid.isdecimal():
            return None
        return int(uid), _sources(found["HostConfig"].get("Mounts") or (), read_only=True)

    def forbid(self, sources: Iterable[str], uid: int) -> None:
        """Let ``uid`` no longer read files."""
        for source in sources:
            try:
                access_lists.withdraw(source, uid)
            except OSError as error:  # nobody has this uid any more; removing the job is more important
                log.warning("%s: uid %s stays in its access list: %s", source, uid, error.strerror)

    def take_back(self, outputs: str) -> None:
        """As the port says."""
        ids = self.ids()
        if ids is not None:
            ownership.take_back(outputs, ids, self._owner)
        quotas = self.quotas()
        if quotas is not None:
            quotas.release(outputs)


def _sources(mounts: Iterable[Mapping[str, Any]], *, read_only: bool) -> list[str]:
    """The files and directories of the host that a container sees in this way."""
    return sorted({one["Source"] for one in mounts if one["Type"] == "bind" and bool(one.get("ReadOnly")) == read_only})


def _is_real(account: Account) -> bool:
    """Whether the host has an account or group with one of these ids."""
    for find, number in ((pwd.getpwuid, account[0]), (grp.getgrgid, account[1])):
        try:
            find(number)
            return True
        except KeyError:
            continue
    return False
