"""A simulated host and the real daemon: DHCP, boot script and the real agent, in namespaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from pxeboot.lab import disks
from pxeboot.lab.errors import LabError
from pxeboot.lab.room import Room
from pxeboot.lab.server import Forwarder, Server
from pxeboot.lab.simhost import SimulatedHost

pytestmark = pytest.mark.net


def test_a_host_nobody_knows_registers_and_waits_for_approval(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disks.make_target(disk, 64 * disks.MIB)
    with Room(tmp_path / "room") as room:
        server = Server(room)
        server.start()
        host = SimulatedHost(room, "sim-1", disk, register=True)
        host.power_on()
        boots = host.wait_off(110)
        assert [(boot.kind, boot.mode, boot.status) for boot in boots] == [
            ("agent", "register-quick", 0),
            ("local", "", None),
        ], host.log_path.read_text()
        hosts = server.client(room.port("tech", address="10.77.0.2"), admin=True).get("/api/v1/hosts").json()
        assert [(h["macs"], h["state"], h["uuid"]) for h in hosts["items"]] == [
            ([host.mac], "pending", str(host.uuid))
        ]
        with Forwarder(room.server, (room.server_address, server.port)) as door:
            assert door.url.startswith("http://127.0.0.1:")
        assert server.stop(grace=60) < 20, "then systemd would kill it (TimeoutStopSec)"
        assert not server.running


def test_without_a_server_the_host_says_that_nobody_gave_it_an_address(tmp_path: Path) -> None:
    with Room(tmp_path / "room") as room:
        host = SimulatedHost(room, "sim-1", tmp_path / "none.raw")
        host.dhcp_limit = 5
        host.power_on()
        with pytest.raises(LabError, match="no address by DHCP"):
            host.wait_off(100)


def test_a_daemon_that_cannot_start_is_reported_with_what_it_said(tmp_path: Path) -> None:
    with Room(tmp_path / "room") as room:
        server = Server(room, settings={"dhcp": {"pool_start": "not-an-address", "pool_end": "10.77.0.9"}})
        with pytest.raises(LabError, match=r"pool_start = 'not-an-address'"):
            server.start()
