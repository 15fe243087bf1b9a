"""What the settings promise on each interface."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network
from typing import Any

from pxeboot.doctor.site import Pool, site_of
from pxeboot.settings import Settings

# Addresses of ours, as the kernel would tell them.
OWN = [("eth2", IPv4Interface("10.30.0.1/24")), ("lo", IPv4Interface("127.0.0.1/8"))]


def modes(**sections: Any) -> list[tuple[str, str, str]]:
    wires = site_of(Settings.model_validate(sections), OWN).wires
    return [(wire.interface, wire.address, wire.mode) for wire in wires]


def test_one_interface_has_the_mode_of_dhcp_and_further_ones_have_none() -> None:
    two = {"interface": "eth1", "address": "10.20.0.1", "interfaces": ["eth2=10.30.0.1"]}
    assert modes(network=two) == [("eth1", "10.20.0.1", "full"), ("eth2", "10.30.0.1", "off")]
    assert modes(network=two, dhcp={"enabled": False})[0] == ("eth1", "10.20.0.1", "off")


def test_tables_say_what_each_interface_does() -> None:
    network = {"interface": "eth1", "interfaces": ["eth2=10.30.0.1", "eth3", "lo"]}
    tables = [
        {"network": "10.20.0.0/24", "interface": "eth1", "pools": ["10.20.0.10-10.20.0.19", "10.20.0.30"]},
        {"network": "10.30.0.0/24", "mode": "proxy"},
        {"network": "127.0.0.0/8", "mode": "proxy"},
    ]
    dhcp = {"subnets": tables}
    assert [mode for _, _, mode in modes(network=network, dhcp=dhcp)] == ["full", "proxy", "off", "proxy"]
    site = site_of(Settings.model_validate({"network": network, "dhcp": dhcp}))
    assert site.pools == (Pool(network=IPv4Network("10.20.0.0/24"), size=11),)
