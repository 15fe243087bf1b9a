"""Task plane (docs/ARCHITECTURE.md §4): the calls of the agent in the boot environment.

What blocks (database, hashing, disk) runs in threads; uploads are taken in pieces, so neither memory nor
the event
loop, which DHCP shares, feels their size.
"""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from api.boot import Peer, asked
from api.v1.deps import ServicesDep
from pxeboot.adapters.container import Services
from pxeboot.adapters.shaper import PacedResponse
from pxeboot.adapters.store import HASH_BYTES, MAX_HASHES, RecordReader
from pxeboot.db.models import TaskKind, TaskState
from pxeboot.errors import Conflict, Invalid, NotFound, Unauthorized
from pxeboot.services import (
    captures,
    checkin,
    customise,
    groups,
    hosts,
    images,
    lookup,
    names,
    outcomes,
    tasks,
    tokens,
)
from pxeboot.services.task_kinds import KINDS
from pxeboot.services.tokens import Credential

router = APIRouter(prefix="/agent/v1", tags=["agent"])
bearer = HTTPBearer(auto_error=False)
OCTETS = "application/octet-stream"
BATCH_BYTES = 8 << 20  # of chunks handed to a thread at once; also what one upload holds in memory
MAX_TOLD = 256 << 10  # characters of what an outcome tells beside the rest
MAX_MANIFEST = 512 << 20  # far more than a disk of 4 TB needs
_HEX = re.compile(r"[0-9a-f]{64}")
# Each upload hashes on one thread; more than the cores would only take memory.
_uploads = asyncio.Semaphore(8)


class CheckInBody(BaseModel):
    """What an agent says first."""

    model_config = ConfigDict(extra="ignore")
    token: str = Field(max_length=200)
    mac: str = Field(max_length=40)
    agent: str = Field(default="", max_length=60)
    inventory: dict[str, Any] = Field(default_factory=dict)


class RegistrationBody(BaseModel):
    """What was answered at the console; all None for a quick registration."""

    name: str | None = Field(default=None, max_length=80)
    group: str | None = Field(default=None, max_length=80)
    image: str | None = Field(default=None, max_length=80)


class ProgressBody(BaseModel):
    """How far a task is."""

    model_config = ConfigDict(extra="ignore")
    stage: str = Field(max_length=20)
    done: int = Field(default=0, ge=0)
    total: int = Field(default=0, ge=0)
    bytes_multicast: int = Field(default=0, ge=0)
    bytes_peers: int = Field(default=0, ge=0)
    bytes_http: int = Field(default=0, ge=0)
    way: str = Field(default="", max_length=20)
    way_reason: str = Field(default="", max_length=1000)
    message: str | None = Field(default="", max_length=2000)


class StepBody(BaseModel):
    """One step of what was done before and after the image."""

    model_config = ConfigDict(extra="ignore")
    step: str = Field(max_length=40)
    name: str = Field(default="", max_length=100)
    where: str = Field(default="", max_length=200)
    ok: bool
    seconds: float = Field(default=0.0, ge=0)
    output: str = Field(default="", max_length=4000)


class OutcomeBody(BaseModel):
    """How a task ended; members nobody knows here are kept with the task (what was grown, customised …)."""

    model_config = ConfigDict(extra="allow")
    ok: bool
    reason: str = Field(default="", max_length=4000)
    code: str = Field(default="", max_length=100)
    verified: bool = False
    manifest: str | None = Field(default=None, max_length=64)
    bytes_multicast: int = Field(default=0, ge=0)
    bytes_peers: int = Field(default=0, ge=0)
    bytes_http: int = Field(default=0, ge=0)
    way: Literal["", "multicast", "peers", "http"] = ""
    way_reason: str = Field(default="", max_length=1000)
    seconds: dict[str, float] = Field(default_factory=dict, max_length=20)
    chunks: dict[str, int] = Field(default_factory=dict, max_length=20)
    customise: list[StepBody] = Field(default_factory=list, max_length=500)

    @property
    def told(self) -> dict[str, Any]:
        """What it tells beside all this. Invalid when that is too much."""
        told = dict(self.model_extra or {})
        if len(told) > 50 or len(str(told)) > MAX_TOLD:
            raise Invalid(f"An outcome of more than {MAX_TOLD} characters is too long.")
        return told


def credential(
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> str:
    """The credential as text. Unauthorized without one."""
    if given is None:
        raise Unauthorized("Send the credential of the check-in as bearer token.", "credential-missing")
    return given.credentials


def agent(these: ServicesDep, text: Annotated[str, Depends(credential)]) -> Credential:
    """Who is calling. Unauthorized: credential-unknown, credential-expired."""
    with these.read() as session:
        return tokens.authenticate(session, text, now=datetime.now(UTC))


CredentialText = Annotated[str, Depends(credential)]
Agent = Annotated[Credential, Depends(agent)]


@router.post("/checkin")
def check_in(body: CheckInBody, request: Request, these: ServicesDep, address: Peer) -> dict[str, Any]:
    """Exchange the boot token for a credential and the task."""
    now = datetime.now(UTC)
    if len(str(body.inventory)) > 256 << 10:
        raise Invalid("An inventory of more than 256 KiB is not one.", field="inventory")
    try:
        with these.write() as session:
            found = checkin.checkin(
                session,
                token=body.token,
                mac=body.mac,
                address=address,
                agent=body.agent,
                inventory=body.inventory,
                now=now,
                same_machine=these.leases.holds,
                settings=these.settings,
            )
            task = _task(these, session, found.task.id, asked(request)) if found.task else None
    except Unauthorized as error:
        these.journal.record(
            "agent",
            "agent.refused",
            f"A check-in from {address} was refused: {error.sentence}",
            mac=lookup.normal_mac(body.mac) or "",
            data={"address": address, "code": error.problem_code},
        )
        raise
    if task is not None and task["kind"] == "deploy":
        task["customise"] = _customise(these, task["id"], rename=task["customise"]["hostname"] is not None)
    host = found.host
    return {
        "credential": found.credential,
        "host": {"id": host.id, "name": host.name, "state": host.state} if host else None,
        "mode": found.mode,
        "task": task,
        "language": these.settings.server.language,
    }


def _task(these: Services, session: Any, task_id: str, address: str) -> dict[str, Any]:
    """TASK of docs/ARCHITECTURE.md §4."""
    order = checkin.order(session, task_id, these.settings)
    body = order.model_dump(exclude={"transport", "operation_id", "options"}) | order.options
    streamed = KINDS[TaskKind(order.kind)].by_multicast
    body["session"] = these.sessions.session_for(session, task_id, address) if streamed else None
    if streamed:
        body["peers"] = these.peers.order(session, task_id)
    return body


def _customise(these: Services, task_id: str, *, rename: bool) -> dict[str, Any]:
    """TASK's `customise`, with its secrets: this answer is the only place they are ever given to."""
    with these.read() as session:
        made = customise.for_task(
            session, task_id, these.files, these.secrets_key, these.base_url, rename=rename
        )
        row = tasks.row(session, task_id)
        host_id, operation_id = row.host_id, row.operation_id
    if made.secrets:
        these.journal.record(
            "agent",
            "secrets.delivered",
            f"The agent was given the secrets {', '.join(made.secrets)} for its task.",
            host_id=host_id,
            operation_id=operation_id,
            task_id=task_id,
        )
    return made.order


@router.get("/registration")
def offer(these: ServicesDep, known: Agent) -> dict[str, Any]:
    """What the console may propose."""
    with these.read() as session:
        return {
            "suggested_name": names.next_name(session, these.settings.registration.name_template),
            "groups": [item.name for item in groups.list_groups(session, limit=200).items],
            "images": [item.name for item in images.list_images(session, limit=200).items],
        }


@router.post("/registration")
def register(body: RegistrationBody, these: ServicesDep, text: CredentialText) -> dict[str, Any]:
    """Make this machine a host."""
    with these.write() as session:
        host = hosts.register(
            session,
            text,
            name=body.name or None,
            group=body.group or None,
            image=body.image or None,
            settings=these.settings,
            now=datetime.now(UTC),
        )
    return {"name": host.name, "state": host.state, "then": these.settings.registration.then}


@router.post("/tasks/{id}/progress")
def progress(id: str, body: ProgressBody, these: ServicesDep, known: Agent) -> dict[str, Any]:
    """Where the agent is; the answer says whether to go on."""
    if known.task_id != id:
        raise Unauthorized("This credential is for another task.", "token-foreign")
    with these.write() as session:
        go_on, reason = tasks.progress(
            session,
            id,
            attempt=known.attempt,
            stage=body.stage,
            done=body.done,
            total=body.total,
            bytes_multicast=body.bytes_multicast,
            bytes_peers=body.bytes_peers,
            bytes_http=body.bytes_http,
            way=body.way,
            way_reason=body.way_reason,
            message=body.message or "",
            now=datetime.now(UTC),
        )
    return {"continue": go_on, "reason": reason}


@router.post("/tasks/{id}/outcome")
def outcome(id: str, body: OutcomeBody, these: ServicesDep, known: Agent) -> dict[str, str]:
    """How it ended."""
    if known.task_id != id:
        raise Unauthorized("This credential is for another task.", "token-foreign")
    told = body.told
    if body.customise:
        told["customise"] = [step.model_dump() for step in body.customise]
    with these.write() as session:
        outcomes.outcome(
            session,
            id,
            attempt=known.attempt,
            ok=body.ok,
            reason=body.reason,
            code=body.code,
            verified=body.verified,
            manifest=body.manifest,
            bytes_multicast=body.bytes_multicast,
            bytes_peers=body.bytes_peers,
            bytes_http=body.bytes_http,
            way=body.way,
            way_reason=body.way_reason,
            seconds=body.seconds,
            chunks=body.chunks,
            told=told,
            now=datetime.now(UTC),
        )
        order = checkin.order(session, id, these.settings)
        ended = tasks.row(session, id)
        in_vain = KINDS[ended.kind].brings_manifest and ended.state != TaskState.DONE
    if in_vain:
        these.store.release(id)  # what a capture in vain brought may go with the next prune
    return {"then": order.then}


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
    await asyncio.to_thread(_check, these, known, id)
    reader = RecordReader()
    stored = fresh = 0

    async def put() -> None:
        nonlocal stored, fresh
        async with _uploads:
            count, new = await asyncio.to_thread(these.store.add, reader.take(), id)
        stored += count
        fresh += new

    try:
        async for data in request.stream():
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
    data = await read_body(request, MAX_MANIFEST)

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
def get_manifest(id: str, these: ServicesDep, known: Agent) -> Response:
    """A manifest with our signature."""
    if not _HEX.fullmatch(id):
        raise NotFound("manifest", id[:80])
    data, signature = these.store.manifest(id)
    return Response(
        data, media_type=OCTETS, headers={"X-Pxeboot-Signature": signature.hex(), "ETag": f'"{id}"'}
    )


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
def get_file(id: str, hash: str, these: ServicesDep, known: Agent) -> FileResponse:
    """A file drop of this task, whole or from a byte on."""
    with these.read() as session:
        checkin.is_working(session, known, id)
        if hash not in customise.hashes_for_task(session, id):
            raise NotFound("file content", hash[:80])
    return FileResponse(these.files.path(hash), media_type=OCTETS, headers={"X-Pxeboot-Blake3": hash})


@router.get("/tasks/{id}/drivers/{path:path}")
def get_driver(id: str, path: str, these: ServicesDep, known: Agent) -> FileResponse:
    """A driver file for the model of this task's machine, with its hash."""
    with these.read() as session:
        task = checkin.is_working(session, known, id)
        host = lookup.host(session, task.host_id)
        model = host.manufacturer, host.product
    place, hash = these.files.driver(*model, path)
    return FileResponse(place, media_type=OCTETS, headers={"X-Pxeboot-Blake3": hash})


@router.get("/tasks/{id}/session")
def session_of(id: str, request: Request, these: ServicesDep, known: Agent) -> Response:
    """The multicast session of a deploy; 204 when there is none (any more)."""
    with these.write() as session:
        checkin.is_working(session, known, id)
        found = these.sessions.session_for(session, id, asked(request))
    if found is None:
        return Response(status_code=204)
    return JSONResponse(found)


def _check(these: Services, known: Credential, id: str) -> None:
    with these.read() as session:
        checkin.is_working(session, known, id)


def _note_upload(these: Services, known: Credential, id: str, fresh: int) -> None:
    with these.write() as session:
        captures.note_upload(session, id, attempt=known.attempt, bytes=fresh, now=datetime.now(UTC))


async def read_body(request: Request, limit: int) -> bytes:
    """A request's whole body, if it is not longer than `limit` bytes. Invalid otherwise."""
    taken = bytearray()
    async for data in request.stream():
        taken += data
        if len(taken) > limit:
            raise Invalid(f"The body is longer than {limit} bytes.")
    return bytes(taken)
