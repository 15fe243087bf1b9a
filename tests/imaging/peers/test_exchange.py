"""Both HTTP ends over loopback: a real server with a real disk file behind it, and its neighbour."""

from __future__ import annotations

import http.client
import random
import socket
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from imaging.chunks import compress, hash_chunk, open_frame
from imaging.manifest import CHUNK_SIZE, DiskImage, Manifest, Runs
from imaging.peers.choose import Result
from imaging.peers.client import PeerClient, PeerError
from imaging.peers.news import Holdings
from imaging.peers.serve import SENDING, PeerServer
from imaging.peers.stock import Stock
from imaging.target import Assignment, Target

COUNT = 4
SECRET = "5e" * 32
noise = random.Random(11)
CHUNKS = [noise.randbytes(1000).ljust(CHUNK_SIZE, b"\0") for _ in range(COUNT)]
LOOPBACK = IPv4Network("127.0.0.0/8")


class Host:
    """A neighbour that serves: its disk file holds chunks 0 and 1, its memory the frame of chunk 2."""

    def __init__(self, path: Path, network: IPv4Network | None = LOOPBACK, mbit: float | None = None) -> None:
        size = COUNT * CHUNK_SIZE
        hashes = b"".join(map(hash_chunk, CHUNKS))
        self.manifest = Manifest([DiskImage(size, 512, None, (), Runs([(0, size)]), hashes)])
        self.disk = path / "disk.img"
        self.disk.write_bytes(CHUNKS[0] + CHUNKS[1] + bytes(2 * CHUNK_SIZE))
        self.target = Target(self.manifest, Assignment(0, str(self.disk)), write=False, shared=True)
        self.holdings = Holdings(COUNT, epoch=9)
        self.stock = Stock(self.manifest.chunks, self.holdings, memory=1 << 20)
        self.stock.read_with(self.target.read)
        self.stock.keep(2, compress(CHUNKS[2]))
        for index in (0, 1, 2):
            self.holdings.add(index)
        self.server = PeerServer("127.0.0.1", 0, SECRET, self.stock, network, mbit)

    def neighbour(self, secret: str = SECRET) -> PeerClient:
        return PeerClient(("127.0.0.1", self.server.port), secret, COUNT)

    def close(self) -> None:
        self.server.close()
        self.target.close()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.close()


def fails(client: PeerClient, index: int) -> Result:
    with pytest.raises(PeerError) as caught:
        client.chunk(index, 0, 0)
    return caught.value.result


def test_chunks_come_from_memory_and_from_the_disk_with_the_news(host: Host) -> None:
    client = host.neighbour()
    assert client.news(0, 0).epoch == 9
    for index in (2, 0, 1):
        news, frame = client.chunk(index, 9, 0)
        assert open_frame(hash_chunk(CHUNKS[index]), frame) == CHUNKS[index]
        assert news.position == 3
    while host.stock.sent_chunks < 3:  # it counts when all is sent; the test's time limit bounds this
        time.sleep(0.01)
    assert 3000 < host.stock.sent_bytes < 4000
    assert fails(client, 3) is Result.MISSING
    assert fails(client, 99) is Result.MISSING
    client.close()


def test_what_the_disk_has_lost_is_not_sent(host: Host) -> None:
    with open(host.disk, "r+b") as file:
        file.seek(CHUNK_SIZE + 500)
        file.write(b"somebody else wrote here")
    client = host.neighbour()
    assert fails(client, 1) is Result.MISSING
    assert 1 not in host.holdings
    assert client.chunk(0, 0, 0)[1]
    client.close()


def test_while_file_systems_change_only_memory_is_served(host: Host) -> None:
    host.stock.read_with(None)
    client = host.neighbour()
    assert client.chunk(2, 0, 0)[1]
    assert fails(client, 0) is Result.MISSING
    host.stock.read_with(host.target.read)
    assert client.chunk(0, 0, 0)[1]
    client.close()


def test_memory_is_bounded_and_the_disk_makes_up_for_it(tmp_path: Path) -> None:
    host = Host(tmp_path)
    rest = noise.randbytes(700_000)
    host.stock.keep(0, rest)
    host.stock.keep(1, rest)  # both do not fit: the older ones go
    assert host.stock.frame(1) == rest
    assert host.stock.frame(2) is None
    remade = host.stock.frame(0)
    assert remade is not None
    assert open_frame(hash_chunk(CHUNKS[0]), remade) == CHUNKS[0]
    host.close()


def test_without_the_secret_nothing_is_told(host: Host) -> None:
    for secret in ("", "5f" * 32, "é"):
        try:
            assert fails(host.neighbour(secret), 0) is Result.FAILED
        except UnicodeEncodeError:
            continue
    raw = http.client.HTTPConnection("127.0.0.1", host.server.port, timeout=60)
    raw.request("GET", "/peer/v1/have")
    answer = raw.getresponse()
    assert (answer.status, answer.read()) == (401, b"")
    raw.close()


def test_another_subnet_is_refused_unless_all_are_welcome(tmp_path: Path) -> None:
    host = Host(tmp_path, IPv4Network("10.0.0.0/8"))
    assert fails(host.neighbour(), 0) is Result.FAILED
    host.server.network = None
    assert host.neighbour().chunk(0, 0, 0)[1]
    host.close()


@pytest.mark.parametrize(
    "path",
    ["/", "/peer/v1/chunks", "/peer/v1/chunks/x", "/peer/v1/chunks/-1", "/peer/v1/chunks/1/../..", "/é"],
)
def test_nonsense_is_answered_and_harms_nothing(host: Host, path: str) -> None:
    with socket.create_connection(("127.0.0.1", host.server.port), timeout=60) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nAuthorization: Bearer {SECRET}\r\n\r\n".encode())
        assert raw.recv(100).split()[1] in (b"404", b"400")
    assert host.neighbour().chunk(0, 0, 0)[1]


def test_a_busy_host_says_so(host: Host) -> None:
    for _ in range(SENDING):
        host.server.sending.acquire()
    client = host.neighbour()
    assert fails(client, 0) is Result.BUSY
    host.server.sending.release()
    assert client.chunk(0, 0, 0)[1]
    client.close()


def test_a_port_that_is_taken_is_replaced(host: Host) -> None:
    other = PeerServer("127.0.0.1", host.server.port, SECRET, host.stock, None)
    assert other.port != host.server.port
    other.close()


class Stranger:
    """Something that listens and answers every request with the same bytes, or not at all."""

    def __init__(self, answer: bytes) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.answer = answer
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        connection, _ = self.socket.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(self.answer)
            connection.recv(4096)


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Result.LIED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", Result.LIED),
        (b"HTTP/1.1 200 OK\r\n\r\n", Result.LIED),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", Result.FAILED),
        (b"\0\1\2\r\n\r\n", Result.FAILED),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", Result.BUSY),
    ],
)
def test_a_stranger_in_its_place_is_found_out(answer: bytes, result: Result) -> None:
    stranger = Stranger(answer)
    assert fails(PeerClient(("127.0.0.1", stranger.port), SECRET, COUNT), 0) is result
    stranger.socket.close()


def test_nobody_there_is_a_failure(host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert fails(PeerClient(("127.0.0.1", port), SECRET, COUNT), 0) is Result.FAILED


def test_a_host_with_a_rate_gives_the_same_chunks_in_pieces(tmp_path: Path) -> None:
    host = Host(tmp_path, mbit=100)
    try:
        frame = compress(noise.randbytes(CHUNK_SIZE // 2))
        host.stock.keep(3, frame)
        host.holdings.add(3)
        begun = time.monotonic()
        for _ in range(2):
            assert host.neighbour().chunk(3, 9, 0)[1] == frame
        # Twice half a MiB: that one who is held up takes longer is no fault.
        assert time.monotonic() - begun > 1.5 * len(frame) * 8 / 100e6
    finally:
        host.close()
