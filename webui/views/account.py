"""One's own account: language, password, API tokens."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from pxeboot.services import auth
from pxeboot.services.auth import Principal
from webui.guard import COOKIE, AdminForm, AnyForm, PageRoute, Reader, ServicesDep
from webui.render import page, redirect, translate

router = APIRouter(route_class=PageRoute)


def _page(request: Request, these: ServicesDep, who: Principal, made: str = "") -> Response:
    tokens = []
    if who.role == "admin":
        with these.read() as session:
            tokens = auth.list_tokens(session)
    return page(request, "account.html", tokens=tokens, made=made)


@router.get("/account")
def account(request: Request, these: ServicesDep, who: Reader) -> Response:
    """Language, password, tokens."""
    return _page(request, these, who)


@router.post("/account/language")
def language(these: ServicesDep, who: AnyForm, language: Annotated[str, Form()] = "") -> Response:
    """Choose the language of the pages."""
    with these.write() as session:
        auth.set_language(session, who.name, language)
    return redirect("/account")


@router.post("/account/password")
def password(
    request: Request,
    these: ServicesDep,
    who: AnyForm,
    current: Annotated[str, Form()],
    new: Annotated[str, Form()],
) -> Response:
    """Change the password; all browser sessions of the person end."""
    address = request.client.host if request.client else ""
    with these.write() as session:
        auth.login(session, who.name, current, address=address, now=datetime.now(UTC))
        auth.set_password(session, who.name, new, actor=who.name)
    answer = redirect("/login", translate(request, "The password is changed. Sign in again."))
    answer.delete_cookie(COOKIE)
    return answer


@router.post("/account/tokens")
def make_token(
    request: Request, these: ServicesDep, who: AdminForm, name: Annotated[str, Form(max_length=80)]
) -> Response:
    """Make an API token; it is shown this once."""
    with these.write() as session:
        text, _ = auth.create_token(session, name=name, role="admin", actor=who.name)
    return _page(request, these, who, made=text)


@router.post("/account/tokens/{prefix}/delete")
def revoke(these: ServicesDep, who: AdminForm, prefix: str) -> Response:
    """Revoke a token."""
    with these.write() as session:
        auth.delete_token(session, prefix, actor=who.name)
    return redirect("/account")
