"""The shell on loopback: sockets, identifiers, limits, the end."""

import asyncio
import resource
import socket
import threading
import time
from pathlib import Path

import pytest

from tftp.files import Folder
from tftp.packet import Ack, Data, Error, OptionAck, ReadRequest, WriteRequest, parse
from tftp.server import (
    RequestIgnored,
    RequestRefused,
    Server,
    ServerLimits,
    TransferEnded,
    TransferStarted,
)
from tftp.transfer import Limits, TransferAborted, TransferCompleted, TransferFailed


class Client:
    """A UDP socket with an opinion about time."""

    def __init__(self, address="127.0.0.1"):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind((address, 0))

    def send(self, packet, to):
        self.socket.sendto(packet.to_bytes(), to)

    async def receive(self, seconds=30.0):
        loop = asyncio.get_running_loop()
        data, source = await asyncio.wait_for(loop.sock_recvfrom(self.socket, 70_000), seconds)
        return parse(data), source

    async def silence(self, seconds=0.2):
        with pytest.raises(asyncio.TimeoutError):
            await self.receive(seconds)


@pytest.fixture
def client():
    c = Client()
    yield c
    c.socket.close()


@pytest.fixture
async def server(tmp_path):
    (tmp_path / "small").write_bytes(b"abc")
    (tmp_path / "big").write_bytes(bytes(range(256)) * 40)
    limits = ServerLimits(transfers_per_peer=3, transfer=Limits(timeout=5.0, tries=3))
    server = Server(Folder(tmp_path), "127.0.0.1", 0, limits)
    server.happened = []
    server.on_event = server.happened.append
    await server.start()
    server.at = ("127.0.0.1", server.port)
    yield server
    await server.stop()


async def until(condition, seconds=60.0):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_read(server, client):
    client.send(ReadRequest("//small"), server.at)
    packet, source = await client.receive()
    assert packet == Data(1, b"abc")
    assert source[1] != server.port
    client.send(Ack(1), source)
    await until(lambda: len(server.happened) == 2)
    started, ended = server.happened
    assert isinstance(started, TransferStarted)
    assert (started.name, started.size, started.blksize) == ("//small", 3, 512)
    assert isinstance(ended, TransferEnded)
    assert isinstance(ended.result, TransferCompleted)
    assert server.counters == {"requests": 1, "transfers": 1, "completed": 1, "octets": 3, "resent": 0}


async def test_absent_refused_and_written(server, client):
    for request, code in ((ReadRequest("x"), 1), (ReadRequest("../x"), 2), (WriteRequest("small"), 2)):
        client.send(request, server.at)
        packet, _ = await client.receive()
        assert isinstance(packet, Error)
        assert packet.code == code
    await until(lambda: len(server.happened) == 3)
    assert all(isinstance(e, RequestRefused) for e in server.happened)


async def test_garbage_is_not_answered(server, client):
    for datagram in (b"", b"\0", b"\0\x01", b"\0\x04\0\0", b"\0\x05\0\0x\0", b"\xff" * 2000):
        client.socket.sendto(datagram, server.at)
    await client.silence()
    client.send(ReadRequest("small"), server.at)
    assert (await client.receive())[0] == Data(1, b"abc")


async def test_a_stranger_is_told_and_the_transfer_goes_on(server, client):
    client.send(ReadRequest("small"), server.at)
    _, source = await client.receive()
    stranger = Client()
    stranger.send(Ack(1), source)
    packet, _ = await stranger.receive()
    assert packet.code == 5
    stranger.send(Error(5, "Unknown transfer ID"), source)  # must not be answered, or it would never end
    await stranger.silence()
    assert server.counters["strangers"] == 2
    stranger.socket.close()
    client.send(Ack(1), source)
    await until(lambda: any(isinstance(e, TransferEnded) for e in server.happened))
    assert isinstance(server.happened[-1].result, TransferCompleted)


async def test_a_repeated_request_is_one_transfer(server, client):
    for _ in range(3):
        client.send(ReadRequest("small"), server.at)
    assert (await client.receive())[0] == Data(1, b"abc")
    await client.silence(0.1)
    assert len(server.happened) == 1


async def test_another_file_from_the_same_port_replaces_the_transfer(server, client):
    client.send(ReadRequest("big"), server.at)
    await client.receive()
    client.send(ReadRequest("small"), server.at)
    packet, _ = await client.receive()
    assert packet == Data(1, b"abc")
    assert [type(e) for e in server.happened] == [TransferStarted, TransferEnded, TransferStarted]


async def test_the_probe_for_the_size(server, client):
    client.send(ReadRequest("big", "octet", (("tsize", "0"),)), server.at)
    packet, source = await client.receive()
    assert packet == OptionAck((("tsize", "10240"),))
    client.send(Error(8, "User aborted the transfer"), source)
    await until(lambda: len(server.happened) == 2)
    assert isinstance(server.happened[-1].result, TransferAborted)
    assert server.happened[-1].result.normal


async def test_a_silent_peer_is_given_up(server, client):
    server._limits_for = lambda peer: Limits(timeout=0.2, tries=2)
    client.send(ReadRequest("small"), server.at)
    packets = [(await client.receive())[0] for _ in range(3)]
    assert packets[:2] == [Data(1, b"abc")] * 2
    assert isinstance(packets[2], Error)
    assert isinstance(server.happened[-1].result, TransferFailed)


async def test_a_closed_port_ends_the_transfer_early(server, client):
    server._limits_for = lambda peer: Limits(timeout=0.5, tries=100)
    client.send(ReadRequest("small"), server.at)
    await client.receive()
    client.socket.close()
    await until(lambda: len(server.happened) == 2)
    assert "closed its port" in server.happened[-1].result.reason


async def test_limit_per_peer(server):
    clients = [Client() for _ in range(4)]
    for c in clients:
        c.send(ReadRequest("small"), server.at)
    await until(lambda: any(isinstance(e, RequestIgnored) for e in server.happened))
    await clients[3].silence(0.1)
    _, source = await clients[0].receive()
    clients[0].send(Ack(1), source)
    await until(lambda: any(isinstance(e, TransferEnded) for e in server.happened))
    clients[3].send(ReadRequest("small"), server.at)
    assert (await clients[3].receive())[0] == Data(1, b"abc")
    for c in clients:
        c.socket.close()


async def test_windows_travel_whole(server, client):
    client.send(ReadRequest("big", "octet", (("blksize", "1024"), ("windowsize", "16"))), server.at)
    _, source = await client.receive()
    client.send(Ack(0), source)
    got = [(await client.receive())[0] for _ in range(11)]
    assert [p.block for p in got] == list(range(1, 12))
    assert b"".join(p.payload for p in got) == bytes(range(256)) * 40
    client.send(Ack(11), source)
    await until(lambda: len(server.happened) == 2)


async def test_stop_tells_the_peers(server, client):
    client.send(ReadRequest("big"), server.at)
    await client.receive()
    await server.stop()
    packet, _ = await client.receive()
    assert isinstance(packet, Error)
    await server.stop()


async def test_a_fault_in_making_a_file_is_answered_and_reported(client):
    class Broken:
        def open(self, name, peer, local=""):
            raise ZeroDivisionError

    faults = []
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: faults.append(context["exception"])
    )
    server = Server(Broken(), "127.0.0.1", 0)
    await server.start()
    client.send(ReadRequest("x"), ("127.0.0.1", server.port))
    packet, _ = await client.receive()
    await server.stop()
    assert (packet.code, [type(f) for f in faults]) == (0, [ZeroDivisionError])


async def test_several_addresses_each_answer_for_themselves(tmp_path):
    (tmp_path / "small").write_bytes(b"abc")
    server = Server(Folder(tmp_path), ["127.0.0.1", "127.0.0.2"], 0)
    await server.start()
    for address in ("127.0.0.1", "127.0.0.2"):
        client = Client("127.0.0.9")
        client.send(ReadRequest("small"), (address, server.port))
        packet, source = await client.receive()
        assert (packet, source[0]) == (Data(1, b"abc"), address)
        client.socket.close()
    await server.stop()


async def test_an_address_in_use_is_named_and_nothing_stays_bound(tmp_path):
    taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    taken.bind(("127.0.0.2", 0))
    port = taken.getsockname()[1]
    with pytest.raises(OSError) as caught:
        await Server(Folder(tmp_path), ["127.0.0.1", "127.0.0.2"], port).start()
    assert caught.value.filename == "127.0.0.2"
    taken.close()
    free = Server(Folder(tmp_path), ["127.0.0.1", "127.0.0.2"], port)
    await free.start()
    await free.stop()


async def test_a_card_that_chokes_gets_smaller_blocks(tmp_path, client):
    """SiS900 boot ROMs take no block above 512 octets; OVMF of 2010 none above 1024."""
    (tmp_path / "f").write_bytes(b"x" * 2000)
    known = {"127.0.0.1": Limits(mtu=544)}
    server = Server(Folder(tmp_path), "127.0.0.1", 0, limits_for=lambda peer: known.get(peer.address))
    await server.start()
    client.send(ReadRequest("f", "octet", (("blksize", "1468"),)), ("127.0.0.1", server.port))
    packet, _ = await client.receive()
    assert packet == OptionAck((("blksize", "512"),))
    await server.stop()


async def test_the_last_ack_counts_though_the_port_is_closed_already(server, client):
    """The news of the closed port comes first, the ACK behind it."""
    client.send(ReadRequest("small"), server.at)
    _, source = await client.receive()
    # Held up, as a busy loop would be: all of this is waiting when the server looks.
    client.send(Ack(1), source)
    client.socket.close()
    await until(lambda: len(server.happened) == 2)
    assert isinstance(server.happened[-1].result, TransferCompleted)


async def test_a_lock_step_reader_does_not_keep_the_loop_from_its_other_work(tmp_path):
    (tmp_path / "f").write_bytes(bytes(512 * 20_000))
    server = Server(Folder(tmp_path), "127.0.0.1", 0)
    await server.start()
    stopped = threading.Event()
    got = []

    def read():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.settimeout(30)
            sock.sendto(ReadRequest("f").to_bytes(), ("127.0.0.1", server.port))
            while not stopped.is_set():
                data, source = sock.recvfrom(600)
                got.append(data[2:4])
                sock.sendto(b"\0\4" + data[2:4], source)
                if len(data) < 516:
                    return

    reader = asyncio.create_task(asyncio.to_thread(read))
    loop, late = asyncio.get_running_loop(), []
    for _ in range(10):  # a machine with other work may spoil some of these
        for _ in range(50):
            due = loop.time() + 0.005
            await asyncio.sleep(0.005)
            late.append(loop.time() - due)
        if sorted(late[-50:])[25] < 0.02 and len(got) > 100:
            break
    stopped.set()
    await reader
    await server.stop()
    assert len(got) > 100
    assert sorted(late[-50:])[25] < 0.02  # a turn is 2 ms


async def test_a_thousand_readers_of_one_file_fit_in_little_memory(tmp_path):
    """And they end at once when the server stops."""
    size = 4_000_000
    (tmp_path / "f").write_bytes(bytes(size))
    server = Server(Folder(tmp_path), "127.0.0.1", 0, ServerLimits(transfers_per_peer=1024))
    await server.start()  # which raises the number of descriptors we may have, where it is low
    most = min(1000, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 100) // 4)
    at = ("127.0.0.1", server.port)
    clients = [Client() for _ in range(most)]
    before = _resident()
    options = (("blksize", "1024"), ("windowsize", "4"))
    for number, c in enumerate(clients):
        c.send(ReadRequest("f", "octet", options), at)
        if number % 50 == 0:
            await asyncio.sleep(0)
    await until(lambda: server.running == most)
    for number, c in enumerate(clients):  # each at another place of the file
        _, source = await c.receive()
        c.send(Ack(0), source)
        for window in range(1, 1 + number % 3):
            while not isinstance(packet := (await c.receive())[0], Data) or packet.block < 4 * window:
                pass
            c.send(Ack(4 * window), source)
    grown = _resident() - before
    began = time.monotonic()
    await server.stop()
    assert time.monotonic() - began < 10
    assert server.running == 0
    assert server.counters["failed"] == most
    # A descriptor and a few objects each, and the file once: 4 MB.
    assert grown < 40_000_000
    for c in clients:
        c.socket.close()


def _resident():
    """Octets of memory this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def test_requests_that_nobody_means_do_not_shut_out_who_comes_later(tmp_path):
    """Whoever made up the senders of a thousand requests never answers; a machine does within a second."""
    (tmp_path / "small").write_bytes(b"abc")
    server = Server(Folder(tmp_path), "127.0.0.1", 0, ServerLimits(transfers=2, transfer=Limits(timeout=1.0)))
    happened = []
    server.on_event = happened.append
    await server.start()
    request = ReadRequest("small", options=(("blksize", "1024"),))
    strangers, machine = [Client(f"127.0.0.{last}") for last in (2, 3)], Client("127.0.0.4")
    try:
        strangers[0].send(request, ("127.0.0.1", server.port))
        _, its_transfer = await strangers[0].receive()
        strangers[0].send(Ack(0), its_transfer)  # this one is at work
        await strangers[0].receive()
        strangers[1].send(request, ("127.0.0.1", server.port))
        await strangers[1].receive()
        machine.send(request, ("127.0.0.1", server.port))
        await machine.silence(0.1)  # it may be slow only
        await asyncio.sleep(2.1)
        machine.send(request, ("127.0.0.1", server.port))
        assert isinstance((await machine.receive())[0], OptionAck)
        assert [event.peer.address for event in happened if isinstance(event, TransferEnded)] == ["127.0.0.3"]
    finally:
        await server.stop()
        for client in (*strangers, machine):
            client.socket.close()
