"""What a machine boots now: facts from the database, the decision of `pxeboot.boot`, and the token for
it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from sqlmodel import Session, select

from pxeboot.boot.decide import (
    BootDecision,
    BootPolicy,
    Client,
    HostFacts,
    RulesInForce,
    TaskFacts,
    decide,
)
from pxeboot.boot.rules import BootRules, MenuEntry
from pxeboot.db.models import BootEntry, Group, Host, Task, TaskState
from pxeboot.services import attempts, boot_entries, boot_rules, entry_passwords, hosts, tasks, tokens
from pxeboot.services.auth import Throttle
from pxeboot.services.task_states import WORKING
from pxeboot.services.unit import note
from pxeboot.settings import Settings


@dataclass(frozen=True)
class Subject:
    """What is known of a machine that asks; `entries` are those of its menu."""

    host: HostFacts | None
    task: TaskFacts | None
    host_id: int | None = None
    task_id: str | None = None
    entries: tuple[MenuEntry, ...] = ()


@dataclass(frozen=True)
class Boot:
    """A decision with the token its script carries ("" when it needs none)."""

    decision: BootDecision
    token: str
    host_id: int | None
    task_id: str | None = None  # the task this boot is for


@dataclass(frozen=True)
class Chosen:
    """What came of a name and password typed at a menu: a decision to start the entry, or why not."""

    decision: BootDecision | None
    refused: Literal["", "wrong-password", "throttled", "not-offered"] = ""


def policy(settings: Settings, entries: tuple[MenuEntry, ...] = ()) -> BootPolicy:
    """The settings a decision depends on."""
    boot = settings.boot
    return BootPolicy(
        unknown_host=boot.unknown_host,
        menu_seconds=boot.menu_seconds,
        validity=timedelta(seconds=boot.token_seconds),
        rules=BootRules.parse({"local_boot": boot.local_boot, "default": boot.default, "menu": boot.menu}),
        entries=entries,
        quarantine_message=boot.quarantine_message,
    )


def rules_in_force(subject: Subject, settings: Settings) -> RulesInForce:
    """The boot rules of a machine, each with who says it."""
    return RulesInForce(subject.host, policy(settings))


def subject(session: Session, mac: str, uuid: str = "") -> Subject:
    """The facts about the machine with this MAC (else SMBIOS UUID)."""
    row = hosts.identify(session, mac, uuid)
    if row is None or row.id is None:
        return Subject(None, None, entries=boot_entries.menu_entries(session, None))
    return _subject(session, row, tasks.active(session, row.id))


def _subject(session: Session, row: Host, task: Task | None) -> Subject:
    group = session.get(Group, row.group_id) if row.group_id else None
    state: Literal["pending", "approved", "blocked"] = row.state.value
    host = HostFacts(
        row.name, state, group.name if group else "", boot_rules.own_rules(row), boot_rules.own_rules(group)
    )
    entries = boot_entries.menu_entries(session, row.group_id)
    if task is None:
        return Subject(host, None, row.id, entries=entries)
    # The first digits are enough for a sentence.
    facts = TaskFacts(task.id[:8], task.kind.value, task.state.value, task.attempt, task.max_attempts)
    return Subject(host, facts, row.id, task.id, entries)


def preview(
    session: Session, client: Client, *, uuid: str = "", settings: Settings, now: datetime
) -> BootDecision:
    """What it would boot now; changes nothing."""
    known = subject(session, client.mac, uuid)
    return decide(known.host, None, known.task, client, now, policy(settings, known.entries))


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
    rules = policy(settings, known.entries)
    decision = decide(known.host, None, known.task, client, now, rules)
    if known.host_id is not None:
        hosts.note_seen(session, client.mac, uuid=uuid, now=now)
    # Menus and entries, too: what they hold (password hashes, addresses of answers) is for that machine.
    is_private = decision.action in ("agent", "menu", "entry") or known.task is not None
    if is_private and not is_owner(address, client.mac):
        reason = f"{address} asked for {client.mac}, whose lease it does not hold, so it gets the local disk."
        _note(session, "boot.refused", reason, client, known, address)
        stranger = BootDecision("local", reason, decision.valid_until, local=decision.local)
        return Boot(stranger, "", known.host_id)
    task_id: str | None = None
    if known.task is not None and known.host_id is not None and known.host and known.host.state == "approved":
        lively = known.task.state in {state.value for state in (*WORKING, TaskState.BOOTING)}
        # Also when the decision is "local" because all attempts are used: the restart has ended the last
        # one.
        if decision.action == "agent" or lively:
            attempts.boot(session, known.host_id, now=now)
            row = session.get(Host, known.host_id)
            assert row is not None  # in the same transaction
            known = _subject(session, row, tasks.active(session, known.host_id))
            decision = decide(known.host, None, known.task, client, now, rules)
            task_id = known.task_id
    token = ""
    # A menu has none: it may wait for longer than a token lives. Who chooses to register asks again.
    if decision.action == "agent":
        if decision.mode != "task":
            task_id = None
        token = tokens.issue(
            session,
            mac=client.mac,
            address=address,
            # The agent says which way to register was chosen by what it asks for.
            mode="task" if decision.mode == "task" else "register",
            host_id=known.host_id,
            task_id=task_id,
            seconds=settings.boot.token_seconds,
            now=now,
        )
    _note(
        session,
        "boot.decided",
        decision.reason,
        client,
        known,
        address,
        action=decision.action,
        local=decision.local,
    )
    return Boot(decision, token, known.host_id, task_id if decision.action == "agent" else None)


_throttle = Throttle()
# Of an entry, over all machines: who makes up MACs and addresses starts the other count anew each time. Short
# waits, so that he cannot keep everybody else out.
_entry_throttle = Throttle(free=100, longest=10.0)


def choose(
    session: Session,
    client: Client,
    name: str,
    *,
    uuid: str = "",
    user: str,
    password: str,
    address: str,
    is_owner: Callable[[str, str], bool],
    settings: Settings,
    now: datetime,
) -> Chosen:
    """Somebody at an iPXE menu chose the protected entry `name`, whose user name is its own. Changes nothing.

    Only what that machine's menu offers now is given, so neither a stranger nor a machine in an exam gets it.
    Failures of a machine or an address at an entry slow down further ones; many at one entry slow down all.
    """
    known = subject(session, client.mac, uuid)
    decision = decide(known.host, None, known.task, client, now, policy(settings, known.entries))
    entry = next((each for each in decision.entries if each.name == name and each.protected), None)
    if decision.action != "menu" or entry is None or not is_owner(address, client.mac):
        return Chosen(None, "not-offered")
    keys = (f"{name} of {client.mac}", f"{name} at {address}")  # who knows one entry's password gains nothing
    if _entry_throttle.wait(name, now) > 0 or not _throttle.begin(keys, now):
        return Chosen(None, "throttled")
    _entry_throttle.failed(name, now)  # until we know better
    sealed = session.exec(select(BootEntry.password_hash).where(BootEntry.name == name)).one()
    right = entry_passwords.verifies(sealed, password) and user == entry.name
    if not right:
        return Chosen(None, "wrong-password")
    for key in keys:
        _throttle.succeeded(key)
    _entry_throttle.forgive(name)
    reason = f"At the menu of {client.mac}, {entry.title} was chosen with its password."
    return Chosen(replace(decision, action="entry", reason=reason, entry=entry, entries=()))


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
