"""`/api/v1/settings:reload`: the daemon reads its settings file again."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from api.v1.deps import Admin, ServicesDep
from pxeboot.errors import Conflict

router = APIRouter(tags=["settings"])


class SettingsReloaded(BaseModel):
    """Keys that have new values; keys whose new values wait for a restart; what may not be meant."""

    changed: list[str]
    kept: list[str]
    warnings: list[str]


@router.post("/settings:reload", operation_id="reloadSettings")
async def reload_settings(these: ServicesDep, who: Admin) -> SettingsReloaded:
    """Take over a changed settings file; 422 `settings-refused` with every mistake, and nothing changes."""
    if these.reload is None:
        raise Conflict("This server does not take new settings now: it is starting, or stopping. Try again.")
    done = await these.reload()
    return SettingsReloaded(changed=list(done.changed), kept=list(done.kept), warnings=list(done.warnings))
