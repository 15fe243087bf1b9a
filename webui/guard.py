"""Who looks at a page: the session cookie, the CSRF token of every form, and errors as pages."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Form, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from pxeboot.adapters.container import Services
from pxeboot.errors import AppError, Unauthorized
from pxeboot.services import auth
from pxeboot.services.auth import Principal, Role
from webui import render

COOKIE = "pxeboot_session"


class PageRoute(APIRoute):
    """A route whose expected failures are pages: sign in first, or a sentence and a way back."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except Unauthorized:
                target = request.url.path if request.method == "GET" else "/"
                return render.redirect(f"/login?next={quote(target)}")
            except AppError as error:
                return _error_page(
                    request, error.status, error.title, error.sentence, error.data.get("errors")
                )
            except RequestValidationError as error:
                fields = ", ".join(str(item["loc"][-1]) for item in error.errors())
                return _error_page(
                    request, 422, "Invalid request", f"These fields are missing or wrong: {fields}."
                )

        return handle


def _error_page(
    request: Request, status: int, title: str, sentence: str, details: list[dict[str, Any]] | None = None
) -> Response:
    lines = [f"{item.get('host', '')}: {item.get('msg', '')}" for item in details or []]
    referrer = request.headers.get("referer", "/")
    back = referrer if referrer.startswith(str(request.base_url)) else "/"
    return render.page(
        request, "error.html", status=status, heading=title, sentence=sentence, details=lines, back=back
    )


def services(request: Request) -> Services:
    """The services this application was made with."""
    found: Services = request.app.state.services
    return found


ServicesDep = Annotated[Services, Depends(services)]


def signed_in(request: Request, these: ServicesDep) -> Principal:
    """The person behind the cookie. Unauthorized (the sign-in page) without one."""
    cookie = request.cookies.get(COOKIE, "")
    if not cookie:
        raise Unauthorized("Sign in first.")
    with these.read() as session:
        who, csrf = auth.browser(session, cookie, now=datetime.now(UTC))
    request.state.who, request.state.csrf = who, csrf
    return who


Reader = Annotated[Principal, Depends(signed_in)]


def _writer(role: Role) -> Callable[..., Principal]:
    def check(request: Request, who: Reader, csrf: Annotated[str, Form()] = "") -> Principal:
        auth.check_csrf(request.state.csrf, csrf)
        who.require(role)
        return who

    return check


# A form of somebody with at least this role, sent from one of our own pages.
AnyForm = Annotated[Principal, Depends(_writer("viewer"))]
TechnicianForm = Annotated[Principal, Depends(_writer("technician"))]
AdminForm = Annotated[Principal, Depends(_writer("admin"))]
