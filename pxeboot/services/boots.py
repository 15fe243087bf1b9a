"""What a machine boots now: facts from the database, the decision of `pxeboot.boot`, and the token for
it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlmodel import Session

from pxeboot.boot.decide import BootDecision, BootPolicy, Client, HostFacts, TaskFacts, decide
from pxeboot.db.models import Host, Task, TaskState
from pxeboot.services import hosts, tasks, tokens
from pxeboot.services.task_states import WORKING
from pxeboot.services.unit import note
from pxeboot.settings import Settings


@dataclass(frozen=True)
class Subject:
    """What is known of a machine that asks."""

    host: HostFacts | None
    task: TaskFacts | None
    host_id: int | None = None
    task_id: str | None = None


@dataclass(frozen=True)
class Boot:
    """A decision with the token its script carries ("" when it needs none)."""

    decision: BootDecision
    token: str
    host_id: int | None
    task_id: str | None = None  # the task this boot is for


def policy(settings: Settings) -> BootPolicy:
    """The settings a decision depends on."""
    return BootPolicy(
        unknown_host="ignore" if settings.boot.unknown_host == "ignore" else "menu",
        menu_seconds=settings.boot.menu_seconds,
        validity=timedelta(seconds=settings.boot.token_seconds),
    )


def subject(session: Session, mac: str, uuid: str = "") -> Subject:
    """The facts about the machine with this MAC (else SMBIOS UUID)."""
    row = hosts.identify(session, mac, uuid)
    if row is None or row.id is None:
        return Subject(None, None)
    return _subject(row, tasks.active(session, row.id))


def _subject(row: Host, task: Task | None) -> Subject:
    state: Literal["pending", "approved", "blocked"] = row.state.value
    if task is None:
        return Subject(HostFacts(row.name, state), None, row.id)
    # The first digits are enough for a sentence.
    facts = TaskFacts(task.id[:8], task.kind.value, task.state.value, task.attempt, task.max_attempts)
    return Subject(HostFacts(row.name, state), facts, row.id, task.id)


def preview(
    session: Session, client: Client, *, uuid: str = "", settings: Settings, now: datetime
) -> BootDecision:
    """What it would boot now; changes nothing."""
    known = subject(session, client.mac, uuid)
    return decide(known.host, None, known.task, client, now, policy(settings))


def begin(
    session: Session,
    client: Client,
    *,
    address: str,
    uuid: str = "",
    is_owner: Callable[[str, str], bool],
    settings: Settings,
    now: datetime,
) -> Boot:
    """A loader fetches its script: decide, count the attempt, make the token.

    `is_owner(address, mac)`: whether the one who asks may speak for this MAC (its lease, or the neighbour
    table). A stranger is shown the local disk, gets no token, and cannot disturb the machine's task.
    """
    known = subject(session, client.mac, uuid)
    rules = policy(settings)
    decision = decide(known.host, None, known.task, client, now, rules)
    if known.host_id is not None:
        hosts.note_seen(session, client.mac, uuid=uuid, now=now)
    wants_token = decision.action in ("agent", "menu")
    if (wants_token or known.task is not None) and not is_owner(address, client.mac):
        reason = f"{address} asked for {client.mac}, whose lease it does not hold, so it gets the local disk."
        _note(session, "boot.refused", reason, client, known, address)
        return Boot(BootDecision("local", reason, decision.valid_until), "", known.host_id)
    task_id: str | None = None
    if known.task is not None and known.host_id is not None and known.host and known.host.state == "approved":
        lively = known.task.state in {state.value for state in (*WORKING, TaskState.BOOTING)}
        # Also when the decision is "local" because all attempts are used: the restart has ended the last
        # one.
        if decision.action == "agent" or lively:
            tasks.boot(session, known.host_id, now=now)
            row = session.get(Host, known.host_id)
            assert row is not None  # in the same transaction
            known = _subject(row, tasks.active(session, known.host_id))
            decision = decide(known.host, None, known.task, client, now, rules)
            task_id = known.task_id
    token = ""
    if decision.action in ("agent", "menu"):
        if decision.action == "menu":
            task_id = None
        token = tokens.issue(
            session,
            mac=client.mac,
            address=address,
            # One menu offers both ways to register; the agent says which was chosen by what it asks for.
            mode="task" if decision.action == "agent" else "register",
            host_id=known.host_id,
            task_id=task_id,
            seconds=settings.boot.token_seconds,
            now=now,
        )
    _note(session, "boot.decided", decision.reason, client, known, address, action=decision.action)
    return Boot(decision, token, known.host_id, task_id if decision.action == "agent" else None)


def _note(
    session: Session, kind: str, sentence: str, client: Client, known: Subject, address: str, **data: str
) -> None:
    note(
        session,
        "boot",
        kind,
        sentence,
        host_id=known.host_id,
        mac=client.mac,
        task_id=known.task_id,
        data={"address": address, "firmware": client.firmware, "loader": client.loader, **data},
    )
