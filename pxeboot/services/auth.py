"""Who is asking: people with passwords and browser sessions, programs with API tokens."""

from __future__ import annotations

import hmac
import os
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from sqlmodel import Session, col, delete, func, select

from pxeboot.db.engine import Database
from pxeboot.db.models import ApiToken, User, WebSession
from pxeboot.errors import Conflict, Forbidden, Invalid, NotFound, Throttled, Unauthorized
from pxeboot.services import lookup
from pxeboot.services.tokens import digest
from pxeboot.services.unit import note
from pxeboot.services.views import ApiTokenView, UserView

Role = Literal["viewer", "teacher", "technician", "admin"]
# Each may do what those before it may.
ROLES: tuple[Role, ...] = ("viewer", "teacher", "technician", "admin")

SESSION_LIFE = timedelta(hours=12)
FREE_FAILURES = 5  # then each failure doubles the wait
LONGEST_WAIT = 900.0  # seconds
# OWASP's second choice: 19 MiB keeps a burst of logins from filling the memory of a small server.
_hasher = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
_NOBODY = _hasher.hash(secrets.token_urlsafe(16))  # verified for unknown names, so that time tells nothing


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
        if not self.allows(role):
            raise Forbidden(f"{self.name} is {self.role}; this needs the role {role}.", needed=role)


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
    keys = [f"name:{name.lower()}"]
    if address:  # none over a Unix socket: behind a reverse proxy everybody would share it
        keys.append(f"address:{address}")
    wait = max(_throttle.wait(key, now) for key in keys)
    if wait > 0:
        seconds = int(wait) + 1
        raise Throttled(f"Too many failed attempts; try again in {seconds} s.", seconds)
    user = session.exec(select(User).where(User.name == name)).first()
    if not _verifies(user.password_hash if user else _NOBODY, password) or user is None:
        for key in keys:
            _throttle.failed(key, now)
        raise Unauthorized("The name or the password is wrong.", "login-failed")
    for key in keys:
        _throttle.succeeded(key)
    if _hasher.check_needs_rehash(user.password_hash):
        user.password_hash = _hasher.hash(password)
        session.add(user)
    session.execute(delete(WebSession).where(col(WebSession.expires_at) < now))
    cookie, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    session.add(
        WebSession(
            hash=digest(cookie),
            user_id=user.id or 0,
            csrf=csrf,
            created_at=now,
            expires_at=now + SESSION_LIFE,
        )
    )
    session.flush()
    note(session, "ui", "user.signed-in", f"{user.name} signed in from {address}.")
    return SignedIn(_principal(user), cookie, csrf, now + SESSION_LIFE)


def browser(session: Session, cookie: str, *, now: datetime) -> tuple[Principal, str]:
    """The principal and CSRF token of a browser session. Unauthorized(session-unknown|session-expired)."""
    row = session.get(WebSession, digest(cookie)) if cookie else None
    user = session.get(User, row.user_id) if row else None
    if row is None or user is None:
        raise Unauthorized("Please sign in.", "session-unknown")
    if row.expires_at <= now:
        raise Unauthorized("Your session has expired; please sign in again.", "session-expired")
    return _principal(user), row.csrf


def check_csrf(expected: str, given: str) -> None:
    """Forbidden(csrf) unless equal (constant time)."""
    if not hmac.compare_digest(expected.encode(), given.encode()):
        error = Forbidden("This form is out of date; load the page again and repeat.")
        error.problem_code = "csrf"
        raise error


def logout(session: Session, cookie: str) -> None:
    """End a browser session."""
    session.execute(delete(WebSession).where(col(WebSession.hash) == digest(cookie)))


def authenticate(session: Session, token: str, *, now: datetime) -> Principal:
    """The principal of an API token `pxb_<prefix>_<secret>`. Unauthorized(token-unknown|token-expired)."""
    parts = token.split("_", 2)
    row = session.get(ApiToken, parts[1]) if len(parts) == 3 and parts[0] == "pxb" else None
    if row is None or not hmac.compare_digest(row.hash, digest(parts[2])):
        raise Unauthorized("This API token is unknown or was revoked.", "token-unknown")
    if row.expires_at is not None and row.expires_at <= now:
        raise Unauthorized(f"The API token {row.name} has expired; make a new one.", "token-expired")
    return Principal(name=row.name, role=checked_role(row.role), kind="token")


def create_token(
    session: Session, *, name: str, role: Role, expires_at: datetime | None = None, actor: str = ""
) -> tuple[str, ApiTokenView]:
    """A new API token: the text (shown once, never stored) and its view."""
    label = name.strip()[:80]
    if not label:
        raise Invalid("An API token needs a name that says what it is for.", field="name")
    prefix, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    row = ApiToken(
        prefix=prefix, hash=digest(secret), name=label, role=checked_role(role), expires_at=expires_at
    )
    session.add(row)
    session.flush()
    by = f" by {actor}" if actor else ""
    note(
        session, "api", "token.created", f"API token {label} ({role}) was made{by}.", data={"prefix": prefix}
    )
    return f"pxb_{prefix}_{secret}", _token_view(row)


def list_tokens(session: Session) -> list[ApiTokenView]:
    """All API tokens."""
    return [
        _token_view(row) for row in session.exec(select(ApiToken).order_by(col(ApiToken.created_at))).all()
    ]


def delete_token(session: Session, prefix: str, *, actor: str = "") -> None:
    """Revoke. NotFound(token)."""
    row = session.get(ApiToken, prefix)
    if row is None:
        raise NotFound("token", prefix)
    name = row.name
    session.delete(row)
    session.flush()
    note(
        session, "api", "token.deleted", f"API token {name} was revoked" + (f" by {actor}." if actor else ".")
    )


def create_user(
    session: Session, *, name: str, password: str, role: Role, language: str = "", actor: str = ""
) -> UserView:
    """Add a person. Conflict for a taken name; Invalid for a password under 10 characters."""
    wanted = lookup.checked_name(name, "user")
    if session.exec(select(User).where(User.name == wanted)).first():
        raise Conflict(f"There is a user {wanted} already.", name=wanted)
    row = User(
        name=wanted,
        password_hash=_hasher.hash(_checked_password(password)),
        role=checked_role(role),
        language=language,
    )
    session.add(row)
    session.flush()
    note(
        session,
        "api",
        "user.created",
        f"User {wanted} ({role}) was added" + (f" by {actor}." if actor else "."),
    )
    return _user_view(row)


def list_users(session: Session) -> list[UserView]:
    """All people, by name."""
    return [_user_view(row) for row in session.exec(select(User).order_by(User.name)).all()]


def set_password(session: Session, name: str, password: str, *, actor: str = "") -> UserView:
    """Replace a password and end the person's browser sessions. NotFound(user)."""
    row = _user(session, name)
    row.password_hash = _hasher.hash(_checked_password(password))
    session.add(row)
    session.execute(delete(WebSession).where(col(WebSession.user_id) == row.id))
    session.flush()
    note(
        session,
        "api",
        "user.changed",
        f"The password of {name} was changed" + (f" by {actor}." if actor else "."),
    )
    return _user_view(row)


def set_language(session: Session, name: str, language: str) -> UserView:
    """The language a person reads pages in; "" follows the browser."""
    row = _user(session, name)
    if language not in ("", "en", "fr"):
        raise Invalid(f"{language!r} is not a language of ours; choose en or fr.", field="language")
    row.language = language
    session.add(row)
    session.flush()
    return _user_view(row)


def delete_user(session: Session, name: str, *, actor: str = "") -> None:
    """Remove a person. Conflict for the last administrator."""
    row = _user(session, name)
    admins = session.exec(select(func.count()).select_from(User).where(User.role == "admin")).one()
    if row.role == "admin" and admins <= 1:
        raise Conflict(f"{name} is the last administrator; add another one first.", name=name)
    session.execute(delete(WebSession).where(col(WebSession.user_id) == row.id))
    session.delete(row)
    session.flush()
    note(session, "api", "user.deleted", f"User {name} was removed" + (f" by {actor}." if actor else "."))


def ensure_first_admin(session: Session, data_dir: Path) -> str | None:
    """At the very first start: make `admin` with a random password, also kept in
    `data_dir/first-password` (0600)."""
    if session.exec(select(func.count()).select_from(User)).one():
        return None
    password = secrets.token_urlsafe(12)
    create_user(session, name="admin", password=password, role="admin")
    write_private(data_dir / "first-password", password + "\n")
    return password


def ensure_cli_token(session: Session, data_dir: Path, *, now: datetime) -> Path:
    """The local administrator's token in `data_dir/cli.token` (0600); a new one when it is gone or
    revoked."""
    path = data_dir / "cli.token"
    try:
        authenticate(session, path.read_text(encoding="ascii").strip(), now=now)
    except (OSError, UnicodeDecodeError, Unauthorized):
        for old in session.exec(select(ApiToken).where(ApiToken.name == "cli")).all():
            session.delete(old)
        text, _ = create_token(session, name="cli", role="admin")
        write_private(path, text + "\n")
    return path


def reset_password(database: Database, name: str) -> str:
    """A new random password for a person, for whoever may write the database; ends browser sessions."""
    password = secrets.token_urlsafe(12)
    with database.write() as session:
        set_password(session, name, password, actor="the command line")
    return password


def touch_token(session: Session, token: str, *, now: datetime) -> None:
    """Note when a token was last used."""
    row = session.get(ApiToken, token.split("_", 2)[1])
    if row is not None:
        row.last_used_at = now
        session.add(row)


def used_recently(session: Session, token: str, *, now: datetime) -> bool:
    """Whether `last_used_at` is less than a minute old (so that reading stays reading)."""
    row = session.get(ApiToken, token.split("_", 2)[1])
    return row is not None and row.last_used_at is not None and now - row.last_used_at < timedelta(minutes=1)


def write_private(path: Path, text: str) -> None:
    """Write a file that only we may read, whole or not at all."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)


def checked_role(role: str) -> Role:
    """One of `ROLES`. Invalid otherwise."""
    for known in ROLES:
        if role == known:
            return known
    raise Invalid(f"{role!r} is no role; choose {', '.join(ROLES)}.", field="role")


class Throttle:
    """Failures per name and address, in memory, bounded; after `free` of them waits grow from 1 s to
    `longest` (seconds) and are forgotten after an hour."""

    def __init__(self, *, free: int = FREE_FAILURES, longest: float = LONGEST_WAIT) -> None:
        self._free, self._longest = free, longest
        self._lock = threading.Lock()
        self._failures: dict[str, tuple[int, datetime]] = {}

    def wait(self, key: str, now: datetime) -> float:
        """Seconds until the next attempt is looked at."""
        with self._lock:
            return self._wait(key, now)

    def failed(self, key: str, now: datetime) -> None:
        """Count a failure."""
        with self._lock:
            self._count(key, now)

    def begin(self, keys: Sequence[str], now: datetime) -> bool:
        """Whether an attempt may be looked at now. It counts as a failure until it is known to be none:
        a hundred guesses at the same moment must not be looked at all."""
        with self._lock:
            if any(self._wait(key, now) > 0 for key in keys):
                return False
            for key in keys:
                self._count(key, now)
            return True

    def forgive(self, key: str) -> None:
        """Take back one failure."""
        with self._lock:
            count, last = self._failures.get(key, (0, None))
            if last is not None:
                self._failures[key] = (max(0, count - 1), last)

    def succeeded(self, key: str) -> None:
        """Forget."""
        with self._lock:
            self._failures.pop(key, None)

    def _wait(self, key: str, now: datetime) -> float:
        count, last = self._failures.get(key, (0, now))
        if count < self._free:
            return 0.0
        pause = min(self._longest, 2.0 ** min(count - self._free, 12))
        return max(0.0, pause - (now - last).total_seconds())

    def _count(self, key: str, now: datetime) -> None:
        count, last = self._failures.pop(key, (0, now))
        if now - last > timedelta(hours=1):
            count = 0
        if len(self._failures) >= 10_000:
            self._failures.pop(next(iter(self._failures)))  # the oldest
        self._failures[key] = (count + 1, now)


_throttle = Throttle()


def _verifies(hash: str, password: str) -> bool:
    try:
        return _hasher.verify(hash, password)
    except (Argon2Error, InvalidHashError):
        return False


def _checked_password(password: str) -> str:
    if not 10 <= len(password) <= 200:
        raise Invalid("A password has 10 to 200 characters.", field="password")
    return password


def _principal(user: User) -> Principal:
    return Principal(user.name, checked_role(user.role), "user", user.language, user.id)


def _user(session: Session, name: str) -> User:
    row = session.exec(select(User).where(User.name == name)).first()
    if row is None:
        raise NotFound("user", name, lookup.nearest(name, session.exec(select(User.name)).all()))
    return row


def _user_view(row: User) -> UserView:
    return UserView(**row.model_dump(exclude={"password_hash"}))


def _token_view(row: ApiToken) -> ApiTokenView:
    return ApiTokenView(**row.model_dump(exclude={"hash"}))
