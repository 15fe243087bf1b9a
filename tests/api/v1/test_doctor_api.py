"""The doctor by REST: a viewer reads, a technician has it look, a stranger hears nothing."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from pxeboot.adapters.container import Services
from pxeboot.doctor.finding import Finding

Ask = Callable[..., httpx.Response]


def test_before_the_first_look_there_is_nothing(ask: Ask) -> None:
    assert ask("GET", "/doctor", by="viewer").json() == {
        "at": None,
        "running": False,
        "worst": None,
        "findings": [],
    }
    assert ask("GET", "/doctor", by=None).status_code == 401
    assert ask("POST", "/doctor:run", by="viewer").status_code == 403


def test_what_was_found_is_told_with_its_remedy(ask: Ask, services: Services) -> None:
    services.doctor.take(
        [Finding("disk", "error", "/x", "%(a)s is full.", "Make room.", {"a": "/x"})], ["disk"]
    )
    answer = ask("GET", "/doctor", by="viewer").json()
    assert answer["worst"] == "error"
    [found] = answer["findings"]
    assert (found["sentence"], found["remedy"], found["level"]) == ("/x is full.", "Make room.", "error")
    assert services.journal.flush()
    [event] = ask("GET", "/events?plane=doctor").json()["items"]
    assert event["kind"] == "doctor.found"


def test_a_technician_has_it_look_now(ask: Ask) -> None:
    answer = ask("POST", "/doctor:run", by="technician").json()
    assert answer["at"]
    assert {"interface", "boot-files", "disk"} <= {found["check"] for found in answer["findings"]}
