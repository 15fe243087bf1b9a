"""Deploy an image version to a group, now or at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Form, Request, Response
from pydantic import ValidationError

from api.v1.schedules import in_zone
from pxeboot.errors import AppError, Invalid
from pxeboot.services import groups, images, operations, schedules
from pxeboot.services.views import OperationRequest
from webui import forms
from webui.guard import AdminForm, PageRoute, Reader, ServicesDep
from webui.render import page, redirect, translate
from webui.views.images import Sent, texts

router = APIRouter(route_class=PageRoute)
NO_OPTIONS = {
    "grow": "", "shrink": "", "identities": "", "discard": "", "verify": "", "partitions": "", "rule": "only",
    "disk": "", "limit": "", "priority": "normal",
}  # fmt: skip


def _form(
    request: Request, these: ServicesDep, form: dict[str, Any], error: str = "", status: int = 200
) -> Response:
    with these.read() as session:
        rooms = groups.list_groups(session, limit=500).items
        lines = images.list_images(session, limit=500).items
        versions = [version for line in lines for version in images.versions(session, line.id)]
    opened = any(form[name] != value for name, value in NO_OPTIONS.items())
    return page(
        request,
        "deploy.html",
        status=status,
        groups=rooms,
        images=[line for line in lines if line.versions],
        versions=versions,
        form=form,
        opened=opened,
        error=error,
    )


@router.get("/deploy")
def deploy_form(
    request: Request, these: ServicesDep, who: Reader, group: str = "", image: str = ""
) -> Response:
    """The form, with a time a few minutes ahead ready to be taken."""
    zone = these.settings.server.zone
    soon = (datetime.now(ZoneInfo(zone)) + timedelta(minutes=5)).replace(second=0, microsecond=0, tzinfo=None)
    values = {
        "group": group, "image": image, "transport": "multicast", "when": "now", "at": soon.isoformat(),
        "cron": "", "zone": zone, "then": "", **NO_OPTIONS,
    }  # fmt: skip
    return _form(request, these, values)


@router.post("/deploy")
def deploy(
    request: Request,
    these: ServicesDep,
    who: AdminForm,
    form: Sent,
    group: Annotated[str, Form()] = "",
    image: Annotated[str, Form()] = "",
    transport: Annotated[str, Form()] = "multicast",
    when: Annotated[str, Form()] = "now",
    at: Annotated[str, Form()] = "",
    cron: Annotated[str, Form()] = "",
    zone: Annotated[str, Form()] = "Europe/Paris",
    then: Annotated[str, Form()] = "",
) -> Response:
    """Start it, or make the schedule; what is wrong is said above the button, the form keeps its values."""
    values = {
        "group": group, "image": image, "transport": transport, "when": when, "at": at,
        "cron": cron, "zone": zone, "then": then, **texts(form, NO_OPTIONS),
    }  # fmt: skip
    try:
        wanted = OperationRequest.model_validate(
            {
                "kind": "deploy",
                "group": group,
                "image": image,
                "transport": transport,
                "then": then or None,
                "disk": forms.disk_rule(values),
                "deploy": forms.deploy_options(values) or None,
                "limit_mbit": forms.mbit(values["limit"]),
                "priority": forms.priority(values["priority"] or "normal"),
            }
        )
        with these.write() as session:
            if when == "now":
                view = operations.start(session, wanted, actor=who.name, settings=these.settings)
                return redirect(f"/operations/{view.id}")
            schedules.create_schedule(
                session,
                name="",
                request=wanted,
                at=_moment(at, zone) if when == "at" else None,
                cron=cron.strip() if when == "cron" else "",
                zone=zone.strip(),
                actor=who.name,
                now=datetime.now(UTC),
            )
    except ValidationError as error:
        fields = ", ".join(str(item["loc"][-1]) for item in error.errors())
        return _form(request, these, values, f"{translate(request, 'Please correct:')} {fields}.", 422)
    except AppError as error:
        details = " ".join(
            f"{item['host']}: {item['msg']}" for item in error.data.get("errors", []) if "host" in item
        )
        return _form(request, these, values, f"{error.sentence} {details}".strip(), error.status)
    return redirect("/schedules", translate(request, "The deploy is scheduled."))


def _moment(text: str, zone: str) -> datetime:
    try:
        return in_zone(datetime.fromisoformat(text), zone)
    except ValueError as error:
        raise Invalid("Say when: a date and a time.") from error
