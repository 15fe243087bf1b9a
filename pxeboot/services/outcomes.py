"""An agent's last word on a task: believed if it can be true, and kept with what it tells of the disk."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlmodel import Session

from pxeboot.db.models import Host, ImageVersion, Operation, Task, TaskState
from pxeboot.errors import Conflict
from pxeboot.services import lookup, tasks
from pxeboot.services.present import task_views
from pxeboot.services.task_kinds import KINDS, Ended
from pxeboot.services.task_options import deploy_of
from pxeboot.services.task_states import FINAL, WORKING, move
from pxeboot.services.views import TaskView


def outcome(
    session: Session,
    task_id: str,
    *,
    attempt: int,
    ok: bool,
    reason: str,
    code: str,
    verified: bool,
    manifest: str | None,
    bytes_multicast: int,
    bytes_http: int,
    seconds: dict[str, float],
    chunks: dict[str, int],
    now: datetime,
    told: dict[str, Any] | None = None,
    bytes_peers: int = 0,
    way: str = "",
    way_reason: str = "",
) -> TaskView:
    """The agent's last word. A repeated one is heard and changes nothing.

    A deploy is done only when verified (unless it was asked for without) and holding the manifest it was
    given, a capture only when its version exists; an agent that claims otherwise gets
    failed(outcome-contradicts). `told`: what else it did (grown, renewed, customised, left out …). Conflict
    when another boot took the task over.
    """
    task = tasks.row(session, task_id)
    if task.state in FINAL:
        return task_views(session, [task])[0]
    if task.attempt != attempt or task.state not in WORKING:
        raise Conflict("Another boot of this machine has taken the task over.", task=task_id)
    kind = KINDS[task.kind]
    whole, must_verify, expected = _asked_for(session, task)
    if ok:
        doubt = kind.doubt(Ended(task, verified, manifest, expected, must_verify, told or {}))
        if doubt:
            ok, code, reason = False, "outcome-contradicts", doubt
    # What we know ourselves (a capture's version) counts more than what an agent says.
    result = {**(told or {}), **task.result, "chunks": chunks, **({"manifest": manifest} if manifest else {})}
    move(
        session,
        task_id,
        TaskState.DONE if ok else TaskState.FAILED,
        attempt=attempt,
        reason="" if ok else (reason or "The agent gave no reason.")[:1000],
        code="" if ok else (code or "agent-error")[:60],
        verified=verified and ok,
        bytes_multicast=bytes_multicast,
        bytes_peers=bytes_peers,
        bytes_http=bytes_http,
        way=way or task.way,
        way_reason=way_reason[:500] if way else task.way_reason,
        seconds=seconds,
        result=result,
        heard_at=now,
        finished_at=now,
    )
    session.refresh(task)
    host = session.get(Host, task.host_id)
    if host is not None and manifest and ok and kind.proves_disk and whole and (verified or must_verify):
        host.held_manifest, host.held_since = manifest, now
        session.add(host)
    tasks.ended(session, task, now)
    return task_views(session, [task])[0]


def _asked_for(session: Session, task: Task) -> tuple[bool, bool, str]:
    """(whether the whole disk was meant, whether it had to be verified, the manifest that was given)."""
    version = session.get(ImageVersion, task.version_id) if task.version_id else None
    if version is None:
        return True, True, ""
    operation = session.get(Operation, task.operation_id)
    assert operation is not None  # a foreign key
    options = deploy_of(operation.params, lookup.image(session, version.image_id).name)
    return options.partitions is None, options.verify, version.manifest
