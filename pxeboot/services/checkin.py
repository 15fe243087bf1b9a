"""Check-in: the agent of a freshly booted machine shows its token and inventory and is told what to do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlmodel import Session

from pxeboot.boot.decide import Client, Firmware
from pxeboot.db.models import Host, ImageVersion, Operation, Task, TaskState
from pxeboot.errors import Unauthorized
from pxeboot.services import boots, hosts, lookup, tasks, tokens
from pxeboot.services.present import host_view, task_views
from pxeboot.services.task_kinds import KINDS
from pxeboot.services.task_options import for_task
from pxeboot.services.unit import changed, note
from pxeboot.services.views import HostView, TaskView, View
from pxeboot.settings import Settings


class CheckIn(View):
    """What the agent is told."""

    credential: str
    host: HostView | None
    mode: str  # task | register-quick | register-full
    task: TaskView | None


class TaskOrder(View):
    """What an agent must know about its task, but for the multicast session."""

    id: str
    kind: str
    attempt: int
    disk: dict[str, str]
    image: dict[str, Any]
    manifest: str
    force_full: bool
    options: dict[str, dict[str, Any]]  # {"capture" or "deploy": {…}}: what differs from the defaults
    customise: dict[str, Any]
    then: str
    transport: str
    operation_id: str


def checkin(
    session: Session,
    *,
    token: str,
    mac: str,
    address: str,
    agent: str,
    inventory: dict[str, Any],
    now: datetime,
    same_machine: Callable[[str, str], bool],
    settings: Settings,
) -> CheckIn:
    """Exchange the token, note what the machine is, claim its task.

    Unauthorized as `tokens.exchange`. A task that was cancelled or taken over since the boot script is
    not given.
    """
    own = lookup.normal_mac(mac)
    if own is None:
        raise Unauthorized("A check-in needs the MAC address the machine booted with.", "token-foreign")
    credential, known = tokens.exchange(
        session, token, mac=own, address=address, inventory=inventory, now=now, same_machine=same_machine
    )
    host = session.get(Host, known.host_id) if known.host_id else None
    if host is None:
        host = hosts.identify(session, own, str(inventory.get("uuid") or ""))
    given: Task | None = None
    if host is not None:
        hosts.note_inventory(session, host, inventory)
        host.address, host.seen_at = address, now
        session.add(host)
        tokens.bind(session, credential, host_id=host.id if known.mode == "task" else None)
        changed(session, "host", host.id, host_id=host.id)
        given = _claim(session, credential, host, known.task_id, own, inventory, settings, now)
    who = host.name if host else "an unregistered machine"
    doing = given.kind.value if given else ("registration" if known.mode != "task" else "nothing to do")
    note(
        session,
        "agent",
        "agent.checked-in",
        f"The agent of {who} checked in from {address}: {doing}.",
        host_id=host.id if host else None,
        mac=own,
        operation_id=given.operation_id if given else None,
        task_id=given.id if given else None,
        data={"agent": agent[:60], "mode": known.mode},
    )
    return CheckIn(
        credential=credential,
        host=host_view(session, host) if host else None,
        mode=known.mode,
        task=task_views(session, [given])[0] if given else None,
    )


def _claim(
    session: Session,
    credential: str,
    host: Host,
    task_id: str | None,
    mac: str,
    inventory: dict[str, Any],
    settings: Settings,
    now: datetime,
) -> Task | None:
    """The task, if what the boot script said still holds: `decide` has the word, as for the loaders."""
    if task_id is None:
        return None
    firmware: Firmware = "bios" if inventory.get("firmware") == "bios" else "uefi-x64"
    decision = boots.preview(
        session, Client(mac, firmware, "agent"), uuid=host.uuid, settings=settings, now=now
    )
    if decision.action != "agent":
        return None
    if not tasks.claim(session, task_id, now=now):
        return None
    task = tasks.row(session, task_id)
    if KINDS[task.kind].changes_disk:
        tasks.touch_disk(session, task)
    tokens.bind(session, credential, attempt=task.attempt)
    return task


def order(session: Session, task_id: str, settings: Settings) -> TaskOrder:
    """The task as its agent needs it. NotFound(task)."""
    task = tasks.row(session, task_id)
    operation = session.get(Operation, task.operation_id)
    assert operation is not None  # a foreign key
    host = session.get(Host, task.host_id)
    params = operation.params
    version = session.get(ImageVersion, task.version_id) if task.version_id else None
    name = ""
    kind = KINDS[task.kind]
    if kind.brings_manifest:
        name = str(params.get("image") or "")
    elif version is not None:
        name = lookup.image(session, version.image_id).name
    disk = params.get("disk") or {}
    return TaskOrder(
        id=task.id,
        kind=task.kind.value,
        attempt=task.attempt,
        disk={"rule": str(disk.get("rule", "only")), "value": str(disk.get("value", ""))},
        image={"name": name, "version": version.number if version else None},
        manifest=version.manifest if version else "",
        force_full=bool(params.get("force_full")),
        options={kind.options.NAME: for_task(kind.options.NAME, params, name)} if kind.options else {},
        customise={"hostname": host.name if host and params.get("set_hostname", True) else None},
        then=str(params.get("then") or settings.tasks.then),
        transport=operation.transport,
        operation_id=operation.id,
    )


def is_working(session: Session, known: tokens.Credential, task_id: str) -> Task:
    """The task this credential works on. Unauthorized(token-foreign) for another one's, or one taken
    over or ended."""
    if known.task_id != task_id:
        raise Unauthorized("This credential is for another task.", "token-foreign")
    task = tasks.row(session, task_id)
    if task.attempt != known.attempt or task.state not in (TaskState.RUNNING, TaskState.VERIFYING):
        raise Unauthorized("This task is no longer this agent's: it was ended or taken over.", "task-over")
    return task
