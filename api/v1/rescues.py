"""`/api/v1/rescues`: archives of files that were copied out of machines; for administrators."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse

from api.v1.deps import Admin, Cursor, Limit, ServicesDep
from pxeboot.services import rescues
from pxeboot.services.rescues import RescueView
from pxeboot.services.views import Page

router = APIRouter(tags=["rescues"])


@router.get("/rescues", operation_id="listRescues")
def list_rescues(
    these: ServicesDep, who: Admin, host: str | None = None, limit: Limit = 50, cursor: Cursor = None
) -> Page[RescueView]:
    """Newest first."""
    with these.read() as session:
        return rescues.list_rescues(session, host=host, cursor=cursor, limit=limit)


@router.get("/rescues/{rescue}", operation_id="getRescue")
def get_rescue(these: ServicesDep, who: Admin, rescue: str) -> RescueView:
    """One archive: what is in it, and what could not be read."""
    with these.read() as session:
        return rescues.get(session, rescue)


@router.get("/rescues/{rescue}/archive", operation_id="downloadRescue", response_class=FileResponse)
def download_rescue(these: ServicesDep, who: Admin, rescue: str) -> FileResponse:
    """The archive: tar, compressed with zstd (Range)."""
    with these.write() as session:
        found = rescues.downloaded(session, rescue, actor=who.name)
    return archive_response(these.rescues.path(found.id), found)


def archive_response(path: object, found: RescueView) -> FileResponse:
    """The bytes under a name that says whose they are."""
    name = f"{found.host or 'rescue'}-{found.created_at:%Y%m%d-%H%M}.tar.zst"
    return FileResponse(
        str(path), media_type="application/zstd", filename=name, headers={"X-Pxeboot-Blake3": found.blake3}
    )


@router.delete("/rescues/{rescue}", status_code=204, operation_id="deleteRescue")
def delete_rescue(these: ServicesDep, who: Admin, rescue: str) -> Response:
    """Delete an archive for good."""
    with these.write() as session:
        id = rescues.get(session, rescue).id
        rescues.delete(session, id, actor=who.name)
    these.rescues.remove(id)
    return Response(status_code=204)
