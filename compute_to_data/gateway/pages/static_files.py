"""The style sheet, the script and the icon of the pages. Anybody may have them."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from compute_to_data.gateway.pages import rendering
from compute_to_data.gateway.problems import HttpError

router = APIRouter(include_in_schema=False)
_KINDS = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_FILES = rendering.static_files()


@router.get("/static/{version}/{name}")
async def static(version: str, name: str) -> Response:
    """The address changes with the content, so that browsers may keep it."""
    if name not in _FILES:
        raise HttpError(404, "this address", "there is nothing there")
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(_FILES[name], headers=headers, media_type=_KINDS[name.rpartition(".")[2]])
