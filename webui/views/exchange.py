"""Imports and exports: the forms of the section on the page of images."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Response
from pydantic import ValidationError

from pxeboot.errors import Invalid
from pxeboot.services.exchange_views import ExportOrder, ImportOrder
from webui.guard import AdminForm, PageRoute, ServicesDep
from webui.render import redirect

router = APIRouter(route_class=PageRoute)


@router.post("/exchange/import")
def import_image(
    these: ServicesDep,
    who: AdminForm,
    path: Annotated[str, Form()],
    image: Annotated[str, Form()],
    format: Annotated[str, Form()] = "auto",
    trust: Annotated[str, Form()] = "",
) -> Response:
    """Begin an import and show its job."""
    try:
        order = ImportOrder.model_validate({"path": path, "image": image, "format": format, "trust": trust})
    except ValidationError as error:
        raise Invalid(f"This cannot be imported: {error.errors()[0]['msg']}.") from None
    return redirect(f"/jobs/{these.exchange.start_import(order, actor=who.name).id}")


@router.post("/exchange/export")
def export_image(
    these: ServicesDep,
    who: AdminForm,
    image: Annotated[str, Form()],
    format: Annotated[str, Form()],
    to: Annotated[str, Form()] = "",
) -> Response:
    """Begin an export and show its job."""
    try:
        order = ExportOrder.model_validate(
            {"image": image.strip(), "format": format, "to": to.strip() or "."}
        )
    except ValidationError as error:
        raise Invalid(f"This cannot be exported: {error.errors()[0]['msg']}.") from None
    return redirect(f"/jobs/{these.exchange.start_export(order, actor=who.name).id}")
