"""Task plane, neighbours (docs/peers.md): who is there, and chunks that the server gives each room once."""

from __future__ import annotations

import random
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from api.agent_auth import OCTETS, Agent, read_body
from api.boot import Peer, asked
from api.v1.deps import ServicesDep
from pxeboot.adapters.peers import Hello
from pxeboot.adapters.shaper import PacedResponse
from pxeboot.adapters.store import HASH_BYTES
from pxeboot.errors import Invalid, Unauthorized
from pxeboot.services import checkin

router = APIRouter(prefix="/agent/v1", tags=["agent"])
MAX_CANDIDATES = 256


@router.post("/tasks/{id}/peers")
def hello(id: str, body: Hello, these: ServicesDep, known: Agent, address: Peer) -> dict[str, Any]:
    """A host takes part, also after its task: it may still serve others."""
    if known.task_id != id:
        raise Unauthorized("This credential is for another task.", "token-foreign")
    with these.read() as session:
        answer = these.peers.hello(session, id, address, body)
        host_id = known.host_id
    for left in body.left:
        these.journal.record(
            "agent",
            "peer.left",
            f"The neighbour {left.address}:{left.port} is not asked any more: {left.reason}",
            host_id=host_id,
            task_id=id,
            data={"address": left.address, "port": left.port},
        )
    return answer


@router.post("/tasks/{id}/chunk")
async def chunk(id: str, request: Request, these: ServicesDep, known: Agent) -> Response:
    """One of these chunks that no neighbour has been given lately, and its place; 204 when there is none."""
    hashes = await read_body(request, MAX_CANDIDATES * HASH_BYTES)
    if not hashes or len(hashes) % HASH_BYTES:
        raise Invalid(f"Send 1 to {MAX_CANDIDATES} hashes of {HASH_BYTES} bytes.")
    wanted = [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]

    def give() -> tuple[str, int, bytes] | None:
        with these.read() as session:
            operation = checkin.is_working(session, known, id).operation_id
        place = these.peers.grant(id, wanted)
        return None if place is None else (operation, place, these.store.frame(wanted[place]))

    given = await run_in_threadpool(give)
    if given is None:
        return Response(status_code=204, headers={"Retry-After": str(random.randint(1, 2))})
    operation, place, frame = given
    answer = PacedResponse(frame, media_type=OCTETS, headers={"X-Pxeboot-Place": str(place)})
    answer.gate = these.sessions.transfers.gate(operation, asked(request))
    return answer
