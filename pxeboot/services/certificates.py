"""What a wipe did to each disk, as a record to be kept or printed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlmodel import Session

from pxeboot.db.models import Host, Operation, TaskKind
from pxeboot.errors import Conflict
from pxeboot.services import tasks
from pxeboot.services.views import View


class Certificate(View):
    """One wiped machine."""

    task_id: str
    operation_id: str
    host: str
    machine_serial: str = ""
    manufacturer: str = ""
    product: str = ""
    uuid: str = ""
    asked_by: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    complete: bool  # every disk is proved to be wiped
    reason: str = ""  # why not
    disks: list[dict[str, Any]]


def certificate(session: Session, task_id: str) -> Certificate:
    """NotFound(task); Conflict when it is no wipe, or not over."""
    task = tasks.row(session, task_id)
    if task.kind != TaskKind.WIPE:
        raise Conflict(f"A {task.kind.value} has no certificate; a wipe has.")
    if task.finished_at is None:
        raise Conflict("This wipe is not over yet.")
    host = session.get(Host, task.host_id)
    operation = session.get(Operation, task.operation_id)
    disks = [disk for disk in task.result.get("wipe") or [] if isinstance(disk, dict)]
    return Certificate(
        task_id=task.id,
        operation_id=task.operation_id,
        host=host.name if host else "",
        machine_serial=host.serial if host else "",
        manufacturer=host.manufacturer if host else "",
        product=host.product if host else "",
        uuid=host.uuid if host else "",
        asked_by=operation.created_by if operation else "",
        started_at=task.started_at,
        finished_at=task.finished_at,
        complete=task.state.value == "done" and bool(disks),
        reason=task.reason,
        disks=disks,
    )


def as_text(found: Certificate) -> str:
    """A page of plain text."""
    lines = [
        "RECORD OF DISK ERASURE",
        "",
        f"Machine        {found.host}  {found.manufacturer} {found.product}".rstrip(),
        f"Serial number  {found.machine_serial}",
        f"UUID           {found.uuid}",
        f"Asked for by   {found.asked_by}",
        f"Began          {_time(found.started_at)}",
        f"Ended          {_time(found.finished_at)}",
        f"Result         {'all disks wiped and verified' if found.complete else 'NOT COMPLETE'}",
        *([f"Reason         {found.reason}"] if found.reason else []),
        f"Task           {found.task_id}",
    ]
    for number, disk in enumerate(found.disks, start=1):
        proof = _mapping(disk.get("proof"))
        lines += [
            "",
            f"Disk {number}",
            f"  Model         {disk.get('model', '')}",
            f"  Serial        {disk.get('serial', '')}",
            f"  Size          {disk.get('size', '')} bytes",
            f"  Method        {disk.get('method', '') or '-'} (asked: {disk.get('asked', '')})",
            f"  Passes        {disk.get('passes', '')}",
            f"  Seconds       {disk.get('seconds', '')}",
            f"  Verified      {'yes' if disk.get('verified') else 'NO'}: "
            f"{proof.get('samples', 0)} places read again, "
            f"{proof.get('zeros', 0)} zeros, {proof.get('unchanged', 0)} unchanged, "
            f"{proof.get('unreadable', 0)} unreadable",
        ]
        lines += [f"  Note          {text}" for text in disk.get("notes") or []]
        lines += [f"  Error         {disk['error']}"] if disk.get("error") else []
    return "\n".join(lines) + "\n"


def _time(value: datetime | None) -> str:
    return value.isoformat(timespec="seconds") if value else ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
