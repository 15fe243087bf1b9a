"""All pages on one application: routes, static files, and errors as pages."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from webui.views import (
    account,
    customise,
    deploy,
    doctor,
    exchange,
    groups,
    home,
    hosts,
    images,
    journal,
    leases,
    menu,
    operations,
    other_tasks,
    schedules,
    sign_in,
    store,
    versions,
)

HERE = Path(__file__).resolve().parent


def mount(app: FastAPI) -> None:
    """Add the pages to an application that has `app.state.services`."""
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    pages = (
        sign_in,
        home,
        hosts,
        groups,
        versions,
        images,
        store,
        exchange,
        deploy,
        operations,
        other_tasks,
        schedules,
        menu,
        customise,
        leases,
        journal,
        doctor,
        account,
    )
    for part in pages:
        app.include_router(part.router, include_in_schema=False)
