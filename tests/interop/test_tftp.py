"""Our TFTP server against clients we did not write, between two network namespaces.

tftp-hpa, atftp, curl and busybox are Debian packages; tftpy comes with the development requirements.
"""

import os
import random
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.net,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: needs root"),
]
# curl 7.88 with dnsmasq says the same: its multi handle asks for the peer's name after a one-packet
# conversation.
CURL_BUG = "curl: (71) getpeername() failed with errno 107, whoever serves"
PROJECT = Path(__file__).parents[2]
SIZES = {"empty": 0, "one": 1, "block": 512, "block1468": 1468, "odd": 100_001, "wrap": 34_000_000}


def run(*command, **kwargs):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, **kwargs)


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """Two namespaces joined by a veth: the server at 10.77.0.1 and, on the same cable, 10.77.1.1."""
    server, client = f"tftp{os.getpid()}s", f"tftp{os.getpid()}c"
    root = tmp_path_factory.mktemp("boot")
    for name, size in SIZES.items():
        (root / name).write_bytes(random.Random(name).randbytes(size))
    process = None
    try:
        for namespace in (server, client):
            run("ip", "netns", "add", namespace)
            run("ip", "-n", namespace, "link", "set", "lo", "up")
        run("ip", "-n", server, "link", "add", "v0", "type", "veth", "peer", "name", "v0", "netns", client)
        for namespace, *addresses in (
            (server, "10.77.0.1/24", "10.77.1.1/24"),
            (client, "10.77.0.2/24", "10.77.1.2/24"),
        ):
            for address in addresses:
                run("ip", "-n", namespace, "address", "add", address, "dev", "v0")
            run("ip", "-n", namespace, "link", "set", "v0", "up")
        process = subprocess.Popen(
            ["ip", "netns", "exec", server, sys.executable, "-m", "tests.interop.tftp_server", str(root)],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == "ready\n"
        yield root, ("ip", "netns", "exec", client), (server, client)
    finally:
        if process is not None:
            process.kill()
            process.wait()
        for namespace in (server, client):
            subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)


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
    root, inside, _ = room
    if name == "empty" and client == "curl":
        pytest.skip(CURL_BUG)
    command = CLIENTS[client](address, name, tmp_path / "got")
    if shutil.which(command[0]) is None:
        pytest.fail(f"{command[0]} is not installed")
    if name == "wrap" and (client == "tftpy" or address == "10.77.1.1"):
        pytest.skip("34 MB once per client is enough, and tftpy takes half a minute")
    run(*inside, *command)
    # curl and atftp make no file of nothing.
    got = (tmp_path / "got").read_bytes() if (tmp_path / "got").exists() else b""
    assert got == (root / name).read_bytes()


@pytest.mark.parametrize("client", [name for name in CLIENTS if not name.startswith("curl")])
def test_absent(room, tmp_path, client):
    _, inside, _ = room
    command = [*inside, *CLIENTS[client]("10.77.0.1", "absent", tmp_path / "got")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=3, check=False)
    assert "not found" in (result.stdout + result.stderr).lower()


@pytest.mark.parametrize("client", ["tftp-hpa", "atftp-windows"])
def test_two_percent_loss(room, tmp_path, client):
    root, inside, namespaces = room
    rules = textwrap.dedent("""
        table inet loss {
          chain in {
            type filter hook input priority 0;
            meta l4proto udp numgen random mod 1000 < 20 drop
          }
        }
    """)
    try:
        for namespace in namespaces:
            run("ip", "netns", "exec", namespace, "nft", "-f", "-", input=rules)
        run(*inside, *CLIENTS[client]("10.77.0.1", "odd", tmp_path / "got"))
    finally:
        for namespace in namespaces:
            subprocess.run(
                ["ip", "netns", "exec", namespace, "nft", "delete", "table", "inet", "loss"],
                check=False,
                capture_output=True,
            )
    assert (tmp_path / "got").read_bytes() == (root / "odd").read_bytes()
