"""Boot tokens: one use, one machine, ten minutes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlmodel import select

from pxeboot.db.models import BootToken
from pxeboot.errors import Unauthorized
from pxeboot.services import tokens
from tests.plane import NOW, Plane, ip, mac


def issue(plane: Plane, seconds: int = 600) -> str:
    with plane.write() as session:
        return tokens.issue(
            session,
            mac=mac(1),
            address=ip(1),
            mode="register",
            host_id=None,
            task_id=None,
            seconds=seconds,
            now=NOW,
        )


def refusal(plane: Plane, token: str, *, by: int = 1, at: str | None = None, after: float = 1) -> str:
    with pytest.raises(Unauthorized) as refused:
        plane.checkin(by, token, NOW + timedelta(seconds=after), at)
    return refused.value.problem_code


def test_a_token_is_good_once(plane: Plane) -> None:
    token = issue(plane)
    assert len(token) == len(tokens.NO_TOKEN) == 43
    assert plane.checkin(1, token).mode == "register"
    assert refusal(plane, token) == "token-used"


def test_each_refusal_has_its_code(plane: Plane) -> None:
    token = issue(plane)
    assert refusal(plane, "x" * 43) == "token-unknown"
    assert refusal(plane, token, by=2, at=ip(1)) == "token-foreign"  # another machine at the same address
    assert refusal(plane, token, at="10.20.0.66") == "token-foreign"  # the right MAC from another address
    assert refusal(plane, token, after=601) == "token-expired"
    assert plane.checkin(1, token).credential  # strangers have not burnt it


def test_a_new_boot_replaces_the_old_token(plane: Plane) -> None:
    old, new = issue(plane), issue(plane)
    assert refusal(plane, old) == "token-expired"
    assert plane.checkin(1, new).credential


def test_another_address_of_the_same_machine_is_vouched_for(plane: Plane) -> None:
    token = issue(plane)
    with plane.write() as session:
        credential, known = tokens.exchange(
            session, token, mac=mac(1), address="10.20.0.77", inventory={}, now=NOW,
            same_machine=lambda address, of: (address, of) == ("10.20.0.77", mac(1)),
        )  # fmt: skip
    assert known.address == "10.20.0.77"
    with plane.read() as session:
        assert tokens.authenticate(session, credential, now=NOW).mac == mac(1)


def test_only_hashes_are_stored(plane: Plane) -> None:
    token = issue(plane)
    credential = plane.checkin(1, token).credential
    plane.database.close()
    raw = b"".join(
        file.read_bytes()
        for file in plane.settings.server.data_dir.iterdir()
        if file.name.startswith("pxeboot.sqlite")
    )
    assert token.encode() not in raw
    assert credential.encode() not in raw


def test_a_credential_ends(plane: Plane) -> None:
    credential = plane.checkin(1, issue(plane)).credential
    with plane.read() as session, pytest.raises(Unauthorized, match="expired"):
        tokens.authenticate(session, credential, now=NOW + timedelta(days=15))


def test_a_flood_of_strangers_is_bounded(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MAX_STRANGERS", 5)
    with plane.write() as session:
        for number in range(20):
            tokens.issue(
                session, mac=mac(number), address=ip(number), mode="register", host_id=None, task_id=None,
                seconds=600, now=NOW + timedelta(seconds=number),
            )  # fmt: skip
        assert len(session.exec(select(BootToken)).all()) == 5
