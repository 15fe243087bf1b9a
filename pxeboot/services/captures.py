"""What a capture leaves behind: chunks that were new, and at its end a version."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlmodel import Session, select

from pxeboot.db.models import Host, Image, ImageVersion, Operation
from pxeboot.errors import Invalid
from pxeboot.services import images, tasks
from pxeboot.services.present import version_view
from pxeboot.services.unit import changed
from pxeboot.services.views import VersionView


def note_upload(session: Session, task_id: str, *, attempt: int, bytes: int, now: datetime) -> None:
    """Count bytes that were new to the store; an upload is a sign of life, too."""
    task = tasks.row(session, task_id)
    task.result = {**task.result, "stored_bytes": int(task.result.get("stored_bytes", 0)) + bytes}
    session.add(task)
    session.flush()
    tasks.heard(session, task_id, attempt=attempt, now=now)


def finish(
    session: Session,
    task_id: str,
    *,
    manifest: str,
    disk_bytes: int,
    used_bytes: int,
    chunks: int,
    summary: dict[str, Any] | None = None,
) -> VersionView:
    """Number the version whose manifest is complete in the store. The same manifest sent again finds its
    version."""
    task = tasks.row(session, task_id)
    operation = session.get(Operation, task.operation_id)
    assert operation is not None  # a foreign key
    made = task.result.get("version_id")
    if made is not None:
        version = session.get(ImageVersion, int(made))
        if version is None or version.manifest != manifest:
            raise Invalid("This capture has sent another manifest already.")
        return version_view(
            session, session.exec(select(Image).where(Image.id == version.image_id)).one(), version
        )
    host = session.get(Host, task.host_id)
    view = images.add_version(
        session,
        str(operation.params.get("image") or ""),
        manifest=manifest,
        disk_bytes=disk_bytes,
        used_bytes=used_bytes,
        stored_bytes=int(task.result.get("stored_bytes", 0)),
        chunks=chunks,
        source_host=host.name if host else "",
        note_text=str(operation.params.get("note") or ""),
        summary=summary,
        actor=operation.created_by,
    )
    task.result = {**task.result, "version": view.name, "version_id": view.id}
    operation.version_id = view.id
    operation.image_id = session.exec(select(Image.id).where(Image.name == view.image)).one()
    session.add(task)
    session.add(operation)
    session.flush()
    changed(session, "operation", operation.id, operation_id=operation.id)
    return view
