"""The content of files for a page to show: as a picture or as a report in a frame, and never with rights of ours."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response

from compute_to_data.gateway.api import content
from compute_to_data.gateway.pages.previews import PICTURES, REPORTS
from compute_to_data.ports.zone import ClientCatalog

_OF_REPORTS = (
    # Without scripts: the program had no network, and the browser of who reads its report must not lend it one.
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; media-src data:; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
)
_OF_PICTURES = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:"


async def shown(request: Request, catalog: ClientCatalog, collection: str, path: str) -> Response:
    """A picture or a report, by its name; all else as an attachment. NotFound."""
    answer = await content.data_object(request, catalog, content.below(collection, path))
    ending = path.lower().rpartition(".")[2]
    kind = PICTURES.get(ending) or REPORTS.get(ending)
    if kind:
        answer.headers["Content-Type"] = kind
        answer.headers["Content-Disposition"] = "inline"
        answer.headers["Content-Security-Policy"] = _OF_REPORTS if ending in REPORTS else _OF_PICTURES
    return answer
