"""Task plane: the bytes of images, file drops and drivers, up and down.

What blocks (database, hashing, disk) runs in threads; uploads are taken in pieces, so neither memory nor
the event loop, which DHCP shares, feels their size. All that is long passes a gate of the arbiter.
"""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials
from starlette.concurrency import run_in_threadpool

from api.agent_auth import OCTETS, Agent, CredentialText, bearer, credential, pieces_of, read_body
from api.boot import asked
from api.v1.deps import ServicesDep
from pxeboot.adapters.container import Services
from pxeboot.adapters.shaper import Gate, PacedFile, PacedResponse
from pxeboot.adapters.store import HASH_BYTES, MAX_HASHES, RecordReader
from pxeboot.errors import Conflict, NotFound
from pxeboot.services import captures, checkin, customise, lookup, tokens
from pxeboot.services.task_kinds import KINDS
from pxeboot.services.tokens import Credential

router = APIRouter(prefix="/agent/v1", tags=["agent"])
BATCH_BYTES = 8 << 20  # of chunks handed to a thread at once; also what one upload holds in memory
MAX_MANIFEST = 512 << 20  # far more than a disk of 4 TB needs
_HEX = re.compile(r"[0-9a-f]{64}")
# Each upload hashes on one thread; more than the cores would only take memory.
_uploads = asyncio.Semaphore(8)


@router.post("/tasks/{id}/missing")
async def missing(
    id: str, request: Request, these: ServicesDep, known: Agent, needed: Annotated[int, Query(ge=0)] = 0
) -> Response:
    """Which of these chunks the store lacks; with `needed`, whether so many bytes of chunks have room."""
    hashes = await read_body(request, MAX_HASHES * HASH_BYTES)

    def ask() -> bytes:
        _check(these, known, id)
        if needed:
            these.store.room(needed)
        return these.store.missing(hashes, holder=id)

    return Response(await asyncio.to_thread(ask), media_type=OCTETS)


@router.put("/tasks/{id}/chunks")
async def chunks(id: str, request: Request, these: ServicesDep, known: Agent) -> dict[str, int]:
    """Take chunks; each is decompressed and hashed before it counts."""
    gate = await _intake(these, known, id, request)
    reader = RecordReader()
    stored = fresh = 0

    async def put() -> None:
        nonlocal stored, fresh
        async with _uploads:
            count, new = await asyncio.to_thread(these.store.add, reader.take(), id)
        stored += count
        fresh += new

    try:
        async for data in pieces_of(request, gate):
            reader.feed(data)
            if reader.bytes >= BATCH_BYTES:
                await put()
        reader.finish()
        await put()
    finally:
        if fresh:
            await asyncio.to_thread(_note_upload, these, known, id, fresh)
    return {"stored": stored}


@router.post("/tasks/{id}/manifest")
async def manifest(id: str, request: Request, these: ServicesDep, known: Agent) -> dict[str, Any]:
    """Finish a capture: only now does the version exist."""
    data = await read_body(request, MAX_MANIFEST, await _intake(these, known, id, request))

    def finish() -> dict[str, Any]:
        with these.read() as session:
            kind = checkin.is_working(session, known, id).kind
        if not KINDS[kind].brings_manifest:
            raise Conflict(f"A {kind.value} task has no manifest to send.")
        facts = these.store.put_manifest(data, holder=id)
        with these.write() as session:
            checkin.is_working(session, known, id)
            if not these.store.has_manifest(facts.id):  # the same image was deleted at this very moment
                these.store.put_manifest(data, holder=id)
            version = captures.finish(
                session,
                id,
                manifest=facts.id,
                disk_bytes=facts.disk_bytes,
                used_bytes=facts.used_bytes,
                chunks=facts.chunks,
                summary=facts.summary,
            )
        return {"image": version.image, "version": version.number, "manifest": version.manifest}

    return await asyncio.to_thread(finish)


@router.get("/manifests/{id}")
async def get_manifest(id: str, request: Request, these: ServicesDep, text: CredentialText) -> Response:
    """A manifest with our signature."""
    if not _HEX.fullmatch(id):
        raise NotFound("manifest", id[:80])

    def read() -> tuple[str, bytes, bytes]:
        with these.read() as session:
            operation, _ = tokens.work_of(session, text, now=datetime.now(UTC))
        return operation, *these.store.manifest(id)

    operation, data, signature = await run_in_threadpool(read)
    headers = {"X-Pxeboot-Signature": signature.hex(), "ETag": f'"{id}"'}
    answer = PacedResponse(data, media_type=OCTETS, headers=headers)
    answer.gate = these.sessions.transfers.gate(operation, asked(request))
    return answer


@router.get("/chunks/{hash}")
async def get_chunk(
    hash: str,
    request: Request,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> Response:
    """A stored frame, as fast as the arbiter lets the downloads of this operation be."""
    these: Services = request.app.state.services
    text = credential(given)
    if not _HEX.fullmatch(hash):
        raise NotFound("chunk", hash[:80])

    # One thread for who it is and for the frame: a hop to a thread costs as much as either.
    def read() -> tuple[str, bytes]:
        with these.read() as session:
            operation, task = tokens.work_of(session, text, now=datetime.now(UTC))
        frame = these.store.frame(bytes.fromhex(hash))
        if task:
            these.peers.note(task, bytes.fromhex(hash))
        return operation, frame

    operation, frame = await run_in_threadpool(read)
    answer = PacedResponse(
        frame,
        media_type=OCTETS,
        headers={"ETag": f'"{hash}"', "Cache-Control": "private, max-age=31536000, immutable"},
    )
    answer.gate = these.sessions.transfers.gate(operation, asked(request))
    return answer


@router.get("/tasks/{id}/files/{hash}")
async def get_file(id: str, hash: str, request: Request, these: ServicesDep, known: Agent) -> Response:
    """A file drop of this task, whole or from a byte on."""

    def find() -> tuple[str, Path]:
        with these.read() as session:
            operation = checkin.is_working(session, known, id).operation_id
            if hash not in customise.hashes_for_task(session, id):
                raise NotFound("file content", hash[:80])
        return operation, these.files.path(hash)

    operation, place = await run_in_threadpool(find)
    return _file(these, operation, request, place, hash)


@router.get("/tasks/{id}/drivers/{path:path}")
async def get_driver(id: str, path: str, request: Request, these: ServicesDep, known: Agent) -> Response:
    """A driver file for the model of this task's machine, with its hash."""

    def find() -> tuple[str, Path, str]:
        with these.read() as session:
            task = checkin.is_working(session, known, id)
            host = lookup.host(session, task.host_id)
            operation, model = task.operation_id, (host.manufacturer, host.product)
        return operation, *these.files.driver(*model, path)

    operation, place, hash = await run_in_threadpool(find)
    return _file(these, operation, request, place, hash)


def _file(these: Services, operation: str, request: Request, place: Path, hash: str) -> PacedFile:
    answer = PacedFile(place, media_type=OCTETS, headers={"X-Pxeboot-Blake3": hash})
    answer.gate = these.sessions.transfers.gate(operation, asked(request))
    return answer


async def _intake(these: Services, known: Credential, id: str, request: Request) -> Gate:
    """What an upload of this task passes."""
    operation = await asyncio.to_thread(_check, these, known, id)
    return these.sessions.transfers.intake(operation, asked(request))


def _check(these: Services, known: Credential, id: str) -> str:
    """The operation of the task this agent works on."""
    with these.read() as session:
        return checkin.is_working(session, known, id).operation_id


def _note_upload(these: Services, known: Credential, id: str, fresh: int) -> None:
    with these.write() as session:
        captures.note_upload(session, id, attempt=known.attempt, bytes=fresh, now=datetime.now(UTC))
