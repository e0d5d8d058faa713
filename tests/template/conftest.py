"""What the tests of URLs share."""

from __future__ import annotations

from support.web_fixtures import authority, web

__all__ = ["authority", "web"]
