"""Whether the gateway lives, whether it can serve, and its figures."""

from __future__ import annotations

import hmac
import ipaddress
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from compute_to_data.errors import ComputeToDataError
from compute_to_data.gateway import who
from compute_to_data.gateway.gateway import Gateway
from compute_to_data.gateway.metrics import CONTENT_TYPE
from compute_to_data.gateway.problems import HttpError

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Whether the process answers")
async def healthz() -> dict[str, str]:
    """It asks the zone nothing."""
    return {"status": "ok"}


@router.get("/readyz", summary="Whether the zone can be reached")
def readyz(request: Request) -> dict[str, Any]:
    """It connects to the zone. 503 when that fails."""
    gateway: Gateway = request.app.state.gateway
    gateway.entrance.check()
    return {"status": "ok", "zone": gateway.entrance.zone}


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """For Prometheus: at the addresses that the settings name, with the token that they name, and for
    administrators."""
    gateway: Gateway = request.app.state.gateway
    if not (_is_named(request, gateway) or _has_token(request, gateway) or await _is_administrator(request, gateway)):
        raise HttpError(404, "/metrics", "there is nothing at this address")
    await anyio.to_thread.run_sync(gateway.task_figures.refresh)
    return Response(gateway.metrics.text(), media_type=CONTENT_TYPE)


def _has_token(request: Request, gateway: Gateway) -> bool:
    scheme, value = who.authorization(request)
    token = gateway.settings.metrics_token
    return bool(token) and scheme == "bearer" and hmac.compare_digest(value.encode(), token.encode())


async def _is_administrator(request: Request, gateway: Gateway) -> bool:
    if not who.authorization(request)[0]:
        return False  # no cookie: a browser sends it by itself
    person = await who.signed_in(request)
    try:
        return await anyio.to_thread.run_sync(gateway.entrance.is_administrator, person.user)
    except ComputeToDataError:
        return False  # it cannot be asked


def _is_named(request: Request, gateway: Gateway) -> bool:
    """Not through a proxy that the settings do not name: then everybody comes from the proxy's address."""
    if "x-forwarded-for" in request.headers and not gateway.settings.listen.proxies:
        return False
    try:
        address = ipaddress.ip_address(request.client.host if request.client else "")
    except ValueError:
        return False
    return any(address in network for network in gateway.settings.metrics_from)
