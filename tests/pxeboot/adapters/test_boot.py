"""What DHCP and TFTP are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from dhcp.actions import Noted
from dhcp.pxe import ARCHITECTURES, PxeClient
from pxeboot.adapters import boot, knownhosts
from pxeboot.adapters.container import make_journal
from pxeboot.events import Journal
from pxeboot.services import hosts, journal, unit
from pxeboot.settings import Settings
from tests.plane import Plane, ip, mac
from tftp.files import Peer
from tftp.server import TransferEnded, TransferStarted
from tftp.transfer import TransferCompleted

BIOS, UEFI = ARCHITECTURES[0], ARCHITECTURES[7]
FILES = {"undionly.kpxe", "shimx64.efi", "grubx64.efi"}


@pytest.fixture
def live(plane: Plane) -> Iterator[Journal]:
    made = make_journal(plane.database)
    made.start()
    yield made
    made.stop()


def choice(plane: Plane, live: Journal, **sections: Any) -> boot.Choice:
    settings = Settings.model_validate({"server": plane.settings.server, **sections})
    return boot.Choice(settings, "http://{}".format, boot.KnownHosts(plane.database), live, lambda: FILES)


def told(plane: Plane, live: Journal) -> list[str]:
    assert live.flush()
    with plane.read() as session:
        return [event.kind for event in journal.list_events(session).items]


def test_each_firmware_its_loader(plane: Plane, live: Journal) -> None:
    chosen = choice(plane, live)
    bios = chosen.choose(PxeClient(mac=mac(1), architecture=BIOS), 0, "10.20.0.1")
    uefi = chosen.choose(PxeClient(mac=mac(1), architecture=UEFI), 0, "10.20.0.1")
    ipxe = chosen.choose(PxeClient(mac=mac(1), architecture=BIOS, ipxe=True), 0, "10.20.0.1")
    assert (bios and bios.file, uefi and uefi.file) == ("undionly.kpxe", "shimx64.efi")
    assert ipxe is not None
    assert ipxe.file.startswith(f"http://10.20.0.1/boot/ipxe?mac={mac(1)}&uuid=")


def test_strangers_are_ignored_where_the_site_says_so(plane: Plane, live: Journal) -> None:
    plane.room(1)
    chosen = choice(plane, live, boot={"unknown_host": "ignore"})
    assert chosen.choose(PxeClient(mac=mac(9), architecture=BIOS), 0, "10.20.0.1") is None
    assert chosen.choose(PxeClient(mac=mac(1), architecture=BIOS), 0, "10.20.0.1") is not None
    assert told(plane, live) == ["boot.ignored"]


def test_a_machine_we_have_no_loader_for_is_noted(plane: Plane, live: Journal) -> None:
    assert (
        choice(plane, live).choose(PxeClient(mac=mac(9), architecture=ARCHITECTURES[11]), 0, "10.20.0.1")
        is None
    )
    assert told(plane, live) == ["boot.impossible"]


async def test_known_hosts_follow_what_is_approved_and_added(plane: Plane, live: Journal) -> None:
    known = boot.KnownHosts(plane.database)
    follower = asyncio.create_task(known.follow(live))
    await asyncio.sleep(0)
    with unit.writing(plane.database, live) as session:
        hosts.create_host(session, name="new", macs=[mac(4)], state="pending")
    for _ in range(1000):
        await asyncio.sleep(0.05)
        if known.find(mac(4), ""):
            break
    found = known.find(mac(4), "")
    assert found is not None
    assert found.state == "pending"
    live.close_subscriptions()
    await asyncio.wait_for(follower, 30)


async def test_leases_say_where_machines_are(
    plane: Plane, live: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boot, "FLUSH_SECONDS", 0.01)
    plane.room(1)
    seen = boot.SeenBook(plane.database, live)
    take = boot.dhcp_notes(live, seen)
    take(Noted(kind="dhcp.offered", mac=mac(1), sentence="offered", data={"address": "10.20.0.250"}))
    take(Noted(kind="dhcp.acknowledged", mac=mac(1), sentence="bound", data={"address": ip(1)}))
    writer = asyncio.create_task(seen.run())
    for _ in range(2500):
        await asyncio.sleep(0.02)
        with plane.read() as session:
            host = hosts.get_host(session, "pc1")
        if host.seen_at:
            break
    writer.cancel()
    assert host.address == ip(1)
    assert told(plane, live) == ["dhcp.acknowledged", "dhcp.offered"]


def full_disk(times: int, then: Callable[..., None]) -> Callable[..., None]:
    """`then`, after it has failed so often."""
    failures = [OperationalError("UPDATE host", {}, Exception("database or disk is full"))] * times

    def call(*arguments: Any) -> None:
        if failures:
            raise failures.pop()
        then(*arguments)

    return call


async def test_what_was_seen_waits_for_a_database_that_fails_for_a_while(
    plane: Plane, live: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boot, "FLUSH_SECONDS", 0.02)
    plane.room(1)
    seen = boot.SeenBook(plane.database, live)
    monkeypatch.setattr(boot.SeenBook, "_write", full_disk(2, boot.SeenBook._write))
    writer = asyncio.create_task(seen.run())
    seen.note(mac(1), ip(1))
    for _ in range(2500):
        await asyncio.sleep(0.02)
        assert not writer.done()  # its end would end the daemon
        with plane.read() as session:
            host = hosts.get_host(session, "pc1")
        if host.seen_at:
            break
    writer.cancel()
    assert host.address == ip(1)


async def test_known_hosts_are_read_again_until_it_works(
    plane: Plane, live: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knownhosts, "RELOAD_SECONDS", 0.02)
    monkeypatch.setattr(knownhosts, "RETRY_SECONDS", 0.02)
    known = boot.KnownHosts(plane.database)
    monkeypatch.setattr(boot.KnownHosts, "load", full_disk(2, boot.KnownHosts.load))
    follower = asyncio.create_task(known.follow(live))
    await asyncio.sleep(0)
    with unit.writing(plane.database, live) as session:
        hosts.create_host(session, name="new", macs=[mac(4)], state="pending")
    for _ in range(2500):
        await asyncio.sleep(0.02)
        assert not follower.done()
        if known.find(mac(4), ""):
            break
    follower.cancel()
    assert known.find(mac(4), "") is not None


def test_whose_address_it_is_is_asked_only_for_what_is_written_down(live: Journal) -> None:
    """Beside another DHCP server that is a look into /proc: none for what nobody is told."""
    asked: list[str] = []

    def mac_of(address: str) -> str:
        asked.append(address)
        return mac(1)

    take = boot.tftp_notes(live, mac_of)
    peer = Peer("10.20.0.9", 2070)
    take(TransferStarted(peer, "shimx64.efi", 9, 512, 1))
    assert asked == []
    take(TransferEnded(peer, "shimx64.efi", TransferCompleted(9, 0.1, 0)))
    assert asked == ["10.20.0.9"]
