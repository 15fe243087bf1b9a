"""The shell, with real sockets; leases outlive a kill -9 of the process that gave them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from dhcp import options as opt
from dhcp.actions import Action, Arrival, Noted, Send
from dhcp.leases import Lease, LeaseError, SqliteLeases
from dhcp.packet import MessageType, Packet
from dhcp.responder import Responder
from dhcp.server import DhcpServer, Listener
from tests.dhcp.conversation import NOW, Shelf, message, plain, subnet
from tests.dhcp.room import room, run, served

PORT = 6767  # a test on loopback needs neither root nor port 67


class NoNeighbours:
    def add(self, address: str, mac: str, interface: str) -> None:
        raise OSError("not allowed")


class Client(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.replies: asyncio.Queue[Packet] = asyncio.Queue()

    def datagram_received(self, data: bytes, source: tuple[str, int]) -> None:
        self.replies.put_nowait(Packet.parse(data))


class ToUs(Responder):
    """The real responder, replies turned back to where the request came from: loopback has no broadcast."""

    def handle(self, packet: Packet, arrived_on: Arrival, now: float) -> list[Send | Noted]:
        return [
            replace(action, to=arrived_on.source, port=arrived_on.source_port, l2=None)
            if isinstance(action, Send)
            else action
            for action in super().handle(packet, arrived_on, now)
        ]


class Broken(Responder):
    def handle(self, packet: Packet, arrived_on: Arrival, now: float) -> list[Send | Noted]:
        raise ZeroDivisionError("a bug")


def on_loopback(tmp_path: Path) -> tuple[DhcpServer, SqliteLeases, list[Noted]]:
    leases = SqliteLeases(tmp_path / "leases.sqlite")
    notes: list[Noted] = []
    responder = ToUs([subnet(interface="lo")], leases, Shelf())
    listeners = [Listener("lo", PORT)]
    server = DhcpServer(listeners, responder, leases, NoNeighbours(), notes.append, clock=lambda: NOW)
    return server, leases, notes


@pytest.fixture
def may_bind_to_device() -> None:
    if os.geteuid():
        pytest.skip("SO_BINDTODEVICE needs root")


async def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def confirm(last: int) -> bytes:
    """The REQUEST of a machine in INIT-REBOOT for 10.20.0.last: one datagram that changes a lease."""
    options = {opt.REQUESTED_ADDRESS: bytes((10, 20, 0, last))}
    return message(MessageType.REQUEST, f"52:54:00:00:00:{last}", options).to_bytes()


async def ask(client: Client, transport: asyncio.DatagramTransport, packet: Packet) -> Packet:
    transport.sendto(packet.to_bytes(), ("127.0.0.1", PORT))
    return await asyncio.wait_for(client.replies.get(), 30)


@pytest.mark.usefixtures("may_bind_to_device")
async def test_a_bug_or_rubbish_costs_one_datagram(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server, leases, notes = on_loopback(tmp_path)
    loop = asyncio.get_running_loop()
    await server.start()
    transport, client = await loop.create_datagram_endpoint(Client, local_addr=("127.0.0.1", 0))
    try:
        good = server.responder
        server.responder = Broken(good.subnets, leases, Shelf())
        transport.sendto(plain().to_bytes(), ("127.0.0.1", PORT))
        transport.sendto(b"rubbish", ("127.0.0.1", PORT))
        await until(lambda: server.counters["received"] == 2)
        server.responder = good
        assert (await ask(client, transport, plain())).yiaddr == "10.20.0.10"
        assert (server.counters["crashed"], server.counters["malformed"], server.counters["sent"]) == (
            1,
            1,
            1,
        )
        assert "ZeroDivisionError" in caplog.text
        assert [note.kind for note in notes] == ["dhcp.offered"]
    finally:
        transport.close()
        await server.stop()
        leases.close()


@pytest.mark.usefixtures("may_bind_to_device")
async def test_nothing_is_promised_that_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, leases, notes = on_loopback(tmp_path)
    loop = asyncio.get_running_loop()
    await server.start()
    transport, client = await loop.create_datagram_endpoint(Client, local_addr=("127.0.0.1", 0))

    def full() -> None:
        raise LeaseError("disk full")

    try:
        with monkeypatch.context() as patch:
            patch.setattr(leases, "finish", full)
            transport.sendto(confirm(20), ("127.0.0.1", PORT))
            await until(lambda: server.counters["commit_failed"] == 1)
        assert notes == []
        assert client.replies.empty()
        assert leases.all() == []
        assert (await ask(client, transport, plain())).yiaddr == "10.20.0.10"
    finally:
        transport.close()
        await server.stop()
        leases.close()


@pytest.mark.usefixtures("may_bind_to_device")
async def test_a_slow_disk_gathers_and_a_stop_still_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three machines come while the disk is busy: one more transaction holds all three, the stop waits."""
    server, leases, _ = on_loopback(tmp_path)
    loop = asyncio.get_running_loop()
    await server.start()
    transport, client = await loop.create_datagram_endpoint(Client, local_addr=("127.0.0.1", 0))
    finish, calls, disk = leases.finish, [], threading.Event()

    def slow() -> None:
        calls.append(len(calls))
        disk.wait(60)
        finish()

    monkeypatch.setattr(leases, "finish", slow)

    try:
        transport.sendto(confirm(20), ("127.0.0.1", PORT))
        await until(lambda: bool(calls))
        for last in (21, 22, 23):
            transport.sendto(confirm(last), ("127.0.0.1", PORT))
        await until(lambda: server.counters["received"] == 4)
        assert client.replies.empty()
        loop.call_later(0.3, disk.set)
        await server.stop()
        assert len(calls) == 2
        await until(lambda: client.replies.qsize() == 4)
    finally:
        transport.close()
        await server.stop()
        leases.close()


@pytest.mark.usefixtures("may_bind_to_device")
async def test_after_a_transaction_of_several_the_next_gathers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Machines that come one by one after a crowd share a transaction; a stop writes it at once."""
    monkeypatch.setattr("dhcp.server._GATHER_SECONDS", 3600)
    server, leases, _ = on_loopback(tmp_path)
    loop = asyncio.get_running_loop()
    await server.start()
    transport, client = await loop.create_datagram_endpoint(Client, local_addr=("127.0.0.1", 0))
    finish, calls = leases.finish, []
    monkeypatch.setattr(leases, "finish", lambda: (calls.append(len(calls)), finish()))
    try:
        for last in (20, 21, 22, 23):
            transport.sendto(confirm(last), ("127.0.0.1", PORT))
        await until(lambda: client.replies.qsize() == 4)
        assert len(calls) == 1
        for last, received in ((24, 5), (25, 6)):
            transport.sendto(confirm(last), ("127.0.0.1", PORT))
            await until(lambda received=received: server.counters["received"] == received)
        assert (len(calls), client.replies.qsize()) == (1, 4)
        await server.stop()
        await until(lambda: client.replies.qsize() == 6)
        assert len(calls) == 2
    finally:
        transport.close()
        await server.stop()
        leases.close()


@pytest.mark.usefixtures("may_bind_to_device")
async def test_a_missing_interface_is_an_error_at_start(tmp_path: Path) -> None:
    _, leases, notes = on_loopback(tmp_path)
    responder = ToUs([subnet(interface="lo")], leases, Shelf())
    listeners = [Listener("lo", PORT), Listener("no-such-link")]
    server = DhcpServer(listeners, responder, leases, NoNeighbours(), notes.append)
    try:
        with pytest.raises(OSError, match=r"No such device \(no-such-link port 67\)"):
            await server.start()
        await server.stop()
        assert server.missing == ()
    finally:
        leases.close()


@pytest.mark.net
def test_an_acknowledged_lease_outlives_a_kill(tmp_path: Path) -> None:
    """udhcpc has its ACK, the server is killed that moment, another process reads the file."""
    path = tmp_path / "leases.sqlite"
    with room() as where:
        client = where.client("52:54:00:00:00:21")
        with served(where, path) as server:
            udhcpc = ("busybox", "udhcpc", "-i", "eth0", "-q", "-n", "-s", "/bin/true")
            where.inside(client, *udhcpc)
            server.process.send_signal(signal.SIGKILL)
            server.process.wait(30)
            kept = SqliteLeases(path)
            try:
                (lease,) = kept.all()
            finally:
                kept.close()
            assert isinstance(lease, Lease)
            assert (lease.mac, lease.state, lease.address) == ("52:54:00:00:00:21", "bound", "10.77.0.10")
        with served(where, path) as server:
            second = where.client("52:54:00:00:00:22")
            where.inside(second, *udhcpc)
            where.inside(client, *udhcpc)
            given = []
            while len(given) < 2:
                note = server.wait_for("kind", "dhcp.acknowledged")
                given.append((note["mac"], note["data"]["address"]))
            assert given == [("52:54:00:00:00:22", "10.77.0.11"), ("52:54:00:00:00:21", "10.77.0.10")]


@pytest.mark.net
def test_a_client_without_an_address_is_reached_by_unicast(tmp_path: Path) -> None:
    with room() as where, served(where, tmp_path / "leases.sqlite") as server:
        client = where.client()
        where.inside(client, "busybox", "udhcpc", "-i", "eth0", "-q", "-n", "-s", "/bin/true")
        where.inside(client, "busybox", "udhcpc", "-i", "eth0", "-q", "-n", "-B", "-s", "/bin/true")
        assert server.process.stdin is not None
        server.process.stdin.close()
        counters = server.wait_for("counters")["counters"]
        assert (counters["unicast"], counters["broadcast"]) == (2, 2)
        assert "neighbour_failed" not in counters
        assert run("ip", "netns", "list").stdout.count(where.prefix) == 2


UDHCPC = ("busybox", "udhcpc", "-i", "eth0", "-q", "-n", "-t", "8", "-T", "1", "-s", "/bin/true")


@pytest.mark.net
def test_a_link_may_go_down_lose_its_address_or_be_made_anew(tmp_path: Path) -> None:
    with room() as where, served(where, tmp_path / "leases.sqlite") as server:
        client = where.client()

        def here(command: str) -> None:
            where.inside(where.server, *command.split())

        where.inside(client, *UDHCPC)
        here("ip link set br0 down")
        where.inside(client, "busybox", "udhcpc", "-i", "eth0", "-q", "-n", "-t", "1", "-T", "1", check=False)
        here("ip link set br0 up")
        where.inside(client, *UDHCPC)

        here("ip addr flush dev br0")
        where.inside(client, "busybox", "udhcpc", "-i", "eth0", "-q", "-n", "-t", "1", "-T", "1", check=False)
        assert "no address to answer from" in server.wait_for("kind", "dhcp.ignored")["sentence"]
        here("ip addr add 10.77.0.1/24 brd + dev br0")
        where.inside(client, *UDHCPC)

        here("ip link del br0")
        here("ip link add br0 type bridge forward_delay 0 mcast_snooping 0")
        here("ip addr add 10.77.0.1/24 brd + dev br0")
        here("ip link set br0 up")
        here("ip link set v0 master br0")
        where.inside(client, *UDHCPC)

        assert server.process.stdin is not None
        server.process.stdin.close()
        counters = server.wait_for("counters")["counters"]
        assert counters["reopened"] >= 1
        assert "crashed" not in counters


@pytest.mark.usefixtures("may_bind_to_device")
async def test_one_server_has_both_ports_and_goes_on_without_an_optional_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Port 67 is another program's on the same machine, as in mode proxy; 4011 is ours."""
    _, leases, notes = on_loopback(tmp_path)
    responder = ToUs([subnet(interface="lo")], leases, Shelf())
    taken, ours = Listener("lo", PORT + 1, optional=True), Listener("lo", PORT)
    server = DhcpServer([taken, ours], responder, leases, NoNeighbours(), notes.append, clock=lambda: NOW)
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other.bind(("127.0.0.1", PORT + 1))
    transport = None
    try:
        both = [ours, Listener("lo", PORT + 1)]
        strict = DhcpServer(both, responder, leases, NoNeighbours(), notes.append)
        with pytest.raises(OSError, match=rf"in use \(lo port {PORT + 1}\)"):
            await strict.start()
        await server.start()
        assert server.missing == (taken,)
        assert f"going on without lo port {PORT + 1}" in caplog.text
        loop = asyncio.get_running_loop()
        transport, client = await loop.create_datagram_endpoint(Client, local_addr=("127.0.0.1", 0))
        await ask(client, transport, plain())
        assert (server.counters_of(ours)["sent"], server.counters_of(taken)["sent"]) == (1, 0)
        other.close()
        await until(lambda: not server.missing)
        transport.sendto(plain(xid=0x77).to_bytes(), ("127.0.0.1", PORT + 1))
        await asyncio.wait_for(client.replies.get(), 30)
        assert server.counters_of(taken)["sent"] == 1
        assert server.counters["sent"] == 2
    finally:
        other.close()
        if transport is not None:
            transport.close()
        await server.stop()
        leases.close()


@pytest.mark.usefixtures("may_bind_to_device")
async def test_the_same_message_twice_in_a_queue_gets_one_answer(tmp_path: Path) -> None:
    server, leases, _ = on_loopback(tmp_path)
    await server.start()
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_datagram_endpoint(Client, local_addr=("127.0.0.1", 0))
    try:
        for secs in (0, 4, 8):  # nothing runs between these: they are one batch
            transport.sendto(plain(secs=secs).to_bytes(), ("127.0.0.1", PORT))
        transport.sendto(plain(xid=0x99).to_bytes(), ("127.0.0.1", PORT))
        await until(lambda: server.counters["received"] == 4)
        await until(lambda: client.replies.qsize() == 2)
        await asyncio.sleep(0.05)
        assert client.replies.qsize() == 2
        assert server.counters["repeated"] == 2
    finally:
        transport.close()
        await server.stop()
        leases.close()


@pytest.mark.usefixtures("may_bind_to_device")
async def test_in_a_flood_those_who_finish_go_first_and_the_oldest_beginners_are_dropped(
    tmp_path: Path,
) -> None:
    leases = SqliteLeases(tmp_path / "leases.sqlite")
    wide = subnet(interface="lo", network=IPv4Network("10.20.0.0/16"), ranges=(("10.20.1.0", "10.20.200.0"),))
    judged: list[int] = []

    class Watched(ToUs):
        def handle(self, packet: Packet, arrived_on: Arrival, now: float) -> list[Action]:
            judged.append(packet.message_type)
            return super().handle(packet, arrived_on, now)

    responder = Watched([wide], leases, Shelf())
    server = DhcpServer([Listener("lo", PORT)], responder, leases, NoNeighbours(), lambda note: None)
    await server.start()
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_datagram_endpoint(Client, local_addr=("127.0.0.1", 0))
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, 33, 4 << 20)  # SO_RCVBUFFORCE
    try:
        for number in range(1500):  # nothing runs between these
            mac = f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"
            transport.sendto(plain(mac, xid=number + 1).to_bytes(), ("127.0.0.1", PORT))
        reboot = message(
            MessageType.REQUEST, "02:00:00:00:ff:01", {opt.REQUESTED_ADDRESS: bytes((10, 20, 100, 1))}
        )
        transport.sendto(reboot.to_bytes(), ("127.0.0.1", PORT))
        await until(lambda: server.counters["sent"] + server.counters["shed"] == 1501, 30)
        await until(lambda: client.replies.qsize() == server.counters["sent"], 30)
        replies = [client.replies.get_nowait() for _ in range(client.replies.qsize())]
        assert judged.index(MessageType.REQUEST) < 400 < len(replies)  # it was the last to come
        offered = {reply.xid for reply in replies}
        assert server.counters["shed"] == 1500 - (len(replies) - 1) > 0
        assert 1500 in offered  # the newest was served
    finally:
        transport.close()
        await server.stop()
        leases.close()


@pytest.mark.usefixtures("may_bind_to_device")
async def test_a_request_heard_on_two_interfaces_is_judged_on_each(tmp_path: Path) -> None:
    """Two cards on one wire, a subnet on one of them: the other's deaf ear must not silence it."""
    leases = SqliteLeases(tmp_path / "leases.sqlite")

    class OneIsDeaf(ToUs):
        def handle(self, packet: Packet, arrived_on: Arrival, now: float) -> list[Action]:
            return [] if arrived_on.port == PORT else super().handle(packet, arrived_on, now)

    responder = OneIsDeaf([subnet(interface="lo")], leases, Shelf())
    listeners = [Listener("lo", PORT), Listener("lo", PORT + 1)]
    server = DhcpServer(listeners, responder, leases, NoNeighbours(), lambda note: None)
    await server.start()
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_datagram_endpoint(Client, local_addr=("127.0.0.1", 0))
    try:
        for port in (PORT, PORT + 1):
            transport.sendto(plain().to_bytes(), ("127.0.0.1", port))
        server._go_on()  # as under load: both are emptied in one turn
        assert (await asyncio.wait_for(client.replies.get(), 30)).yiaddr == "10.20.0.10"
    finally:
        transport.close()
        await server.stop()
        leases.close()
