"""Visitors of the gateway's pages without a browser: they keep cookies and bring back what forms hold."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import httpx

from support.gateways import PASSWORDS, RunningGateway
from support.site import PATIENCE


class PageVisitor:
    """A person whose requests are those of a browser at pages of the gateway."""

    def __init__(self, gateway: RunningGateway) -> None:
        self.http = httpx.Client(base_url=gateway.url, timeout=PATIENCE, trust_env=False)
        self.http.headers.update({"Accept": "text/html", "Origin": gateway.url})

    def sign_in(self, user: str, **fields: str) -> httpx.Response:
        """By the form."""
        page = self.http.get("/sign-in")
        form = {"proof": proof(page.text), "name": user, "password": PASSWORDS[user], **fields}
        return self.http.post("/sign-in", data=form)

    def send(self, page: str, action: str, **fields: Any) -> httpx.Response:
        """Send a form that the page has."""
        found = proof(self.http.get(page).text)
        return self.http.post(action, data={"proof": found, **fields})

    def close(self) -> None:
        self.http.close()


def proof(page: str) -> str:
    """What the forms of a page bring back."""
    found = re.search(r'name="proof" value="([^"]+)"', page)
    assert found, page
    return unescape(found[1])
