"""A real zone for one test whose dialogue is recorded, and the same test with what was recorded.

What a test chooses at random comes from a seed that is recorded, too, and how long it waits does not
depend on the machine.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import random
import re
import secrets
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from irods import password_obfuscation

from compute_to_data.model import Resource
from compute_to_data.zones.irods import IrodsSession, accounts
from support.dialogue_servers import RECORD_AGAIN, Recorder, Replayer
from support.dialogues import Dialogue, Surroundings

if TYPE_CHECKING:
    from contract.irods_zone import IrodsZoneUnderTest

RECORD_VARIABLE = "C2D_TEST_IRODS_RECORD"
DIALOGUES = Path(__file__).parents[1] / "contract" / "dialogues"
_STREAMS = 2
"""Connections for one large file, on any machine."""


def dialogue_file(item: pytest.Item) -> Path:
    """Where the dialogue of a test is kept."""
    *folders, name = item.nodeid.split("::")
    module = Path(folders.pop(0)).stem
    # pytest escapes the names of parameters once more for each class that inherits a test.
    name = re.sub(r"\\+", lambda _: "\\", name)
    plain = re.sub(r"[^\w.]+", "-", name).strip("-")[:100]
    if not re.fullmatch(r"\w+(\[[\w.-]+\])?", name):
        plain += f"-{hashlib.sha256(name.encode()).hexdigest()[:6]}"  # others may look like it
    return DIALOGUES.joinpath(module, *folders, f"{plain}.jsonl.gz")


class _Clock:
    """``time`` for who waits in steps: so much goes by as is slept, however slow the machine is."""

    def __init__(self, sleeps: bool) -> None:
        self._now = 0.0
        self._sleeps = sleeps

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds
        if self._sleeps:
            time.sleep(seconds)


def _settle(seed: str, monkeypatch: pytest.MonkeyPatch, *, sleeps: bool) -> None:
    """Make a test ask the same at each run, as far as chance, clocks and processors are concerned."""
    chance = random.Random(seed)
    monkeypatch.delenv("C2D_TEST_IRODS_VAULTS", raising=False)
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=chance.getrandbits(128), version=4))
    monkeypatch.setattr(secrets, "token_hex", lambda count: chance.getrandbits(8 * count).to_bytes(count, "big").hex())
    monkeypatch.setattr("compute_to_data.zones.irods.service.time", _Clock(sleeps))
    monkeypatch.setattr("compute_to_data.zones.irods.transfer.STREAMS", _STREAMS)


@contextlib.contextmanager
def recorded(
    item: pytest.Item, environment_file: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[IrodsZoneUnderTest]:
    """The zone of ``environment_file``; what is said inside is written down if the test passes."""
    from contract.irods_zone import IrodsZoneUnderTest

    settings = json.loads(Path(environment_file).read_text(encoding="utf-8"))
    default = _default_resource(environment_file, settings["irods_default_resource"])
    tag, site = f"c2dt{uuid.uuid4().hex[:6]}", Path(default.vault).parent
    _settle(tag, monkeypatch, sleeps=True)

    def watched() -> list[Path]:
        patterns = (f"{tag}/{tag}r*", f"*/home/{tag}*", f"*/home/*/{tag}", f"*/trash/home/{tag}*")
        return [found for pattern in patterns for found in site.glob(pattern)]

    address = (settings["irods_host"], int(settings["irods_port"]))
    recorder = Recorder(Surroundings(default.host, str(site)), address, watched)
    with recorder.listening():
        here = _environment(folder, environment_file, settings, recorder.port)
        zone = IrodsZoneUnderTest(here, tag)
        try:
            yield zone
            said = recorder.taken()
        finally:
            zone.close()
    if item.stash.get(PASSED, False):
        kept = ("irods_user_name", "irods_zone_name", "irods_default_resource")
        about = {**{name: settings[name] for name in kept}, "tag": tag, "seed": tag}
        Dialogue(about, said).save(dialogue_file(item))


@functools.cache
def _default_resource(environment_file: str, name: str) -> Resource:
    session = IrodsSession.open(environment_file)
    try:
        return next(one for one in session.resources() if one.name == name)
    finally:
        session.close()


PASSED = pytest.StashKey[bool]()
"""Of a test: whether it has passed, until now."""


def _environment(folder: Path, environment_file: str, settings: Mapping[str, object], port: int) -> str:
    """That environment, with the recorder instead of the server."""
    password = accounts.from_environment(environment_file).password
    return _write_environment(folder, settings, port, password)


def _write_environment(folder: Path, settings: Mapping[str, object], port: int, password: str) -> str:
    file, password_file = folder / "irods_environment.json", folder / ".irodsA"
    server = {
        "irods_host": "127.0.0.1",
        "irods_port": port,
        "irods_client_server_policy": "CS_NEG_REFUSE",
        "irods_authentication_file": str(password_file),
    }
    file.write_text(json.dumps({**settings, **server}), encoding="utf-8")
    password_file.touch(0o600)
    password_file.write_text(password_obfuscation.encode(password), encoding="utf-8")
    return str(file)


@contextlib.contextmanager
def replayed(item: pytest.Item, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[IrodsZoneUnderTest]:
    """A zone that says what was recorded for this test, and has its vaults below ``folder``.
    AssertionError at the end for a request that was not recorded, or was not made."""
    from contract.irods_zone import IrodsZoneUnderTest

    file = dialogue_file(item)
    assert file.exists(), f"no dialogue of this test is recorded in {file}. {RECORD_AGAIN}"
    dialogue = Dialogue.load(file)
    about = dict(dialogue.zone)
    tag = about.pop("tag")
    _settle(about.pop("seed"), monkeypatch, sleeps=False)
    (folder / "Vault").mkdir()
    replayer = Replayer(dialogue, Surroundings(socket.gethostname(), str(folder)))
    with replayer.listening():
        here = _write_environment(folder, about, replayer.port, "no secret")
        zone = IrodsZoneUnderTest(here, tag)
        try:
            yield zone
        finally:
            zone.hang_up()
    replayer.need_all_said()


def zone_mode() -> str:
    """``live``, ``record`` or ``replay``, as the environment says."""
    if not os.environ.get("C2D_TEST_IRODS_ENVIRONMENT_FILE"):
        return "replay"
    return "record" if os.environ.get(RECORD_VARIABLE) else "live"
