"""Passwords of boot entries, against the program GRUB comes with."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from pxeboot.errors import Invalid
from pxeboot.services import entry_passwords

GRUB = re.compile(r"grub\.pbkdf2\.sha512\.(\d+)\.([0-9A-F]{128})\.([0-9A-F]{128})")


@pytest.mark.skipif(not shutil.which("grub-mkpasswd-pbkdf2"), reason="grub-common is not installed")
def test_we_derive_what_grub_derives() -> None:
    typed = "Geheim-1234\n"
    out = subprocess.run(
        ["grub-mkpasswd-pbkdf2", "--iteration-count=10000"],
        input=typed * 2, capture_output=True, text=True, check=True, timeout=100,
    ).stdout  # fmt: skip
    theirs = GRUB.search(out)
    assert theirs, out
    salt = bytes.fromhex(theirs.group(2))
    assert entry_passwords.grub_hash("Geheim-1234", rounds=10_000, salt=salt) == theirs.group(0)


def test_the_hash_has_grubs_form_and_a_salt_of_its_own() -> None:
    first, second = entry_passwords.grub_hash("Geheim-1234"), entry_passwords.grub_hash("Geheim-1234")
    assert GRUB.fullmatch(first)
    assert first != second
    with pytest.raises(ValueError, match="20000"):
        entry_passwords.grub_hash("x", rounds=1_000_000)


def test_only_the_password_opens() -> None:
    sealed = entry_passwords.sealed("Geheim-1234")
    assert entry_passwords.verifies(sealed, "Geheim-1234")
    for wrong in ("geheim-1234", "", "Geheim-12345"):
        assert not entry_passwords.verifies(sealed, wrong)
    for nothing in ("", "{}", "[]", "nonsense", '{"argon2": 5}'):
        assert not entry_passwords.verifies(nothing, "")
        assert entry_passwords.for_grub(nothing) == ""


@pytest.mark.parametrize("text", ["", "short", "with space", "déjà-vu-1", "x" * 65, "tab\tpassword"])
def test_what_a_boot_console_cannot_type_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="letters, digits and signs"):
        entry_passwords.sealed(text)
