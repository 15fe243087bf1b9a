"""The journal live: one machine's lines alone, and those that were missed while the line was down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from api.v1.live import event_stream
from pxeboot.adapters.container import Services
from pxeboot.errors import NotFound
from pxeboot.services import hosts

Ask = Callable[..., httpx.Response]
MAC, STRANGER = "52:54:00:00:00:01", "52:54:00:ff:ff:ff"


class Follower:
    """Reads a stream the way an EventSource does."""

    def __init__(self, body: AsyncIterator[str]) -> None:
        self._body = body

    async def begin(self) -> None:
        assert (await anext(self._body)).startswith(": following")

    async def next(self) -> tuple[str, dict[str, object], str]:
        while True:
            text = await asyncio.wait_for(anext(self._body), 10)
            if not text.startswith(":"):
                parts = dict(line.split(": ", 1) for line in text.strip().splitlines())
                return parts["event"], json.loads(parts["data"]), parts.get("id", "")


async def follow(services: Services, after: int | None = None, **wanted: str | None) -> Follower:
    await asyncio.to_thread(services.journal.flush)  # what the furniture said
    chosen = {"host": None, "plane": None, "kind": None, **wanted}
    answer = await event_stream(services, after=after, **chosen)  # type: ignore[arg-type]
    made = Follower(answer.body_iterator)  # type: ignore[arg-type]
    await made.begin()
    return made


async def test_one_machine_is_followed_by_name_and_by_mac(services: Services, ask: Ask, room: None) -> None:
    by_name = await follow(services, host="B204-01")
    by_mac = await follow(services, host=STRANGER)
    services.journal.record("dhcp", "dhcp.offered", "for another", mac="52:54:00:00:00:02")
    services.journal.record("dhcp", "dhcp.offered", "for a stranger", mac=STRANGER)
    services.journal.record("tftp", "tftp.served", "for us", mac=MAC)
    event, line, id = await by_name.next()
    assert (event, line["sentence"], line["plane"]) == ("journal", "for us", "tftp")
    assert id == str(line["id"])
    assert (await by_mac.next())[1]["sentence"] == "for a stranger"
    with pytest.raises(NotFound):
        await follow(services, host="nobody")


async def test_a_new_network_card_is_followed_at_once(services: Services, ask: Ask, room: None) -> None:
    stream = await follow(services, host="B204-01", plane="dhcp")
    with services.write() as session:
        hosts.update_host(session, "B204-01", macs=[MAC, STRANGER])
    await asyncio.sleep(0.3)  # the change has gone through the journal
    pending = asyncio.ensure_future(stream.next())
    await asyncio.sleep(0.3)
    services.journal.record("dhcp", "dhcp.offered", "by its new card", mac=STRANGER)
    assert (await pending)[1]["sentence"] == "by its new card"


async def test_planes_and_kinds_are_filtered(services: Services) -> None:
    dhcp = await follow(services, plane="dhcp")
    decided = await follow(services, kind="boot.decided")
    for plane, kind in (("tftp", "tftp.served"), ("boot", "boot.decided"), ("dhcp", "dhcp.offered")):
        services.journal.record(plane, kind, kind, mac=MAC)
    assert (await dhcp.next())[1]["kind"] == "dhcp.offered"
    assert (await decided.next())[1]["plane"] == "boot"


async def test_who_comes_back_hears_what_was_missed_once(services: Services, room: None) -> None:
    first = await follow(services, host="B204-01")
    services.journal.record("dhcp", "dhcp.offered", "one", mac=MAC)
    last = int((await first.next())[2])
    for text in ("two", "three"):
        services.journal.record("dhcp", "dhcp.offered", text, mac=MAC)
    await asyncio.to_thread(services.journal.flush)
    again = await follow(services, after=last, host="B204-01")
    assert [(await again.next())[1]["sentence"] for _ in range(2)] == ["two", "three"]
    services.journal.record("dhcp", "dhcp.offered", "four", mac=MAC)
    assert (await again.next())[1]["sentence"] == "four"


def test_the_list_is_filtered_by_host_too(services: Services, ask: Ask, room: None) -> None:
    for mac in (MAC, STRANGER):
        services.journal.record("dhcp", "dhcp.offered", f"to {mac}", mac=mac)
    services.journal.flush()
    for host, mac in (("B204-01", MAC), (STRANGER, STRANGER), (STRANGER.upper().replace(":", "-"), STRANGER)):
        items = ask("GET", f"/events?host={host}&plane=dhcp").json()["items"]
        assert [item["mac"] for item in items] == [mac]
    assert ask("GET", "/events?host=nobody").status_code == 404
