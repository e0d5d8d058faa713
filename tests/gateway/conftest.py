"""A gateway of the site, whose users alice and bob have passwords."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import httpx
import pytest
from playwright.sync_api import Browser
from support.browsers import chromium
from support.gateways import RunningGateway, gateway_settings, give_passwords, running
from support.page_visitors import PageVisitor
from support.site import COMPUTE, ZONE, TrialSite
from support.web_fixtures import authority, web

from compute_to_data.coordination.lock import ResourceLock

__all__ = ["authority", "web"]


@pytest.fixture
def gateway(site: TrialSite) -> Iterator[RunningGateway]:
    give_passwords(site)
    with running(gateway_settings(site)) as started:
        yield started


@pytest.fixture
def anybody(gateway: RunningGateway) -> Iterator[httpx.Client]:
    """A client without a name."""
    with gateway.client() as client:
        yield client


@pytest.fixture
def alice(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with gateway.client("alice") as client:
        yield client


@pytest.fixture
def bob(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with gateway.client("bob") as client:
        yield client


@pytest.fixture
def no_worker(site: TrialSite) -> Iterator[None]:
    """The tasks of the site wait: no worker starts on demand, since one seems to be there."""
    held = ResourceLock(site.configuration, ZONE, COMPUTE)
    held.acquire()
    yield
    held.release()


@pytest.fixture
def unused_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """While it runs, no other test of this process may run an event loop: so for one module only."""
    with chromium() as started:
        yield started


@pytest.fixture
def working(site: TrialSite) -> Iterator[None]:
    with site.working():
        yield


@pytest.fixture
def visit(gateway: RunningGateway) -> Iterator[Callable[[str], PageVisitor]]:
    """Makes visitors: ``visit("alice")`` has signed in, ``visit("")`` has not."""
    made: list[PageVisitor] = []

    def visitor(user: str) -> PageVisitor:
        made.append(PageVisitor(gateway))
        if user:
            answer = made[-1].sign_in(user)
            assert (answer.status_code, answer.headers["location"]) == (303, "/tasks"), answer.text
        return made[-1]

    yield visitor
    for one in made:
        one.close()
