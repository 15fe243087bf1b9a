"""The interfaces' changes are told for as long as the daemon runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pxeboot.adapters import interfaces


async def test_trouble_with_netlink_does_not_end_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyroute2.netlink.exceptions import NetlinkError

    tries = 0

    async def changes(names: set[str]) -> AsyncIterator[tuple[str, str, dict[str, object]]]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise NetlinkError(105, "No buffer space available")
        yield "link.up", "eth0 is connected.", {"interface": "eth0"}
        await asyncio.Event().wait()

    monkeypatch.setattr(interfaces, "_changes", changes)
    monkeypatch.setattr(interfaces, "AGAIN_SECONDS", 0)
    told: asyncio.Queue[str] = asyncio.Queue()
    follower = asyncio.create_task(
        interfaces.follow({"eth0"}, lambda kind, sentence, data: told.put_nowait(kind))
    )
    assert await asyncio.wait_for(told.get(), 30) == "link.up"
    follower.cancel()
