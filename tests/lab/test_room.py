"""The room: what is in it can talk, nothing else can hear it, and it is gone whatever ends us."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pxeboot.lab import ledger, netns, processes
from pxeboot.lab.errors import LabError
from pxeboot.lab.room import Room
from pxeboot.lab.sniff import Sniffer

pytestmark = pytest.mark.net
ROOT = Path(__file__).parents[2]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with Room(tmp_path / "room") as opened:
        yield opened


def echo(message: bytes, sock: socket.socket) -> None:
    """Answer one datagram."""
    sock.settimeout(30)
    data, peer = sock.recvfrom(2048)
    sock.sendto(message + data, peer)


def test_a_client_talks_with_the_server(room: Room) -> None:
    client = room.port("a", address="10.77.0.11", mac="52:54:00:00:00:0a")
    with (
        netns.socket_in(room.server, socket.AF_INET, socket.SOCK_DGRAM) as there,
        netns.socket_in(client, socket.AF_INET, socket.SOCK_DGRAM) as here,
    ):
        there.bind((room.server_address, 9))
        here.settimeout(30)
        here.sendto(b"hello", (room.server_address, 9))
        echo(b"re: ", there)
        assert here.recv(100) == b"re: hello"


def test_one_multicast_packet_reaches_every_port(room: Room) -> None:
    group, port = "239.192.7.7", 9777
    ports = {name: room.port(name, address=f"10.77.0.{n}") for n, name in enumerate("abc", 11)}
    sockets = []
    for n, namespace in enumerate(ports.values(), 11):
        sock = netns.socket_in(namespace, socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(30)
        sock.bind((group, port))
        membership = struct.pack("4s4s", socket.inet_aton(group), socket.inet_aton(f"10.77.0.{n}"))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        sockets.append(sock)
    with netns.socket_in(room.server, socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"to all of you", (group, port))
        for sock in sockets:
            with sock:
                assert sock.recv(100) == b"to all of you"


def test_who_asks_for_an_ipv6_router_hears_at_once_that_there_is_none(room: Room) -> None:
    client = room.port("a", address="10.77.0.11")
    index = netns.index_of(client, "eth0")
    with netns.socket_in(client, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
        sock.settimeout(0.5)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        deadline = time.monotonic() + 60  # both ends need a link-local address first
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                sock.sendto(bytes([133, 0, 0, 0, 0, 0, 0, 0]), ("ff02::2", 0, 0, index))
            with contextlib.suppress(TimeoutError):
                while (answer := sock.recv(2048))[0] != 134:
                    pass
                assert struct.unpack("!BBHBBHII", answer[:16])[4:6] == (0, 0)  # no DHCPv6, no route
                return
    pytest.fail("no router advertisement")


def test_the_host_itself_cannot_reach_the_room(room: Room) -> None:
    # Not even its address is known here: nothing of the room has an interface in the host's namespace.
    names = {name for _, name in socket.if_nameindex()}
    assert not any(name.startswith(("pxl", "t-", "br0")) for name in names)
    with netns.socket_in(room.server, socket.AF_INET, socket.SOCK_STREAM) as outward:
        outward.settimeout(2)
        with pytest.raises(OSError, match="unreachable"):
            outward.connect(("192.0.2.1", 80))


def test_http_from_a_technicians_place(room: Room, tmp_path: Path) -> None:
    (tmp_path / "hello").write_text('{"a": 1}')
    command = [sys.executable, "-m", "http.server", "80", "--bind", room.server_address]
    process = room.spawn(command, namespace=room.server, cwd=tmp_path, stderr=subprocess.DEVNULL)
    client = netns.HttpClient(room.port("t", address="10.77.0.2"), room.server_address)
    deadline = time.monotonic() + 60
    while True:
        try:
            assert client.get("/hello").json() == {"a": 1}
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert client.get("/nothing").status == 404
    processes.stop(process)
    with pytest.raises(OSError, match="refused"):
        client.get("/hello")


def test_leaving_removes_everything(tmp_path: Path) -> None:
    with Room(tmp_path) as room:
        names = [room.switch, room.server, room.port("a")]
        child = room.spawn(["sleep", "60"], namespace=room.server)
        # Somebody else's child in our namespace, unknown to the book: found by its namespace.
        stray = subprocess.Popen(["nsenter", f"--net={netns.path_of(room.server)}", "sleep", "60"])
        book, runtime = room.ledger.path, room.runtime
        deadline, inside = time.monotonic() + 30, netns.inode_of(room.server)
        while netns.inode_of(pid=stray.pid) != inside:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert child.wait(30) == -signal.SIGKILL
    assert stray.wait(30) == -signal.SIGKILL
    assert not any(netns.path_of(name).exists() for name in names)
    assert not book.exists()
    assert not runtime.exists()


def test_an_error_inside_removes_everything_too(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Room(tmp_path) as room:
        _ = 1 / 0
    assert not netns.path_of(room.switch).exists()


def test_two_rooms_do_not_meet(tmp_path: Path) -> None:
    with Room(tmp_path / "1") as one, Room(tmp_path / "2") as two:
        assert one.server_address == two.server_address
        with (
            netns.socket_in(one.server, socket.AF_INET, socket.SOCK_STREAM) as listener,
            netns.socket_in(two.server, socket.AF_INET, socket.SOCK_STREAM) as caller,
        ):
            listener.bind((one.server_address, 80))
            listener.listen()
            with pytest.raises(OSError, match="refused"):
                caller.connect((two.server_address, 80))


def test_a_run_id_that_could_not_name_anything_is_refused(tmp_path: Path) -> None:
    for bad in ("Upper", "a-b", "x" * 13, "../x"):
        with pytest.raises(LabError, match="run id"):
            Room(tmp_path, bad)


def test_a_namespace_that_is_not_there_is_named() -> None:
    with pytest.raises(LabError, match="pxl-none does not exist"):
        netns.socket_in("pxl-none", socket.AF_INET, socket.SOCK_STREAM)


def test_a_sniffer_that_is_behind_catches_up(room: Room) -> None:
    client = room.port("a", address="10.77.0.11")
    seen: list[bytes] = []

    class Slow(Sniffer):
        def note(self, frame: bytes, at: float) -> None:
            time.sleep(0.01)
            seen.append(frame)

    with (
        Slow(room.switch, "br0") as sniffer,
        netns.socket_in(client, socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        for number in range(50):
            sock.sendto(b"frame %d" % number, (room.server_address, 9))
        sniffer.catch_up()
        assert any(frame.endswith(b"frame 49") for frame in seen)


# --- however we end ----------------------------------------------------------------------------------------

SCRIPT = """
import sys, time
from pathlib import Path
from pxeboot.lab.room import Room
room = Room(Path(sys.argv[1])).open()
child = room.spawn(["sleep", "120"], namespace=room.server)
print(room.run_id, child.pid, room._watch.pid, flush=True)
time.sleep(120)
"""


def hear_signals() -> None:
    """Whoever runs the tests with nohup, or in the background of a shell, ignores them, and so would we."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Owner:
    """Another Python that owns a room."""

    def __init__(self, directory: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", SCRIPT, str(directory)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment, preexec_fn=hear_signals
        )
        assert self.process.stdout is not None
        self.run, child, watch = self.process.stdout.readline().split()
        self.child, self.watch = int(child), int(watch)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        with self.process:
            return self.process.wait(60)

    def leftovers(self) -> list[str]:
        """What is still there of the room."""
        found = [path.name for path in netns.NETNS_DIRECTORY.glob(f"pxl-{self.run}-*")]
        found += [path.name for path in ledger.STATE_DIRECTORY.glob(f"{self.run}*")]
        return found + ([f"process {self.child}"] if processes.start_time(self.child) is not None else [])


def wait_until_gone(owner: Owner, limit: float) -> None:
    deadline = time.monotonic() + limit
    while owner.leftovers() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert owner.leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_in_order(tmp_path: Path, number: signal.Signals) -> None:
    owner = Owner(tmp_path)
    assert len(owner.leftovers()) >= 4
    owner.end(number)
    assert owner.leftovers() == []


def test_after_sigkill_the_watcher_cleans_up(tmp_path: Path) -> None:
    owner = Owner(tmp_path)
    owner.end(signal.SIGKILL)
    wait_until_gone(owner, 90)


def test_after_sigkill_of_owner_and_watcher_the_child_dies_and_clean_removes_the_rest(tmp_path: Path) -> None:
    owner = Owner(tmp_path)
    os.kill(owner.watch, signal.SIGKILL)
    assert ledger.clean(owner.run) == [], "a room whose owner lives is left alone"
    owner.end(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while processes.start_time(owner.child) is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes.start_time(owner.child) is None, "PR_SET_PDEATHSIG"
    assert owner.leftovers() != []
    removed = ledger.clean(owner.run)
    assert f"namespace pxl-{owner.run}-server" in removed
    assert owner.leftovers() == []
    assert ledger.clean(owner.run) == []


def test_a_pid_that_somebody_else_has_now_is_not_killed(tmp_path: Path) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        book = {
            "owner": {"pid": 2**22 - 1, "start": 1},
            "namespaces": [],
            "processes": [{"pid": bystander.pid, "start": 1}],
            "loops": [],
        }
        (tmp_path / "dead.json").write_text(json.dumps(book))
        assert ledger.clean(directory=tmp_path) == []
        assert bystander.poll() is None
        assert not (tmp_path / "dead.json").exists()
    finally:
        bystander.kill()
        bystander.wait()


def test_a_child_started_by_a_thread_outlives_the_thread(room: Room) -> None:
    started: list[subprocess.Popen[bytes]] = []
    thread = threading.Thread(target=lambda: started.append(room.spawn(["sleep", "60"])))
    thread.start()
    thread.join()
    time.sleep(0.3)
    assert started[0].poll() is None, "PR_SET_PDEATHSIG belongs to the forking thread"
