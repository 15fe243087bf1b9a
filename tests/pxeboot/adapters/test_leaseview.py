"""Who may speak for which MAC."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

from dhcp.leases import Lease
from pxeboot.adapters.leaseview import LeaseView, neighbour_mac

ONE, TWO = "52:54:00:00:00:01", "52:54:00:00:00:02"


class Table:
    """A lease table with one lease."""

    def all(self) -> list[Lease]:
        return [Lease(address="10.20.0.200", subnet="x", mac=ONE, state="bound", starts=0, expires=1000)]

    def owner_of(self, address: str) -> Lease | None:
        return next((lease for lease in self.all() if lease.address == address), None)


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


def test_of_two_networks_only_the_one_we_serve_wants_a_lease() -> None:
    beside = [IPv4Network("10.30.0.0/24")]
    view = LeaseView(Table(), beside=beside, neighbour={"10.30.0.9": TWO}.get, clock=lambda: 500)
    assert view.may_speak("10.20.0.200", ONE)
    assert not view.may_speak("10.20.0.201", ONE)  # ours: no lease, no word
    assert view.may_speak("10.30.0.8", ONE)  # another server's
    assert not view.may_speak("10.30.0.9", ONE)
    assert not view.may_speak("10.99.0.1", ONE)  # nobody's
    assert [lease.mac for lease in view.all()] == [ONE]
    assert LeaseView(None).all() == []


def test_who_has_no_address_speaks_for_nobody() -> None:
    for view in (LeaseView(None, neighbour=lambda address: None), LeaseView(Table())):
        assert not view.may_speak("", ONE)  # over the Unix socket, from wherever the reverse proxy lets in
