"""Task plane of the tasks beside capture and deploy: an open debug shell, and the archive of a rescue."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from api.agent_auth import Agent, read_body
from api.boot import Peer, asked
from api.v1.deps import ServicesDep
from pxeboot.adapters.container import Services
from pxeboot.adapters.rescueshed import MAX_PIECE
from pxeboot.services import checkin, debug_shell, rescues, tasks
from pxeboot.services.tokens import Credential

router = APIRouter(prefix="/agent/v1", tags=["agent"])


class ShellBody(BaseModel):
    """Where the debug shell listens, and who it is."""

    model_config = ConfigDict(extra="ignore")
    port: int
    host_key: str = Field(max_length=2000)


class RescueBody(BaseModel):
    """The archive that was sent, and what it holds."""

    model_config = ConfigDict(extra="ignore")
    size: int = Field(ge=0)
    blake3: str = Field(pattern=r"^[0-9a-f]{64}$")
    name: str = Field(default="", max_length=80)
    files: int = Field(default=0, ge=0)
    folders: int = Field(default=0, ge=0)
    links: int = Field(default=0, ge=0)
    bytes: int = Field(default=0, ge=0)
    unreadable_count: int = Field(default=0, ge=0)
    unreadable: list[tuple[str, str]] = Field(default_factory=list, max_length=500)
    paths: list[str] = Field(default_factory=list, max_length=100)


@router.post("/tasks/{id}/shell")
def shell_open(id: str, body: ShellBody, these: ServicesDep, known: Agent, address: Peer) -> dict[str, str]:
    """The debug shell is open: people may connect."""
    with these.write() as session:
        checkin.is_working(session, known, id)
        where = debug_shell.opened(
            session,
            id,
            attempt=known.attempt,
            address=address,
            port=body.port,
            host_key=body.host_key,
            now=datetime.now(UTC),
        )
    return {"fingerprint": str(where["fingerprint"])}


@router.put("/tasks/{id}/rescue")
async def rescue_piece(
    id: str,
    request: Request,
    these: ServicesDep,
    known: Agent,
    offset: Annotated[int, Query(ge=0)],
    needed: Annotated[int, Query(ge=0)] = 0,
) -> dict[str, int]:
    """A piece of the archive; with `needed`, whether so many bytes have room."""
    operation = await asyncio.to_thread(_check, these, known, id)
    gate = None if needed else these.sessions.transfers.intake(operation, asked(request))
    data = await read_body(request, MAX_PIECE, gate)

    def put() -> None:
        _check(these, known, id)
        these.rescues.room(max(needed, len(data)), these.settings.rescue.max_gb * 1_000_000_000)
        if not needed:
            these.rescues.write(id, offset, data)
        with these.write() as session:
            tasks.heard(session, id, attempt=known.attempt, now=datetime.now(UTC))

    await asyncio.to_thread(put)
    return {"size": offset + len(data)}


@router.post("/tasks/{id}/rescue")
async def rescue_done(id: str, body: RescueBody, these: ServicesDep, known: Agent) -> dict[str, Any]:
    """The archive is whole: it is checked, and can be had from now on."""

    def finish() -> dict[str, Any]:
        _check(these, known, id)
        these.rescues.finish(id, body.size, body.blake3)
        with these.write() as session:
            checkin.is_working(session, known, id)
            view = rescues.finish(
                session,
                id,
                size=body.size,
                blake3=body.blake3,
                facts=body.model_dump(mode="json", exclude={"size", "blake3"}),
                keep_days=these.settings.rescue.keep_days,
                now=datetime.now(UTC),
            )
        return {"id": view.id}

    return await asyncio.to_thread(finish)


def _check(these: Services, known: Credential, id: str) -> str:
    """The operation of the rescue this agent works on."""
    with these.read() as session:
        task = checkin.is_working(session, known, id)
        rescues.must_be_rescue(task)
        return task.operation_id
