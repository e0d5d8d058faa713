"""A person's settings for an embedded zone. The settings of this host are not used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.people import settings_of
from support.site import TrialSite
from support.typed import Type, Typed

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
