"""Fixtures of tests whose tasks read and write URLs; a folder's conftest takes them from here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trustme

from support.site import TrialSite
from support.url_servers import HttpsServer, authority_in
from support.web_site import Web


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, str]:
    """It signs the certificates of the module's servers."""
    return authority_in(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def web(site: TrialSite, authority: tuple[trustme.CA, str]) -> Iterator[Web]:
    """A site that lists an HTTPS server, which runs."""
    with HttpsServer(authority[0]) as server:
        found = Web(site, server, authority[1])
        found.allow()
        yield found
