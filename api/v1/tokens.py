"""`/api/v1/tokens`: what scripts sign in with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fastapi import APIRouter

from api.v1.deps import Admin, ServicesDep
from api.v1.schemas import TokenCreate, TokenMade
from pxeboot.services import auth
from pxeboot.services.views import ApiTokenView, Page

router = APIRouter(tags=["tokens"])


@router.get("/tokens", operation_id="listTokens")
def list_tokens(these: ServicesDep, who: Admin) -> Page[ApiTokenView]:
    """All tokens, never their secrets."""
    with these.read() as session:
        return Page(items=auth.list_tokens(session))


@router.post("/tokens", status_code=201, operation_id="createToken")
def create_token(these: ServicesDep, who: Admin, body: TokenCreate) -> TokenMade:
    """Make a token; the secret is in this answer and nowhere else."""
    expires = datetime.now(UTC) + timedelta(days=body.days) if body.days else None
    with these.write() as session:
        text, view = auth.create_token(
            session, name=body.name, role=body.role, expires_at=expires, actor=who.name
        )
    return TokenMade(
        token=text, prefix=view.prefix, name=view.name, role=view.role, expires_at=view.expires_at
    )


@router.delete("/tokens/{prefix}", status_code=204, operation_id="deleteToken")
def delete_token(these: ServicesDep, who: Admin, prefix: str) -> None:
    """Make a token worthless at once."""
    with these.write() as session:
        auth.delete_token(session, prefix, actor=who.name)
