"""Passwords of boot entries, kept twice: as Argon2 for our own check, as PBKDF2 for GRUB's.

GRUB asks for the password itself and checks it on the machine, in firmware, on one core without acceleration:
20,000 rounds are about what a person still waits for. iPXE sends what was typed to us.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from pxeboot.errors import Invalid

GRUB_ROUNDS = 10_000  # what grub-mkpasswd-pbkdf2 takes by default
GRUB_MOST_ROUNDS = 20_000
GRUB_BYTES = 64  # of salt and of hash, as grub-mkpasswd-pbkdf2 has them
# What a boot console's keyboard can type: it has the American layout, without accents.
_TYPEABLE = re.compile(r"[!-~]{6,64}")
_hasher = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)


def sealed(password: str) -> str:
    """What is stored for a password: JSON text `{"argon2": …, "grub": …}`.

    Invalid for one that cannot be typed at a boot console, or is too short.
    """
    if not _TYPEABLE.fullmatch(password):
        raise Invalid(
            "A password of a boot entry needs 6 to 64 letters, digits and signs without accents or spaces: "
            "the boot console's keyboard has nothing else.",
            field="password",
        )
    return json.dumps({"argon2": _hasher.hash(password), "grub": grub_hash(password)})


def grub_hash(password: str, *, rounds: int = GRUB_ROUNDS, salt: bytes | None = None) -> str:
    """`grub.pbkdf2.sha512.ROUNDS.SALT.HASH` for GRUB's `password_pbkdf2` (PBKDF2-HMAC-SHA512, RFC 8018)."""
    if not 1 <= rounds <= GRUB_MOST_ROUNDS:
        raise ValueError(f"{rounds} rounds of PBKDF2: choose 1 to {GRUB_MOST_ROUNDS}")
    salt = secrets.token_bytes(GRUB_BYTES) if salt is None else salt
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds, GRUB_BYTES)
    return f"grub.pbkdf2.sha512.{rounds}.{salt.hex().upper()}.{key.hex().upper()}"


def for_grub(stored: str) -> str:
    """The hash that goes into a GRUB configuration; "" when the entry has no password."""
    return _part(stored, "grub")


def verifies(stored: str, password: str) -> bool:
    """Whether this is the entry's password. False for an entry without one: it has nothing to check."""
    try:
        return _hasher.verify(_part(stored, "argon2"), password)
    except (Argon2Error, InvalidHashError):
        return False


def _part(stored: str, name: str) -> str:
    try:
        value = json.loads(stored)[name] if stored else ""
    except (ValueError, KeyError, TypeError):
        return ""
    return value if isinstance(value, str) else ""
