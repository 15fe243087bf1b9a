"""Requests that may be sent twice run once: `Idempotency-Key` for those that start operations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from fastapi import Request, Response
from sqlmodel import Session

from pxeboot.adapters.container import Services
from pxeboot.services import idempotency
from pxeboot.services.auth import Principal
from pxeboot.services.views import OperationView


async def once(
    request: Request,
    these: Services,
    who: Principal,
    key: str | None,
    start: Callable[[Session], OperationView],
) -> Response:
    """Start an operation and answer 202 with its Location; with a key that was seen, send that answer again.

    The look at the key, the start and the keeping of the answer are one transaction: a crash in between
    leaves nothing half-done. Invalid for the same key with another body, Conflict while it is in flight.
    """
    body = await request.body()

    def work() -> Response:
        with these.write() as session:
            if key is not None:
                stored = idempotency.begin(
                    session, who.name, key, request.method, request.url.path, body, now=datetime.now(UTC)
                )
                if stored is not None:
                    return _answer(stored.body, stored.location, stored.status, replayed=True)
            view = start(session)
            text, location = view.model_dump_json(), f"/api/v1/operations/{view.id}"
            if key is not None:
                idempotency.finish(session, who.name, key, status=202, body=text, location=location)
        return _answer(text, location, 202, replayed=False)

    return await asyncio.to_thread(work)


def _answer(body: str, location: str, status: int, *, replayed: bool) -> Response:
    headers = {"Location": location}
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    return Response(body, status_code=status, media_type="application/json", headers=headers)
