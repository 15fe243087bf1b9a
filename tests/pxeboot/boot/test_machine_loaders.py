"""A loader that we did not choose: another DHCP server names PXELINUX, as the site always did, and our TFTP
gives it to machines. They get our decision all the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.firmware import US, Cell, network
from tests.pxeboot.boot.machines import on_firmware

pytestmark = [*on_firmware, pytest.mark.skipif(os.geteuid() != 0, reason="a room needs root")]
PXELINUX = (Path("/usr/lib/PXELINUX/pxelinux.0"), Path("/usr/lib/syslinux/modules/bios/ldlinux.c32"))


def test_pxelinux_goes_on_to_our_decision(tmp_path: Path, boot_files: Path) -> None:
    folder = tmp_path / "boot"
    folder.mkdir()
    for file in (*boot_files.iterdir(), *PXELINUX):
        (folder / file.name).symlink_to(file)
    names = f"dhcp-boot=pxelinux.0,boot-server,{US}\n"
    with network(
        tmp_path / "room",
        folder,
        [Cell("old-hand", "bios")],
        beside="dnsmasq",
        ping=False,
        fragment=names,
        dhcp={"mode": "off"},
    ) as room:
        outcome = room.outcome("old-hand")
    talk = outcome.talk()
    talk.next("tftp RRQ", name=r"pxelinux\.0")
    talk.next("tftp RRQ", name=r"pxelinux\.cfg/[0-9a-f-]{36}")  # its UUID comes before its MAC
    talk.next("tftp RRQ", name=r"ipxe\.lkrn")
    talk.next("http GET", name=rf"/boot/ipxe\?mac={outcome.mac}&.*&platform=pcbios")
    outcome.says("boot", outcome.mac, "a menu offers to register it")
