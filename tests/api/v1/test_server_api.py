"""What the boot services count: a viewer reads it, a stranger does not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import httpx

from pxeboot import __version__
from pxeboot.adapters.container import Services

Ask = Callable[..., httpx.Response]


def test_without_an_interface_there_is_nothing_to_count(ask: Ask) -> None:
    answer = ask("GET", "/server", by="viewer").json()
    assert answer["version"] == __version__
    assert answer["dhcp"] == {"listeners": [], "counters": {}, "chosen_elsewhere": []}
    assert answer["tftp"] == {"running": 0, "counters": {}}
    assert ask("GET", "/server", by=None).status_code == 401


def test_counters_and_servers_that_machines_chose(ask: Ask, services: Services) -> None:
    at = datetime(2026, 11, 24, 6, 30, tzinfo=UTC)
    port = {"interface": "eth1", "port": 67, "open": True, "counters": {"sent": 3}}
    chosen = {"subnet": "10.20.0.0/24", "server": "10.20.0.9", "at": at}
    services.status = lambda: {
        "dhcp": {"listeners": [port], "counters": {"shed": 1}, "chosen_elsewhere": [chosen]},
        "tftp": {"running": 2, "counters": {"completed": 5}},
    }
    answer = ask("GET", "/server", by="viewer").json()
    assert answer["dhcp"]["listeners"] == [port]
    assert answer["dhcp"]["chosen_elsewhere"][0]["at"] == "2026-11-24T06:30:00Z"
    assert answer["tftp"] == {"running": 2, "counters": {"completed": 5}}
