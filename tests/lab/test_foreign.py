"""Somebody else's DHCP server: it gives addresses, and nothing that has to do with booting."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from pxeboot.lab import netns
from pxeboot.lab.foreign import ForeignDhcp, Product
from pxeboot.lab.room import Room

pytestmark = pytest.mark.net

ASK = ["busybox", "udhcpc", "-i", "eth0", "-f", "-q", "-n", "-t", "5", "-T", "1"]


@pytest.mark.parametrize("product", ["dnsmasq", "kea"])
def test_it_gives_an_address_and_no_boot_file(tmp_path: Path, product: Product) -> None:
    with Room(tmp_path / "room") as room:
        foreign = ForeignDhcp(room, product)
        foreign.start()
        client = room.port("a", mac="52:54:00:00:00:0a")
        script = tmp_path / "script"
        script.write_text('#!/bin/sh\n[ "$1" != bound ] || env\n')
        script.chmod(0o755)
        # As a PXE client would ask: options 60 and 93.
        pxe = ["-V", "PXEClient:Arch:00007:UNDI:003016", "-x", "0x5d:0007", "-O", "bootfile", "-O", "tftp"]
        process = room.spawn(
            [*ASK, *pxe, "-s", str(script)],
            namespace=client,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        said, _ = process.communicate(timeout=100)
        told = dict(line.partition("=")[::2] for line in said.decode().splitlines())
        assert told["serverid"] == foreign.address
        assert told["ip"].startswith("10.77.0.")
        assert 50 <= int(told["ip"].rpartition(".")[2]) <= 90
        assert "boot_file" not in told
        assert "bootfile" not in told
        assert "52:54:00:00:00:0a" in foreign.log()


def test_it_is_no_name_server_and_no_tftp_server(tmp_path: Path) -> None:
    with Room(tmp_path / "room") as room:
        foreign = ForeignDhcp(room)
        foreign.start()
        client = room.port("a", address="10.77.0.11")
        for port in (53, 69, 4011):
            with netns.socket_in(client, socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(30)
                sock.connect((foreign.address, port))
                sock.send(b"anybody?")
                with pytest.raises(ConnectionRefusedError):
                    sock.recv(100)
        foreign.stop()
        foreign.stop()  # twice does no harm
