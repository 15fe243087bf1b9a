"""Why: what would this host boot now, for which reason, and what did it do last."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from sqlmodel import Session

from pxeboot.boot.decide import BootDecision, Client
from pxeboot.errors import NotFound
from pxeboot.services import boots, hosts, journal, lookup, tasks
from pxeboot.services.present import host_view, task_views
from pxeboot.services.views import EventView, HostView, TaskView, View
from pxeboot.settings import Settings

PLANES = ("dhcp", "tftp", "http", "boot", "agent")


class RuleTold(View):
    """One boot rule, and who says it: the host, its group, the site, or nobody ("built in")."""

    key: str
    value: str
    origin: str


class Explanation(View):
    """The answer to "why?"."""

    host: HostView | None  # None: nobody registered this MAC
    mac: str
    action: str  # local | menu | agent | entry | refuse
    reason: str  # one sentence
    sentences: list[str]  # the whole story, to be read
    task: TaskView | None  # what it is busy with
    last_task: TaskView | None  # what it finished last
    events: list[EventView]  # its journal, newest first
    local: str  # how its own disk is started
    rules: list[RuleTold]  # the boot rules in force
    last_by_plane: list[EventView]  # the last thing that each of `PLANES` said to it


def explain(
    session: Session, key: str | int, *, settings: Settings, now: datetime, events: int = 20
) -> Explanation:
    """By name, id, MAC or UUID; a MAC that nobody registered is explained too. NotFound(host)."""
    text = str(key)
    mac = lookup.normal_mac(text) or ""
    row = hosts.identify(session, mac) if mac else None
    if row is None:
        try:
            row = lookup.host(session, key)
        except NotFound:
            if not mac:
                raise
    view = host_view(session, row) if row else None
    mac = mac or (view.macs[0] if view and view.macs else "")
    firmware = "uefi-x64" if row and row.firmware == "uefi" else "bios" if row and row.firmware else "unknown"
    decision = boots.preview(
        session,
        Client(mac, firmware),  # type: ignore[arg-type]  # one of its literals
        uuid=row.uuid if row else "",
        settings=settings,
        now=now,
    )
    own, by_mac = (str(row.id), None) if row else (None, mac)
    lines = journal.list_events(session, host=own, mac=by_mac, limit=max(1, min(events, 500))).items
    dialogue = [
        event
        for plane in PLANES
        for event in journal.list_events(session, host=own, mac=by_mac, plane=plane, limit=1).items
    ]
    known = boots.subject(session, mac, row.uuid if row else "")
    rules = [
        RuleTold(key=key, value=value, origin=origin)
        for key, value, origin in boots.rules_in_force(known, settings).told()
    ]
    last = tasks.last_finished(session, row.id or 0) if row else None
    last_view = task_views(session, [last])[0] if last else None
    return Explanation(
        host=view,
        mac=mac,
        action=decision.action,
        reason=decision.reason,
        sentences=list(_story(view, mac, decision, rules, last_view, lines, dialogue)),
        task=view.task if view else None,
        last_task=last_view,
        events=lines,
        local=decision.local,
        rules=rules,
        last_by_plane=dialogue,
    )


def _story(
    host: HostView | None,
    mac: str,
    decision: BootDecision,
    rules: list[RuleTold],
    last: TaskView | None,
    events: list[EventView],
    dialogue: list[EventView],
) -> Iterator[str]:
    yield decision.reason
    if decision.message:
        yield f"Before that it is shown: {decision.message}"
    if decision.action == "menu":
        names = ", ".join(entry.name for entry in decision.entries)
        wait = f"after {decision.menu_seconds} s" if decision.menu_seconds else "never by itself"
        yield f"The menu takes {decision.default} {wait}" + (f"; extra entries: {names}." if names else ".")
    yield "Boot rules: " + ", ".join(f"{r.key} = {r.value} ({r.origin})" for r in rules) + "."
    if host is not None:
        seen = f"last seen {_when(host.seen_at)}" if host.seen_at else "never seen yet"
        where = f" in group {host.group}" if host.group else ""
        yield f"{host.name} is {host.state}{where}, {seen}" + (
            f" at {host.address}." if host.address else "."
        )
        if host.held_version and host.held_since:
            yield f"Its disk was proved to hold {host.held_version} at {_when(host.held_since)}."
        if host.task:
            step = f", stage {host.task.stage}" if host.task.stage else ""
            share = f" {host.task.percent} %" if host.task.percent is not None else ""
            yield (
                f"It is busy: {host.task.kind} is {host.task.state}{step}{share}, "
                f"attempt {host.task.attempt} of {host.task.max_attempts}."
            )
    if last is not None and last.finished_at is not None:
        why = f": {last.reason}" if last.reason else "."
        yield f"Last task: {last.kind}, {last.state} at {_when(last.finished_at)}{why}"
    for event in dialogue:
        yield f"Last of {event.plane}: {_when(event.at)} {event.sentence}"
    if events:
        yield f"Last event: {_when(events[0].at)} {events[0].sentence}"
    elif host is None:
        yield f"Nothing was ever heard of {mac}."


def _when(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
