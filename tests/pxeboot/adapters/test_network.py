"""Who may speak for which MAC; what DHCP serves when little is said."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from dhcp.leases import Lease
from pxeboot.adapters.network import (
    InterfaceFacts,
    LeaseView,
    default_pool,
    interface_facts,
    neighbour_mac,
    subnet_config,
)
from pxeboot.errors import ConfigError
from pxeboot.settings import Settings

ONE, TWO = "52:54:00:00:00:01", "52:54:00:00:00:02"
FACTS = InterfaceFacts("eth1", 3, "10.20.0.1", IPv4Network("10.20.0.0/24"))


class Table:
    """A lease table with one lease."""

    def owner_of(self, address: str) -> Lease | None:
        if address != "10.20.0.200":
            return None
        return Lease(address=address, subnet="x", mac=ONE, state="bound", starts=0, expires=1000)


def test_with_our_own_dhcp_the_lease_decides() -> None:
    view = LeaseView(Table(), neighbour=lambda address: None, clock=lambda: 500)
    assert view.may_speak("10.20.0.200", ONE)
    assert not view.may_speak("10.20.0.200", TWO)
    assert not view.may_speak("10.20.0.201", ONE)
    assert not LeaseView(Table(), neighbour=lambda address: None, clock=lambda: 1001).may_speak(
        "10.20.0.200", ONE
    )
    assert view.mac_of("10.20.0.200") == ONE


def test_a_fixed_address_is_known_from_the_neighbour_table() -> None:
    view = LeaseView(Table(), neighbour={"10.20.0.9": TWO}.get, clock=lambda: 500)
    assert view.holds("10.20.0.9", TWO)
    assert not view.may_speak("10.20.0.9", ONE)


def test_beside_another_server_only_a_contradiction_refuses() -> None:
    view = LeaseView(None, neighbour={"10.20.0.9": TWO}.get)
    assert view.may_speak("10.20.0.9", TWO)
    assert not view.may_speak("10.20.0.9", ONE)
    assert view.may_speak("192.0.2.7", ONE)  # behind a router
    assert not view.holds("192.0.2.7", ONE)  # but nothing is proved


def test_the_kernels_table_is_read(tmp_path: Path) -> None:
    table = tmp_path / "arp"
    table.write_text(
        "IP address       HW type     Flags       HW address            Mask     Device\n"
        f"10.20.0.9        0x1         0x2         {TWO.upper()}     *        eth1\n"
        "10.20.0.10       0x1         0x0         00:00:00:00:00:00     *        eth1\n"
    )
    assert neighbour_mac("10.20.0.9", table) == TWO
    assert neighbour_mac("10.20.0.10", table) is None
    assert neighbour_mac("10.20.0.11", table) is None
    assert neighbour_mac("10.20.0.9", tmp_path / "none") is None


def test_the_subnet_comes_from_the_interface_and_the_pool_from_its_upper_half() -> None:
    config = subnet_config(Settings(), FACTS)
    assert str(config.network) == "10.20.0.0/24"
    assert config.ranges == (("10.20.0.128", "10.20.0.254"),)
    assert "10.20.0.1" not in config.pool
    assert config.server == "10.20.0.1"
    given = Settings.model_validate({"dhcp": {"pool_start": "10.20.0.10", "pool_end": "10.20.0.20"}})
    assert subnet_config(given, FACTS).ranges == (("10.20.0.10", "10.20.0.20"),)
    with pytest.raises(ConfigError, match="too small"):
        default_pool(IPv4Network("10.0.0.0/30"))


async def test_facts_of_an_interface() -> None:
    facts = await interface_facts("lo")
    assert (facts.name, facts.address, str(facts.network)) == ("lo", "127.0.0.1", "127.0.0.0/8")
    with pytest.raises(ConfigError, match="no such interface"):
        await interface_facts("nosuch0")
    with pytest.raises(ConfigError, match="not an address of lo"):
        await interface_facts("lo", "192.0.2.1")
