"""Task plane (docs/ARCHITECTURE.md §4): what agents in the boot environment and the server say to each other.

The bytes of images are `agent_chunks`; who calls is `agent_auth`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from api.agent_auth import Agent, CredentialText
from api.boot import Peer, asked
from api.v1.deps import ServicesDep
from pxeboot.adapters.container import Services
from pxeboot.db.models import TaskKind, TaskState
from pxeboot.errors import Invalid, Unauthorized
from pxeboot.services import (
    checkin,
    customise,
    groups,
    hosts,
    images,
    lookup,
    names,
    outcomes,
    tasks,
)
from pxeboot.services.task_kinds import KINDS

router = APIRouter(prefix="/agent/v1", tags=["agent"])
MAX_TOLD = 256 << 10  # characters of what an outcome tells beside the rest


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
    if order.kind == TaskKind.CAPTURE:
        body["level"] = these.settings.images.zstd_level
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


@router.get("/tasks/{id}/session")
def session_of(id: str, request: Request, these: ServicesDep, known: Agent) -> Response:
    """The multicast session of a deploy; 204 when there is none (any more)."""
    with these.write() as session:
        checkin.is_working(session, known, id)
        found = these.sessions.session_for(session, id, asked(request))
    if found is None:
        return Response(status_code=204)
    return JSONResponse(found)
