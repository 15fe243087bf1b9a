"""The other tasks of a host or group: wipe, test, debug shell, rescue; and what they bring."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from api.v1.rescues import archive_response
from pxeboot.errors import AppError, Invalid
from pxeboot.services import certificates, groups, hosts, operations, rescues
from pxeboot.services.views import OperationRequest
from webui import forms
from webui.guard import AdminForm, PageRoute, Reader, ServicesDep
from webui.render import page, redirect, translate
from webui.views.images import Sent, texts

router = APIRouter(route_class=PageRoute)
FIELDS = {
    "kind": "", "group": "", "host": "", "then": "", "rule": "only", "disk": "", "confirm": "",
    "method": "auto", "passes": "1", "fallback": "", "verify": "samples", "countdown": "30",
    "memory": "1", "memory_mb": "", "smart": "short", "surface": "quick",
    "keys": "", "minutes": "60", "paths": "", "exclude": "", "limit_gb": "100",
}  # fmt: skip


def _form(
    request: Request, these: ServicesDep, form: dict[str, str], error: str = "", status: int = 200
) -> Response:
    with these.read() as session:
        if form["group"]:
            group = groups.get_group(session, form["group"])
            name, count = group.name, group.hosts
        else:
            name, count = hosts.get_host(session, form["host"]).name, 1
    return page(
        request,
        "other_tasks.html",
        status=status,
        form=form,
        name=name,
        count=count,
        site_keys=len(these.settings.shell.authorized_keys),
        error=error,
    )


@router.get("/tasks/new")
def new_task(request: Request, these: ServicesDep, who: Reader, host: str = "", group: str = "") -> Response:
    """The forms for one host, or for a group."""
    if bool(host) == bool(group):
        raise Invalid("Say which host, or which group.")
    return _form(request, these, {**FIELDS, "host": host, "group": group})


@router.post("/tasks/new")
def start_task(request: Request, these: ServicesDep, who: AdminForm, sent: Sent) -> Response:
    """Start one; what is wrong is said on the page, the form keeps its values."""
    form = texts(sent, FIELDS)
    try:
        wanted = OperationRequest.model_validate(
            {
                "kind": form["kind"],
                "hosts": [form["host"]] if form["host"] else [],
                "group": form["group"] or None,
                "then": form["then"] or None,
                "confirm": form["confirm"] or None,
                **_section(form),
            }
        )
        with these.write() as session:
            view = operations.start(session, wanted, actor=who.name, settings=these.settings)
    except ValidationError as error:
        fields = ", ".join(str(item["loc"][-1]) for item in error.errors())
        return _form(request, these, form, f"{translate(request, 'Please correct:')} {fields}.", 422)
    except AppError as error:
        return _form(request, these, form, error.sentence, error.status)
    return redirect(f"/operations/{view.id}")


def _section(form: dict[str, str]) -> dict[str, Any]:
    """The options of the form's kind. Invalid."""
    kind = form["kind"]
    said: dict[str, Any] = {}
    if kind in ("wipe", "test", "rescue"):
        said["disks"] = [{"rule": "all"}] if form["rule"] == "all" else [forms.disk_rule(form)]
    if kind == "wipe":
        said |= {"method": form["method"], "verify": form["verify"], "fallback": form["fallback"] == "yes"}
        said |= {key: forms.number(form[key], f"wipe.{key}") for key in ("passes", "countdown")}
    elif kind == "test":
        said |= {"smart": form["smart"], "surface": form["surface"]}
        said["memory"] = forms.number(form["memory"], "test.memory")
        said["memory_mb"] = forms.number(form["memory_mb"] or "0", "test.memory_mb")
    elif kind == "shell":
        said["keys"] = [line.strip() for line in form["keys"].splitlines() if line.strip()]
        said["minutes"] = forms.number(form["minutes"], "shell.minutes")
    elif kind == "rescue":
        said["paths"] = [line.strip() for line in form["paths"].splitlines() if line.strip()]
        said["exclude"] = [line.strip() for line in form["exclude"].splitlines() if line.strip()]
        said["limit_mb"] = 1000 * forms.number(form["limit_gb"], "rescue.limit_gb")
    return {kind: said} if said else {}


@router.get("/tasks/{task}/certificate")
def show_certificate(request: Request, these: ServicesDep, who: Reader, task: str) -> Response:
    """The record of a wipe, to be printed."""
    with these.read() as session:
        found = certificates.certificate(session, task)
    return page(request, "certificate.html", record=found)


@router.get("/rescues")
def list_rescues(request: Request, these: ServicesDep, who: Reader, cursor: str = "") -> Response:
    """Archives of rescued files; people's files are for administrators."""
    who.require("admin")
    with these.read() as session:
        found = rescues.list_rescues(session, cursor=cursor or None, limit=100)
    return page(request, "rescues.html", page=found)


@router.get("/rescues/{rescue}/archive")
def download_rescue(these: ServicesDep, who: Reader, rescue: str) -> Response:
    """One archive."""
    who.require("admin")
    with these.write() as session:
        found = rescues.downloaded(session, rescue, actor=who.name)
    return archive_response(these.rescues.path(found.id), found)


@router.post("/rescues/{rescue}/delete")
def delete_rescue(request: Request, these: ServicesDep, who: AdminForm, rescue: str) -> Response:
    """Delete one for good."""
    with these.write() as session:
        id = rescues.get(session, rescue).id
        rescues.delete(session, id, actor=who.name)
    these.rescues.remove(id)
    return redirect("/rescues", translate(request, "Deleted."))
