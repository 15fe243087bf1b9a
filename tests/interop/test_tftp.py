"""Our TFTP server against clients we did not write, between two network namespaces.

tftp-hpa, atftp, curl and busybox are Debian packages; tftpy comes with the development requirements.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from blake3 import blake3

pytestmark = [
    pytest.mark.net,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: needs root"),
]
# curl 7.88 with dnsmasq says the same: its multi handle asks for the peer's name after a one-packet
# conversation.
CURL_BUG = "curl: (71) getpeername() failed with errno 107, whoever serves"
PROJECT = Path(__file__).parents[2]


class Room(NamedTuple):
    """What is served, and the namespaces."""

    root: Path
    server: str
    client: str
    far: str


SIZES = {
    "empty": 0,
    "one": 1,
    "block": 512,
    "block1468": 1468,
    "odd": 100_001,
    "few": 30_001,
    "wrap": 34_000_000,
}


def run(*command, **kwargs):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=110, **kwargs)


def inside(namespace, *command):
    return ["ip", "netns", "exec", namespace, *command]


@contextmanager
def running(namespace, *arguments):
    """One of our modules in a namespace, from its "ready" to the end of the block."""
    process = subprocess.Popen(
        inside(namespace, sys.executable, "-m", *arguments), cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """Server and client on one cable: 10.77.0.1 and .2, and on the same interfaces 10.77.1.1 and .2. The
    client is a router too: behind it, over a link of MTU 1400, a third one at 10.78.0.3; the server has a
    second interface at 10.79.0.1.
    """
    server, client, far = (f"tftp{os.getpid()}{letter}" for letter in "scf")
    root = tmp_path_factory.mktemp("boot")
    for name, size in SIZES.items():
        (root / name).write_bytes(random.Random(name).randbytes(size))
    try:
        for namespace in (server, client, far):
            run("ip", "netns", "add", namespace)
            run("ip", "-n", namespace, "link", "set", "lo", "up")
        run("ip", "-n", server, "link", "add", "v0", "type", "veth", "peer", "name", "v0", "netns", client)
        run("ip", "-n", client, "link", "add", "v1", "type", "veth", "peer", "name", "v1", "netns", far)
        run("ip", "-n", server, "link", "add", "v2", "type", "veth", "peer", "name", "v2", "netns", far)
        for namespace, device, mtu, *addresses in (
            (server, "v0", "1500", "10.77.0.1/24", "10.77.1.1/24"),
            (client, "v0", "1500", "10.77.0.2/24", "10.77.1.2/24"),
            (client, "v1", "1400", "10.78.0.2/24"),
            (far, "v1", "1400", "10.78.0.3/24"),
            (server, "v2", "1500", "10.79.0.1/24"),
            (far, "v2", "1500", "10.79.0.3/24"),
        ):
            for address in addresses:
                run("ip", "-n", namespace, "address", "add", address, "dev", device)
            run("ip", "-n", namespace, "link", "set", device, "mtu", mtu, "up")
        run(*inside(client, "sysctl", "-qw", "net.ipv4.ip_forward=1"))
        run("ip", "-n", server, "route", "add", "10.78.0.0/24", "via", "10.77.0.2")
        run("ip", "-n", far, "route", "add", "10.77.0.0/16", "via", "10.78.0.2")
        addresses = ("10.77.0.1", "10.77.1.1", "10.79.0.1")
        with running(server, "tests.interop.tftp_server", str(root), *addresses):
            yield Room(root, server, client, far)
    finally:
        for namespace in (server, client, far):
            subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)


def fetch(room, namespace, name, *, address="10.77.0.1", blksize=1468, window=4, copies=1):
    """Our own reader with windows: what it agreed on with the server, once it has the file whole."""
    digest = blake3((room.root / name).read_bytes()).hexdigest()
    numbers = (str(blksize), str(window), str(copies))
    reader = (sys.executable, "-m", "tests.bench.tftp_client", address, name, *numbers, digest)
    return json.loads(run(*inside(namespace, *reader), cwd=PROJECT).stdout)


def tftpy_script(address, name, target, options):
    return [
        sys.executable,
        "-c",
        f"import tftpy; c = tftpy.TftpClient({address!r}, 69, {options!r}); "
        f"c.download({name!r}, {str(target)!r}, timeout=5)",
    ]


CLIENTS = {
    "tftp-hpa": lambda a, n, t: ["tftp", "-m", "binary", a, "-c", "get", n, str(t)],
    "atftp": lambda a, n, t: ["atftp", "--get", "-r", n, "-l", str(t), a],
    "atftp-windows": lambda a, n, t: [
        *("atftp", "--option", "blksize 1428", "--option", "windowsize 16", "--option", "tsize 0"),
        *("--get", "-r", n, "-l", str(t), a),
    ],
    "curl": lambda a, n, t: ["curl", "-sS", "--tftp-blksize", "1400", "-o", str(t), f"tftp://{a}/{n}"],
    "curl-no-options": lambda a, n, t: ["curl", "-sS", "--tftp-no-options", "-o", str(t), f"tftp://{a}/{n}"],
    "busybox": lambda a, n, t: ["busybox", "tftp", "-g", "-b", "1024", "-r", n, "-l", str(t), a],
    "tftpy": lambda a, n, t: tftpy_script(a, n, t, {"blksize": 1468, "tsize": 0}),
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("address", ["10.77.0.1", "10.77.1.1"])
def test_read(room, tmp_path, client, name, address):
    root = room.root
    if name == "empty" and client == "curl":
        pytest.skip(CURL_BUG)
    command = CLIENTS[client](address, name, tmp_path / "got")
    if shutil.which(command[0]) is None:
        pytest.fail(f"{command[0]} is not installed")
    if name == "wrap" and (client in ("tftpy", "curl-no-options", "atftp") or address != "10.77.0.1"):
        pytest.skip("34 MB once is enough, and three clients take too long over it")
    run(*inside(room.client, *command))
    # curl and atftp make no file of nothing.
    got = (tmp_path / "got").read_bytes() if (tmp_path / "got").exists() else b""
    assert got == (root / name).read_bytes()


@pytest.mark.parametrize("client", [name for name in CLIENTS if not name.startswith("curl")])
def test_absent(room, tmp_path, client):
    command = inside(room.client, *CLIENTS[client]("10.77.0.1", "absent", tmp_path / "got"))
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "not found" in (result.stdout + result.stderr).lower()


@pytest.mark.parametrize(
    ("name", "window", "blksize"),
    [("odd", 4, 512), ("odd", 16, 1428), ("odd", 64, 1468), ("block1468", 4, 1468), ("wrap", 16, 512)],
)
def test_windows(room, name, window, blksize):
    """RFC 7440; "wrap" has 66,407 blocks, so its numbers pass 65535 with a window under way."""
    agreed = fetch(room, room.client, name, window=window, blksize=blksize)
    assert (agreed["window"], agreed["blksize"]) == (window, blksize)


@contextmanager
def losing(room, permille):
    rules = textwrap.dedent(f"""
        table inet loss {{
          chain in {{
            type filter hook input priority 0;
            meta l4proto udp numgen random mod 1000 < {permille} drop
          }}
        }}
    """)
    try:
        for namespace in (room.server, room.client):
            run(*inside(namespace, "nft", "-f", "-"), input=rules)
        yield
    finally:
        for namespace in (room.server, room.client):
            command = inside(namespace, "nft", "delete", "table", "inet", "loss")
            subprocess.run(command, check=False, capture_output=True)


@pytest.mark.parametrize("client", ["tftp-hpa", "atftp-windows", "busybox"])
def test_two_percent_loss(room, tmp_path, client):
    with losing(room, 20):
        run(*inside(room.client, *CLIENTS[client]("10.77.0.1", "few", tmp_path / "got")))
    assert (tmp_path / "got").read_bytes() == (room.root / "few").read_bytes()


def test_two_percent_loss_with_windows(room):
    with losing(room, 20):
        fetch(room, room.client, "odd", window=16, blksize=512)


@pytest.mark.parametrize("client", [*CLIENTS, "ours"])
def test_doubled_and_swapped_datagrams(room, tmp_path, client):
    with running(room.client, "tests.interop.bad_wire", "10.77.0.2", "10.77.0.1"):
        if client == "ours":
            fetch(room, room.client, "odd", address="10.77.0.2", window=8, blksize=512)
            return
        run(*inside(room.client, *CLIENTS[client]("10.77.0.2", "odd", tmp_path / "got")))
    assert (tmp_path / "got").read_bytes() == (room.root / "odd").read_bytes()


def test_the_answer_comes_from_the_address_and_over_the_interface_that_was_asked(room):
    """Readers take only what comes from where they asked: 10.79.0.1 is on the server's other interface."""
    for address in ("10.79.0.1", "10.77.1.1"):
        assert fetch(room, room.far, "odd", address=address)["window"] == 4


@pytest.mark.parametrize("window", [1, 4])
def test_a_narrow_path_is_learnt_from_icmp(room, window):
    """The first reader's large blocks do not fit: the router says so, and the transfer goes on. The next one
    is granted what fits."""
    quickest = 1e9
    for _ in range(5):  # a busy machine may spoil one measurement; a time-out of 1 s would be in each
        run("ip", "-n", room.server, "route", "flush", "cache")
        first = fetch(room, room.far, "odd", window=window)
        assert first["blksize"] == 1468
        if (quickest := min(quickest, first["seconds"])) < 0.9:
            break
    assert quickest < 0.9  # no time-out: what was too long goes again at once, in fragments
    assert fetch(room, room.far, "odd", window=window)["blksize"] == 1400 - 32


def test_a_narrow_link_of_our_own(room):
    route = ("ip", "-n", room.server, "route", "replace", "10.77.0.0/24", "dev", "v0", "src", "10.77.0.1")
    run(*route, "mtu", "1300")
    try:
        assert fetch(room, room.client, "odd")["blksize"] == 1300 - 32
    finally:
        run(*route)


def test_windows_names(room, tmp_path):
    """Windows' boot loader writes names its own way."""
    run(*inside(room.client, *CLIENTS["tftp-hpa"]("10.77.0.1", "\\\\ODD", tmp_path / "got")))
    assert (tmp_path / "got").read_bytes() == (room.root / "odd").read_bytes()


def test_netascii(room, tmp_path):
    (room.root / "text").write_bytes(b"one\ntwo\r\n")
    run(*inside(room.client, "tftp", "-m", "ascii", "10.77.0.1", "-c", "get", "text", str(tmp_path / "got")))
    assert (tmp_path / "got").read_bytes() == b"one\ntwo\r\n"
