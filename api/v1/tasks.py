"""`/api/v1/tasks`: one host's part of an operation, and the record of a wipe."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response

from api.v1.deps import ServicesDep, Viewer
from pxeboot.services import certificates, tasks
from pxeboot.services.certificates import Certificate
from pxeboot.services.views import TaskView

router = APIRouter(tags=["operations"])


@router.get("/tasks/{task}", operation_id="getTask")
def get_task(these: ServicesDep, who: Viewer, task: str) -> TaskView:
    """One task. Of an open debug shell, `result.shell` says where it is and what its host key is."""
    with these.read() as session:
        return tasks.get(session, task)


@router.get("/tasks/{task}/certificate", operation_id="getCertificate", response_model=Certificate)
def get_certificate(
    these: ServicesDep, who: Viewer, task: str, format: Literal["json", "text"] = "json"
) -> Response | Certificate:
    """What a wipe did to each disk, as JSON or as a page of text."""
    with these.read() as session:
        found = certificates.certificate(session, task)
    if format == "text":
        return Response(certificates.as_text(found), media_type="text/plain; charset=utf-8")
    return found
