"""Secrets that tasks need (the password of a domain join): sealed in the database, given to agents alone.

AES-256-GCM under a key in a file of its own (`data_dir/keys/secrets.key`), so that a copy of the database
alone tells nothing. No view, log or journal line holds a value.
"""

from __future__ import annotations

import base64
import os
import secrets as random
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlmodel import Session, select

from pxeboot.db.models import Secret
from pxeboot.errors import Conflict, Invalid, NotFound
from pxeboot.services import customise_use
from pxeboot.services.customise_rules import checked_word
from pxeboot.services.lookup import nearest
from pxeboot.services.unit import note
from pxeboot.services.views import SecretView

MAX_SECRET = 64 << 10
_NONCE = 12


def list_secrets(session: Session) -> list[SecretView]:
    """All secrets by name, without their values."""
    rows = session.exec(select(Secret).order_by(Secret.name)).all()
    return [_view(row) for row in rows]


def set_secret(session: Session, key_file: Path, name: str, value: str, *, actor: str = "") -> SecretView:
    """Make or replace a secret. Invalid for an empty or endless one."""
    checked_word(name, "secret")
    if not value or len(value) > MAX_SECRET or "\0" in value:
        raise Invalid(f"A secret has 1 to {MAX_SECRET} characters.", field="value")
    row = session.get(Secret, name) or Secret(name=name, sealed="")
    row.sealed = seal(key_file, name, value)
    row.changed_at, row.changed_by = datetime.now(UTC), actor
    session.add(row)
    session.flush()
    note(session, "api", "secret.set", f"Secret {name} was set" + (f" by {actor}." if actor else "."))
    return _view(row)


def delete_secret(session: Session, name: str, *, actor: str = "") -> None:
    """Forget a secret. NotFound; Conflict while an image, group or host names it."""
    row = _row(session, name)
    if users := customise_use.users_of_secret(session, name):
        raise Conflict(f"{', '.join(users[:5])} still use the secret {name}: change that first.", users=users)
    session.delete(row)
    session.flush()
    note(session, "api", "secret.deleted", f"Secret {name} was deleted" + (f" by {actor}." if actor else "."))


def reveal(session: Session, key_file: Path, name: str) -> str:
    """The value, for an agent's task. NotFound(secret); Invalid when the key is another one by now."""
    return unseal(key_file, name, _row(session, name).sealed)


def exists(session: Session, name: str) -> bool:
    """Is there a secret of this name?"""
    return session.get(Secret, name) is not None


def seal(key_file: Path, name: str, value: str) -> str:
    """Encrypt a value, bound to its name."""
    nonce = random.token_bytes(_NONCE)
    sealed = AESGCM(_key(key_file, make=True)).encrypt(nonce, value.encode(), name.encode())
    return base64.b64encode(nonce + sealed).decode()


def unseal(key_file: Path, name: str, sealed: str) -> str:
    """Decrypt a value. Invalid when it was sealed by another key or for another name."""
    try:
        data = base64.b64decode(sealed)
        key = _key(key_file, make=False)
        return AESGCM(key).decrypt(data[:_NONCE], data[_NONCE:], name.encode()).decode()
    except (InvalidTag, ValueError, OSError) as error:
        raise Invalid(
            f"The secret {name} cannot be opened with {key_file.name} of this server: set it again."
        ) from error


def _key(path: Path, *, make: bool) -> bytes:
    if make and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}.new")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(fd, "wb") as file:
            file.write(random.token_bytes(32))
            file.flush()
            os.fsync(fd)
        try:
            os.link(new, path)  # never over a key that somebody made at the same moment
        except FileExistsError:
            pass
        finally:
            os.unlink(new)
    key = path.read_bytes()
    if len(key) != 32:
        raise ValueError("not a key")
    return key


def _row(session: Session, name: str) -> Secret:
    row = session.get(Secret, name)
    if row is None:
        raise NotFound("secret", name, nearest(name, session.exec(select(Secret.name)).all()))
    return row


def _view(row: Secret) -> SecretView:
    return SecretView(name=row.name, changed_at=row.changed_at, changed_by=row.changed_by)
