"""Boot tokens and agent credentials: how a machine that just booted proves that we told it to.

A boot script carries a one-time token, bound to MAC, address, task and time. The agent exchanges it once
for a credential
that is good for this boot. Only SHA-256 hashes are stored; 256 random bits need no slow hash.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field
from sqlalchemy import CursorResult, update
from sqlmodel import Session, col, delete, or_, select

from pxeboot.db.models import AgentCredential, BootToken, Task
from pxeboot.errors import Unauthorized
from pxeboot.services.views import View

CREDENTIAL_LIFE = timedelta(days=14)  # overwriting a large disk several times takes days
MAX_STRANGERS = (
    2000  # unused tokens of machines nobody registered; a flood of made-up MACs drives out only its own
)
MEMORY = timedelta(days=1)  # how long we can still say why a token is refused
NO_TOKEN = "A" * 43  # what a HEAD request is shown: as long as a real one, and good for nothing


class Credential(View):
    """Who an agent is. `host_id` is None until the machine is registered."""

    mac: str
    address: str
    mode: str  # task | register-quick | register-full
    host_id: int | None = None
    task_id: str | None = None
    attempt: int = 0
    inventory: dict[str, Any] = Field(default_factory=dict)


def digest(text: str) -> str:
    """What is stored of a secret."""
    return hashlib.sha256(text.encode()).hexdigest()


def issue(
    session: Session,
    *,
    mac: str,
    address: str,
    mode: str,
    host_id: int | None,
    task_id: str | None,
    seconds: int,
    now: datetime,
) -> str:
    """A new token of 43 characters; it replaces the machine's older unused ones."""
    session.execute(
        update(BootToken)
        .where(col(BootToken.mac) == mac, col(BootToken.used_at).is_(None), col(BootToken.expires_at) > now)
        .values(expires_at=now)
    )
    session.execute(delete(BootToken).where(col(BootToken.expires_at) < now - MEMORY))
    if host_id is None:
        session.execute(
            delete(BootToken).where(
                col(BootToken.hash).in_(
                    select(BootToken.hash)
                    .where(col(BootToken.host_id).is_(None), col(BootToken.used_at).is_(None))
                    .order_by(col(BootToken.created_at).desc())
                    .offset(MAX_STRANGERS - 1)
                )
            )
        )
    token = secrets.token_urlsafe(32)
    session.add(
        BootToken(
            hash=digest(token),
            mac=mac,
            address=address,
            mode=mode,
            host_id=host_id,
            task_id=task_id,
            created_at=now,
            expires_at=now + timedelta(seconds=seconds),
        )
    )
    session.flush()
    return token


def exchange(
    session: Session,
    token: str,
    *,
    mac: str,
    address: str,
    inventory: dict[str, Any],
    now: datetime,
    same_machine: Callable[[str, str], bool] = lambda address, mac: False,
) -> tuple[str, Credential]:
    """Turn a token into a credential, once. `same_machine(address, mac)` may vouch for another address
    of that MAC.

    Unauthorized: token-unknown, token-used, token-expired, token-foreign (the token stays good for its
    owner).
    """
    row = session.get(BootToken, digest(token))
    if row is None:
        raise Unauthorized("This boot token is unknown; start the machine again.", "token-unknown")
    if row.used_at is not None:
        raise Unauthorized("This boot token was used already; start the machine again.", "token-used")
    if row.expires_at <= now:
        raise Unauthorized(
            "This boot token has expired or was replaced by a newer boot; start the machine again.",
            "token-expired",
        )
    # The operating system of the agent may hold another lease than the firmware did (other client
    # identifier,
    # RFC 4361), so the address may differ; then the lease or the neighbour table must name the same MAC.
    if row.mac != mac or (row.address != address and not same_machine(address, mac)):
        raise Unauthorized("This boot token belongs to another machine.", "token-foreign")
    result = session.execute(
        update(BootToken)
        .where(col(BootToken.hash) == row.hash, col(BootToken.used_at).is_(None))
        .values(used_at=now)
    )
    assert isinstance(result, CursorResult)
    if result.rowcount != 1:
        raise Unauthorized("This boot token was used already; start the machine again.", "token-used")
    # One machine runs one agent: an older one of it, wherever it hangs, is shut out now.
    older = [col(AgentCredential.mac) == mac]
    if row.host_id is not None:
        older.append(col(AgentCredential.host_id) == row.host_id)
    session.execute(delete(AgentCredential).where(or_(*older, col(AgentCredential.expires_at) < now)))
    credential = secrets.token_urlsafe(32)
    entry = AgentCredential(
        hash=digest(credential),
        mac=mac,
        address=address,
        mode=row.mode,
        host_id=row.host_id,
        task_id=row.task_id,
        inventory=inventory,
        created_at=now,
        expires_at=now + CREDENTIAL_LIFE,
    )
    session.add(entry)
    session.flush()
    return credential, _view(entry)


def authenticate(session: Session, credential: str, *, now: datetime) -> Credential:
    """Who holds this credential. Unauthorized: credential-unknown, credential-expired."""
    row = session.get(AgentCredential, digest(credential)) if credential else None
    if row is None:
        raise Unauthorized(
            "This credential is unknown: the machine has booted again since, or never checked in.",
            "credential-unknown",
        )
    if row.expires_at <= now:
        raise Unauthorized("This credential has expired; start the machine again.", "credential-expired")
    return _view(row)


def work_of(session: Session, credential: str, *, now: datetime) -> tuple[str, str]:
    """The operation and the task this credential works on, "" for none. Unauthorized as `authenticate`.

    One statement and no rows made into objects: it is asked for each chunk.
    """
    found = session.execute(
        select(col(AgentCredential.expires_at), col(Task.operation_id), col(Task.id))
        .outerjoin(Task, col(Task.id) == col(AgentCredential.task_id))
        .where(AgentCredential.hash == digest(credential))
    ).first()
    if found is None or found[0] <= now:
        authenticate(session, credential, now=now)  # says what is wrong with it
    return (found[1] or "", found[2] or "") if found else ("", "")


def bind(
    session: Session,
    credential: str,
    *,
    host_id: int | None = None,
    attempt: int | None = None,
    task_id: str | None = None,
) -> None:
    """Say which host, task and attempt a credential now stands for."""
    row = session.get(AgentCredential, digest(credential))
    if row is None:
        return
    row.host_id = host_id if host_id is not None else row.host_id
    row.attempt = attempt if attempt is not None else row.attempt
    row.task_id = task_id if task_id is not None else row.task_id
    session.add(row)
    session.flush()


def revoke(session: Session, *, host_id: int) -> None:
    """Shut out the agents of a host and take back its unused tokens."""
    session.execute(delete(AgentCredential).where(col(AgentCredential.host_id) == host_id))
    session.execute(
        delete(BootToken).where(col(BootToken.host_id) == host_id, col(BootToken.used_at).is_(None))
    )


def unused(session: Session, mac: str, *, now: datetime) -> bool:
    """Whether a token for this machine is out that nobody used yet."""
    return (
        session.exec(
            select(BootToken).where(
                BootToken.mac == mac, col(BootToken.used_at).is_(None), BootToken.expires_at > now
            )
        ).first()
        is not None
    )


def _view(row: AgentCredential) -> Credential:
    return Credential(**row.model_dump(exclude={"hash", "created_at", "expires_at"}))
