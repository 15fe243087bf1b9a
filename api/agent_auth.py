"""Who calls on the task plane, and how much it may say at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.v1.deps import ServicesDep
from pxeboot.adapters.shaper import Gate
from pxeboot.errors import Invalid, Unauthorized
from pxeboot.services import tokens
from pxeboot.services.tokens import Credential

bearer = HTTPBearer(auto_error=False)
OCTETS = "application/octet-stream"


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


async def pieces_of(request: Request, gate: Gate | None = None) -> AsyncIterator[bytes]:
    """A request's body as it comes; each piece waits for its turn at the gate. Meanwhile nothing more is
    taken from the socket, so that the client can send no faster."""
    async for data in request.stream():
        if gate is not None and data:
            await gate.enter(len(data))
        yield data


async def read_body(request: Request, limit: int, gate: Gate | None = None) -> bytes:
    """A request's whole body, if it is not longer than `limit` bytes. Invalid otherwise."""
    taken = bytearray()
    async for data in pieces_of(request, gate):
        taken += data
        if len(taken) > limit:
            raise Invalid(f"The body is longer than {limit} bytes.")
    return bytes(taken)
