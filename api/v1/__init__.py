"""The admin API for scripts: `/api/v1`, bearer tokens, RFC 9457 errors."""

from fastapi import APIRouter

from api.v1 import (
    boot_entries,
    customise,
    doctor,
    events,
    exchange,
    groups,
    hosts,
    images,
    jobs,
    leases,
    operations,
    rescues,
    schedules,
    server,
    settings,
    store,
    tasks,
    tokens,
)

router = APIRouter(prefix="/api/v1")
PARTS = (
    hosts,
    groups,
    boot_entries,
    customise,
    images,
    store,
    exchange,
    operations,
    tasks,
    rescues,
    jobs,
    schedules,
    leases,
    tokens,
    events,
    doctor,
    server,
    settings,
)
for part in PARTS:
    router.include_router(part.router)
