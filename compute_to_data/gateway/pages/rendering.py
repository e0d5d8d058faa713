"""Templates, what they may say, and what a browser may load for a page."""

from __future__ import annotations

import hashlib
import json
import time
from importlib import resources
from typing import Any
from urllib.parse import quote

from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse

from compute_to_data.client.task_status import wording
from compute_to_data.client.task_status.status import unix_time
from compute_to_data.gateway.pages.visitor import Visitor
from compute_to_data.plain_text import lines

STATIC = "static"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; frame-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    # With no-referrer, a browser would hide from us that a form is one of our own (Origin: null).
    "Referrer-Policy": "same-origin",
}


def _shown(value: Any) -> Any:
    """What a template shows of a value: of a text that strangers may have written, harmless characters only."""
    return lines(value) if isinstance(value, str) and not isinstance(value, Markup) else value


_templates = Environment(
    loader=PackageLoader("compute_to_data.gateway.pages"),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_shown,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(request: Request, template: str, visitor: Visitor | None, status: int = 200, /, **values: Any) -> HTMLResponse:
    """A page. ``visitor``: who looks at it, if that is known."""
    text = _templates.get_template(template).render(visitor=visitor, path=request.url.path, **values)
    # An unpaired surrogate cannot be sent; the templates show it as an escape, unless it is a form's exact value.
    return HTMLResponse(text.encode("utf-8", "replace"), status, HEADERS)


def static_files() -> dict[str, bytes]:
    """The style sheet, the script and the icon, by their names."""
    folder = resources.files("compute_to_data.gateway.pages") / STATIC
    return {one.name: one.read_bytes() for one in folder.iterdir() if one.is_file()}


def _version() -> str:
    found = static_files()
    return hashlib.sha256(b"".join(found[name] for name in sorted(found))).hexdigest()[:12]


def _exact(value: Any) -> Markup:
    """A value of a form, as it is."""
    return escape(value)


def _size(value: float) -> str:
    return wording.amount(value)


def _moment(text: str) -> Markup:
    """A time, for people and for scripts."""
    moment = unix_time(text)
    if moment is None:
        return escape(_shown(text))
    said = wording.ago(max(0.0, time.time() - moment))
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(text, said)


def _in_words(state: str) -> str:
    return state.replace("_", " ").capitalize()


_templates.filters.update(
    exact=_exact,
    size=_size,
    duration=wording.duration,
    moment=_moment,
    in_words=_in_words,
    url=lambda text: quote(text, safe=""),
    url_path=lambda text: quote(text, safe="/"),
    shown_json=lambda value: json.dumps(value, indent=2, ensure_ascii=False),
)
_templates.globals["version"] = _version()
