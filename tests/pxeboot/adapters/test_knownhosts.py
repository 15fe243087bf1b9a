"""What DHCP is told about registered machines: reservations, and options of a host over its group's."""

from __future__ import annotations

from uuid import UUID

from dhcp.subnets import Reservation
from pxeboot.adapters.knownhosts import KnownHosts
from pxeboot.db.models import Group, Host, HostMac
from tests.plane import Plane, mac

BOARD = "00112233-4455-6677-8899-aabbccddeeff"


def furnish(plane: Plane) -> None:
    plane.room(4)
    with plane.write() as session:
        group = session.get(Group, 1)
        assert group is not None
        group.dhcp_options = {"ntp-servers": ["10.0.0.1"], "domain-name": "room.example"}
        one, two, three = (session.get(Host, number) for number in (1, 2, 3))
        assert one is not None
        assert two is not None
        assert three is not None
        one.dhcp_options = {"42": ["10.0.0.2"], "no-such-option": 1}
        one.reserved_address, one.uuid = "10.20.0.11", BOARD
        session.add(HostMac(mac=mac(0x11), host_id=1))
        two.uuid = three.uuid = "11111111-2222-3333-4444-555555555555"  # a batch of boards with one UUID
        two.reserved_address = "10.20.0.12"
        two.group_id = None


def test_the_hosts_word_is_over_the_groups(plane: Plane) -> None:
    furnish(plane)
    known = KnownHosts(plane.database)
    first = known.settings_of(mac(1), None)
    assert first is not None
    assert first.reservation == Reservation("10.20.0.11", "pc1")
    assert first.options == {42: bytes((10, 0, 0, 2)), 15: b"room.example"}  # what is unknown is left out
    assert known.settings_of(mac(0x11), None) == first
    fourth = known.settings_of(mac(4), None)
    assert fourth is not None
    assert fourth.reservation is None
    assert fourth.options == {42: bytes((10, 0, 0, 1)), 15: b"room.example"}
    assert known.settings_of(mac(9), None) is None


def test_a_reserved_address_is_its_hosts_whichever_card_asks(plane: Plane) -> None:
    furnish(plane)
    known = KnownHosts(plane.database)
    assert known.reserved_to("10.20.0.11") == mac(1)
    assert known.reserved_to("10.20.0.12") == mac(2)
    assert known.reserved_to("10.20.0.13") is None


def test_a_machine_on_a_strange_dock_is_known_by_its_board(plane: Plane) -> None:
    furnish(plane)
    known = KnownHosts(plane.database)
    for raw in (UUID(BOARD).bytes_le, UUID(BOARD).bytes):  # either way firmware writes it
        found = known.settings_of(mac(9), raw)
        assert found is not None
        assert found.reservation == Reservation("10.20.0.11", "pc1")
    assert known.find(mac(9), BOARD) is not None
    shared = UUID("11111111-2222-3333-4444-555555555555").bytes_le
    assert known.settings_of(mac(9), shared) is None  # it names nobody
    # A registered machine is who its MAC says, whatever board it claims.
    assert known.settings_of(mac(3), UUID(BOARD).bytes_le) != known.settings_of(mac(1), None)
