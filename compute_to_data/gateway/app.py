"""The application: its routers, its lifespan, and what every request passes through."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import anyio.to_thread
from fastapi import FastAPI

from compute_to_data import __version__
from compute_to_data.gateway import api_page, authenticate, code_flow, health, problems, registry
from compute_to_data.gateway.answers import Answers
from compute_to_data.gateway.api import routes as api
from compute_to_data.gateway.catalog import routes as catalog
from compute_to_data.gateway.gateway import Gateway
from compute_to_data.gateway.pages import route as page_route
from compute_to_data.gateway.pages import routes as pages
from compute_to_data.gateway.tes import routes as tes

_TEND_SECONDS = 15.0


def create_app(gateway: Gateway) -> FastAPI:
    """The application of a gateway. It closes the gateway when it ends."""
    app = FastAPI(
        title="compute to data",
        version=__version__,
        description="Run tasks on the storage resources of an iRODS zone that hold their data.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        responses=problems.RESPONSES,
        lifespan=_lifespan,
    )
    app.state.gateway = gateway
    app.state.started = code_flow.Started()
    problems.handle(app)
    page_route.handle(app)
    # A request is held against each route in turn: those of programs come before those of people.
    api.include(app)
    app.include_router(tes.router)
    app.include_router(health.router)
    catalog.include(app)
    app.include_router(registry.router)
    app.include_router(authenticate.router)
    app.include_router(code_flow.router)
    app.include_router(api_page.router)
    pages.include(app)
    app.add_middleware(Answers, metrics=gateway.metrics, shares=gateway.shares)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    gateway: Gateway = app.state.gateway
    # Endpoints that are no coroutines, and all other blocking calls, run in these threads.
    anyio.to_thread.current_default_thread_limiter().total_tokens = gateway.settings.threads
    tending = asyncio.create_task(_tend(gateway))
    try:
        yield
    finally:
        tending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await tending
        gateway.following.close()
        await anyio.to_thread.run_sync(gateway.close)


async def _tend(gateway: Gateway) -> None:
    while True:
        await asyncio.sleep(_TEND_SECONDS)
        gateway.following.tend()
        await anyio.to_thread.run_sync(gateway.tend)
