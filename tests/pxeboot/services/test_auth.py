"""Passwords, sessions, API tokens; who may guess how often."""

from __future__ import annotations

import stat
from datetime import timedelta

import pytest

from pxeboot.errors import Conflict, Forbidden, Invalid, Throttled, Unauthorized
from pxeboot.services import auth
from tests.plane import NOW, Plane

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def fresh_throttle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "_throttle", auth.Throttle())


def user(plane: Plane, role: auth.Role = "admin", name: str = "ada") -> None:
    with plane.write() as session:
        auth.create_user(session, name=name, password=PASSWORD, role=role)


def login(
    plane: Plane, password: str = PASSWORD, after: float = 0, address: str = "10.0.0.1"
) -> auth.SignedIn:
    with plane.write() as session:
        return auth.login(session, "ada", password, address=address, now=NOW + timedelta(seconds=after))


def test_sign_in_and_out(plane: Plane) -> None:
    user(plane, "technician")
    signed = login(plane)
    with plane.read() as session:
        who, csrf = auth.browser(session, signed.cookie, now=NOW)
    assert (who.name, who.role, csrf) == ("ada", "technician", signed.csrf)
    auth.check_csrf(csrf, signed.csrf)
    with pytest.raises(Forbidden):
        auth.check_csrf(csrf, "")
    with plane.read() as session, pytest.raises(Unauthorized, match="expired"):
        auth.browser(session, signed.cookie, now=NOW + timedelta(days=1))
    with plane.write() as session:
        auth.logout(session, signed.cookie)
        with pytest.raises(Unauthorized):
            auth.browser(session, signed.cookie, now=NOW)


def test_guessing_becomes_slow(plane: Plane) -> None:
    user(plane)
    for _ in range(5):
        with pytest.raises(Unauthorized):
            login(plane, "wrong password")
    with pytest.raises(Throttled) as throttled:
        login(plane)  # even the right one has to wait
    assert throttled.value.retry_after >= 1
    assert login(plane, after=2).principal.name == "ada"
    assert login(plane).principal.name == "ada"  # and a success forgets


def test_unknown_names_are_throttled_by_address(plane: Plane) -> None:
    for number in range(5):
        with pytest.raises(Unauthorized), plane.write() as session:
            auth.login(session, f"nobody{number}", "x", address="10.0.0.9", now=NOW)
    with pytest.raises(Throttled), plane.write() as session:
        auth.login(session, "someone", "x", address="10.0.0.9", now=NOW)


def test_behind_a_reverse_proxy_one_persons_failures_are_not_everybodys(plane: Plane) -> None:
    user(plane)
    for number in range(9):
        with pytest.raises(Unauthorized), plane.write() as session:
            auth.login(session, f"nobody{number}", "x", address="", now=NOW)
    with plane.write() as session:
        assert auth.login(session, "ada", PASSWORD, address="", now=NOW).principal.name == "ada"


def test_api_tokens(plane: Plane) -> None:
    with plane.write() as session:
        text, view = auth.create_token(
            session, name="cron", role="technician", expires_at=NOW + timedelta(days=1)
        )
    assert text.startswith(f"pxb_{view.prefix}_")
    with plane.read() as session:
        assert auth.authenticate(session, text, now=NOW).role == "technician"
        for bad in ("", "pxb_", text[:-1] + "!", text.replace("pxb", "abc"), f"pxb_{view.prefix}_"):
            with pytest.raises(Unauthorized):
                auth.authenticate(session, bad, now=NOW)
        with pytest.raises(Unauthorized, match="expired"):
            auth.authenticate(session, text, now=NOW + timedelta(days=2))
    with plane.write() as session:
        auth.delete_token(session, view.prefix)
        with pytest.raises(Unauthorized):
            auth.authenticate(session, text, now=NOW)


def test_roles_are_a_ladder() -> None:
    teacher = auth.Principal("t", "teacher", "user")
    assert teacher.allows("viewer")
    assert not teacher.allows("technician")
    with pytest.raises(Forbidden, match="technician"):
        teacher.require("technician")


def test_first_start_makes_one_admin_and_one_local_token(plane: Plane) -> None:
    data_dir = plane.settings.server.data_dir
    with plane.write() as session:
        password = auth.ensure_first_admin(session, data_dir)
        path = auth.ensure_cli_token(session, data_dir, now=NOW)
    assert password is not None
    assert (data_dir / "first-password").read_text() == password + "\n"
    for file in (path, data_dir / "first-password"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = path.read_text()
    with plane.write() as session:
        assert auth.ensure_first_admin(session, data_dir) is None
        auth.ensure_cli_token(session, data_dir, now=NOW)
    assert path.read_text() == text
    path.unlink()
    with plane.write() as session:
        auth.ensure_cli_token(session, data_dir, now=NOW)
        assert len(auth.list_tokens(session)) == 1
        with pytest.raises(Unauthorized):
            auth.authenticate(session, text.strip(), now=NOW)


def test_the_last_admin_stays_and_passwords_have_a_length(plane: Plane) -> None:
    user(plane)
    with plane.write() as session:
        with pytest.raises(Conflict, match="last administrator"):
            auth.delete_user(session, "ada")
        with pytest.raises(Invalid):
            auth.set_password(session, "ada", "short")
    signed = login(plane)
    new = auth.reset_password(plane.database, "ada")
    with plane.read() as session, pytest.raises(Unauthorized):
        auth.browser(session, signed.cookie, now=NOW)
    assert login(plane, new).principal.name == "ada"
