"""A person's settings for an embedded zone. The settings of this host are not used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.people import settings_of
from support.site import TrialSite
from support.typed import Type, Typed

import compute_to_data as c2d
from compute_to_data.cli.main import main


@pytest.fixture
def own_files(site: TrialSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """alice's ``config.json``, found by the environment variable; returns its path."""
    for name in ("C2D_PROJECT", "C2D_OUTPUT", "C2D_DEBUG", "IRODS_ENVIRONMENT_FILE"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "alice" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(settings_of(site, "alice")), encoding="utf-8")
    monkeypatch.setenv("C2D_CONFIG_FILE", str(path))
    monkeypatch.setenv("C2D_SESSION_FILE", str(path.parent / "session.json"))
    return path


@pytest.fixture
def session(own_files: Path) -> Iterator[c2d.Session]:
    """alice's session."""
    with c2d.connect() as opened:
        yield opened


@pytest.fixture
def bobs(site: TrialSite, own_files: Path) -> Iterator[c2d.Session]:
    """bob's session, on a computer with settings of his own."""
    path = own_files.parent / "bob.json"
    path.write_text(json.dumps(settings_of(site, "bob")))
    with c2d.connect(str(path)) as opened:
        yield opened


@pytest.fixture
def typed(own_files: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Type:
    """Type a command line as alice."""

    def call(*words: str) -> Typed:
        capfdbinary.readouterr()
        try:
            code = main(words)
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capfdbinary.readouterr()
        return Typed(code, out.decode(), err.decode())

    return call
