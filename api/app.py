"""The HTTP application: boot plane, agent plane, admin API and health, made of services that are passed in.

No lifespan: starting and stopping belongs to `pxeboot.main`, so tests need no server.
"""

from __future__ import annotations

import re

from fastapi import FastAPI, Request, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import agent, agent_chunks, agent_other, agent_peers, boot, metrics, problems
from api.v1 import router as admin
from pxeboot import __version__
from pxeboot.adapters.container import Services

_SLASHES = re.compile(r"/{2,}")


class OneSlash:
    """Reads `//` in a path as `/`: shim asks for `//grubx64.efi`, and no loader follows a redirect."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "//" in scope["path"]:
            scope = {**scope, "path": _SLASHES.sub("/", scope["path"])}
        await self._app(scope, receive, send)


class LoaderHeaders:
    """Writes header names of the boot plane as `Content-Length`, not `content-length`.

    GRUB 2.12 looks for exactly that spelling (net/http.c compares bytes); without it, it waits for the end of
    the connection, half a minute for each file, and after UEFI HTTP Boot (its own efi/http.c) it reads
    nothing at all. RFC 9110 §5.1 would have any case do.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def spell(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [(name.title(), value) for name, value in message.get("headers", [])]
            await send(message)

        boots = scope["type"] == "http" and scope["path"].startswith(("/boot/", "/grub/"))
        await self._app(scope, receive, spell if boots else send)


def create_app(services: Services) -> FastAPI:
    """The application over these services (`app.state.services`); pages are mounted by `pxeboot.main`."""
    app = FastAPI(
        title="pxeboot",
        version=__version__,
        description="Network boot and imaging of computer rooms.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.services = services
    problems.install(app)
    app.include_router(boot.router, include_in_schema=False)
    app.include_router(agent.router, include_in_schema=False)
    app.include_router(agent_chunks.router, include_in_schema=False)
    app.include_router(agent_other.router, include_in_schema=False)
    app.include_router(metrics.router)
    app.include_router(agent_peers.router, include_in_schema=False)
    app.include_router(admin)

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/readyz", include_in_schema=False)
    def readyz(request: Request, response: Response) -> dict[str, object]:
        """Database and store can be used."""
        checks = {"database": True, "store": services.store.is_ready()}
        try:
            with services.read() as session:
                session.connection()
        except Exception:  # whatever it is: not ready
            checks["database"] = False
        response.status_code = 200 if all(checks.values()) else 503
        return {"status": "ok" if all(checks.values()) else "not ready", **checks}

    @app.get("/version", include_in_schema=False)
    async def version() -> dict[str, str]:
        """What runs here."""
        return {"name": "pxeboot", "version": __version__}

    app.add_middleware(LoaderHeaders)
    app.add_middleware(OneSlash)
    return app


__all__ = ["create_app"]
