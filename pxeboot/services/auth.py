"""Who is asking: people with passwords and browser sessions, programs with API tokens."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlmodel import Session

from pxeboot.services.views import ApiTokenView, UserView

Role = Literal["viewer", "teacher", "technician", "admin"]
# Each may do what those before it may.
ROLES: tuple[Role, ...] = ("viewer", "teacher", "technician", "admin")


@dataclass(frozen=True)
class Principal:
    """Somebody we know. `name` goes into `created_by` and the journal."""

    name: str
    role: Role
    kind: Literal["user", "token"]
    language: str = ""
    user_id: int | None = None

    def allows(self, role: Role) -> bool:
        """Whether this principal has at least that role."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def require(self, role: Role) -> None:
        """Forbidden unless it has."""
        raise NotImplementedError


@dataclass(frozen=True)
class SignedIn:
    """A fresh browser session: `cookie` goes into the cookie (it is not stored), `csrf` into every form."""

    principal: Principal
    cookie: str
    csrf: str
    expires_at: datetime


def login(session: Session, name: str, password: str, *, address: str, now: datetime) -> SignedIn:
    """Check a password. Unauthorized(login-failed); Throttled after five failures of a name or address
    (waits grow to 15 min)."""
    raise NotImplementedError


def browser(session: Session, cookie: str, *, now: datetime) -> tuple[Principal, str]:
    """The principal and CSRF token of a browser session. Unauthorized(session-unknown|session-expired)."""
    raise NotImplementedError


def check_csrf(expected: str, given: str) -> None:
    """Forbidden(csrf) unless equal (constant time)."""
    raise NotImplementedError


def logout(session: Session, cookie: str) -> None:
    """End a browser session."""
    raise NotImplementedError


def authenticate(session: Session, token: str, *, now: datetime) -> Principal:
    """The principal of an API token `pxb_<prefix>_<secret>`. Unauthorized(token-unknown|token-expired)."""
    raise NotImplementedError


def create_token(
    session: Session, *, name: str, role: Role, expires_at: datetime | None = None, actor: str = ""
) -> tuple[str, ApiTokenView]:
    """A new API token: the text (shown once, never stored) and its view."""
    raise NotImplementedError


def list_tokens(session: Session) -> list[ApiTokenView]:
    """All API tokens."""
    raise NotImplementedError


def delete_token(session: Session, prefix: str, *, actor: str = "") -> None:
    """Revoke. NotFound(token)."""
    raise NotImplementedError


def create_user(
    session: Session, *, name: str, password: str, role: Role, language: str = "", actor: str = ""
) -> UserView:
    """Add a person. Conflict for a taken name; Invalid for a password under 10 characters."""
    raise NotImplementedError


def list_users(session: Session) -> list[UserView]:
    """All people, by name."""
    raise NotImplementedError


def set_password(session: Session, name: str, password: str, *, actor: str = "") -> UserView:
    """Replace a password and end the person's browser sessions. NotFound(user)."""
    raise NotImplementedError


def set_language(session: Session, name: str, language: str) -> UserView:
    """The language a person reads pages in; "" follows the browser."""
    raise NotImplementedError


def delete_user(session: Session, name: str, *, actor: str = "") -> None:
    """Remove a person. Conflict for the last administrator."""
    raise NotImplementedError
