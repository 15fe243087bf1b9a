"""The same request twice is one request."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pxeboot.errors import Conflict, Invalid
from pxeboot.services import idempotency
from tests.plane import NOW, Plane


def begin(plane: Plane, key: str = "k1", body: bytes = b"{}", who: str = "ada", days: int = 0) -> object:
    with plane.write() as session:
        return idempotency.begin(
            session, who, key, "POST", "/api/v1/operations", body, now=NOW + timedelta(days=days)
        )


def finish(plane: Plane) -> None:
    with plane.write() as session:
        idempotency.finish(session, "ada", "k1", status=202, body='{"id":"x"}', location="/here")


def test_the_stored_answer_is_given_again(plane: Plane) -> None:
    assert begin(plane) is None
    finish(plane)
    assert begin(plane) == idempotency.StoredAnswer(202, '{"id":"x"}', "/here")
    assert begin(plane, who="bob") is None  # keys of others are others


def test_another_body_is_refused(plane: Plane) -> None:
    begin(plane)
    finish(plane)
    with pytest.raises(Invalid) as refused:
        begin(plane, body=b'{"other":1}')
    assert refused.value.problem_code == "idempotency-key-reused"


def test_in_flight_is_a_conflict(plane: Plane) -> None:
    begin(plane)
    with pytest.raises(Conflict) as busy:
        begin(plane)
    assert busy.value.problem_code == "idempotency-key-in-flight"


def test_a_failed_request_may_be_repeated(plane: Plane) -> None:
    def fail() -> None:
        with plane.write() as session:
            idempotency.begin(session, "ada", "k1", "POST", "/", b"", now=NOW)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert begin(plane) is None


def test_keys_are_forgotten_and_have_a_length(plane: Plane) -> None:
    begin(plane)
    finish(plane)
    assert begin(plane, days=4) is None
    for key in ("", "x" * 256):
        with pytest.raises(Invalid):
            begin(plane, key)
