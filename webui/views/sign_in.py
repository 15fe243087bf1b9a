"""Sign in and out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from pxeboot.errors import AppError
from pxeboot.services import auth
from webui.guard import COOKIE, AnyForm, PageRoute, ServicesDep
from webui.render import page, redirect

router = APIRouter(route_class=PageRoute)


def _own(path: str) -> str:
    """Only paths of this site: `//elsewhere` and `/\\elsewhere` would leave it."""
    return path if path.startswith("/") and path[1:2] not in ("/", "\\") else "/"


@router.get("/login")
def login_form(request: Request, next: str = "/") -> Response:
    """The form."""
    return page(request, "login.html", next=_own(next), name="", error="")


@router.post("/login")
def login(
    request: Request,
    these: ServicesDep,
    name: Annotated[str, Form(max_length=200)],
    password: Annotated[str, Form(max_length=1000)],
    next: Annotated[str, Form()] = "/",
) -> Response:
    """Check the password; the cookie is for this site's pages only and unreadable to scripts."""
    address = request.client.host if request.client else ""
    try:
        with these.write() as session:
            signed = auth.login(session, name, password, address=address, now=datetime.now(UTC))
    except AppError as error:
        return page(
            request, "login.html", status=error.status, next=_own(next), name=name, error=error.sentence
        )
    answer = redirect(_own(next))
    answer.set_cookie(
        COOKIE,
        signed.cookie,
        expires=signed.expires_at,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return answer


@router.post("/logout")
def logout(request: Request, these: ServicesDep, who: AnyForm) -> Response:
    """End the session."""
    with these.write() as session:
        auth.logout(session, request.cookies.get(COOKIE, ""))
    answer = redirect("/login")
    answer.delete_cookie(COOKIE)
    return answer
