"""Small pure parts: leases, settings files, DHCP on the wire, the guest's files."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.lab import guest_files, processes
from pxeboot.lab.errors import LabError, ToolMissing
from pxeboot.lab.server import to_toml
from pxeboot.lab.simhost import Lease
from pxeboot.lab.sniff import dhcp_in


def test_a_lease_names_the_next_server_and_falls_back_to_the_dhcp_server() -> None:
    text = "ip=10.0.0.9\nmask=24\nsiaddr=10.0.0.1\nserverid=10.0.0.2\nboot_file=shimx64.efi\nlease=300\n"
    assert Lease.parse(text) == Lease("10.0.0.9", "10.0.0.1", "shimx64.efi", 300)
    assert Lease.parse("ip=10.0.0.9\nsiaddr=\nserverid=10.0.0.2\n").server == "10.0.0.2"
    with pytest.raises(LabError, match="no address or no server"):
        Lease.parse("ip=10.0.0.9\n")


def test_settings_come_back_from_toml_as_they_went() -> None:
    tables = {"server": {"data_dir": '/a b/"c"'}, "dhcp": {"dns": ["10.0.0.1"], "enabled": True, "lease": 60}}
    assert tomllib.loads(to_toml(tables)) == tables


def discover(options: bytes) -> bytes:
    """An Ethernet frame with a DHCPDISCOVER."""
    bootp = bytes([1, 1, 6, 0]) + bytes(24) + bytes.fromhex("525400000001") + bytes(202)
    payload = bootp + b"\x63\x82\x53\x63" + options
    udp = bytes([0, 68, 0, 67]) + (8 + len(payload)).to_bytes(2, "big") + b"\0\0"
    ip = bytes([0x45, 0]) + (28 + len(payload)).to_bytes(2, "big") + bytes(5) + b"\x11" + bytes(10)
    return b"\xff" * 6 + bytes.fromhex("525400000001") + b"\x08\x00" + ip + udp + payload


def test_a_discover_on_the_wire_is_known_by_mac_and_vendor() -> None:
    seen = dhcp_in(discover(b"\x35\x01\x01\x3c\x09PXEClient\xff"), 1.5)
    assert seen == (1.5, "DISCOVER", "52:54:00:00:00:01", "PXEClient")
    assert dhcp_in(b"\0" * 400, 0) is None


@given(st.binary(max_size=80))
def test_broken_options_on_the_wire_do_no_harm(options: bytes) -> None:
    assert dhcp_in(discover(options), 0) is not None


def test_a_missing_program_names_its_package() -> None:
    with pytest.raises(ToolMissing, match="no-such-program"):
        processes.need("no-such-program")


def test_the_guest_finds_its_disks_by_identity_only() -> None:
    facts = guest_files.Facts(root="11111111-aaaa", swap="22222222-bbbb", esp="ABCD-1234")
    files = guest_files.overlay(facts)
    fstab = files["etc/fstab"][1]
    assert "UUID=11111111-aaaa / ext4" in fstab
    assert "/dev/" not in fstab
    configuration = guest_files.grub_cfg(facts, "6.12")
    assert "root=UUID=11111111-aaaa" in configuration
    assert "console=ttyS0" in configuration
    assert guest_files.esp_cfg(facts).startswith("search.fs_uuid 11111111-aaaa root")
