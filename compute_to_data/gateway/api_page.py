"""``/api/v1/docs``: the OpenAPI document for people to read, without scripts, and from nowhere else."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.responses import HTMLResponse

from compute_to_data.gateway.api.common import PREFIX

router = APIRouter()
_templates = Environment(
    loader=PackageLoader("compute_to_data.gateway"), autoescape=select_autoescape(), undefined=StrictUndefined
)


@router.get(f"{PREFIX}/docs", include_in_schema=False, response_class=HTMLResponse)
def page(request: Request) -> HTMLResponse:
    """Anybody may read it: it says nothing about the zone."""
    document = request.app.openapi()
    text = _templates.get_template("api.html").render(tags=_by_tag(document), **document["info"])
    return HTMLResponse(text)


def _by_tag(document: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for path, operations in document["paths"].items():
        for method, one in operations.items():
            described = {
                "method": method.upper(),
                "path": path,
                "summary": one.get("summary", ""),
                "description": one.get("description", ""),
                "parameters": [
                    {"name": each["name"], "required": each["required"], "description": each.get("description", "")}
                    for each in one.get("parameters", ())
                ],
            }
            found.setdefault((one.get("tags") or ["other"])[0], []).append(described)
    return found
