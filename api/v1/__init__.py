"""The admin API for scripts: `/api/v1`, bearer tokens, RFC 9457 errors."""

from fastapi import APIRouter

from api.v1 import boot_entries, doctor, events, groups, hosts, images, operations, schedules, tokens

router = APIRouter(prefix="/api/v1")
for part in (hosts, groups, boot_entries, images, operations, schedules, tokens, events, doctor):
    router.include_router(part.router)
