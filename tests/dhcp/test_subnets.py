"""A subnet's configuration: what the pool holds, and which contradictions are refused with a remedy."""

from typing import Any

import pytest

from dhcp import options as opt
from dhcp.subnets import Reservation, SubnetError
from tests.dhcp.conversation import MAC, SERVER, subnet


def test_the_pool_leaves_out_what_is_not_to_be_given() -> None:
    config = subnet(
        ranges=(("10.20.0.250", "10.20.0.255"), ("10.20.0.0", "10.20.0.4")),
        exclusions=("10.20.0.3",),
        reservations={MAC: Reservation("10.20.0.251")},
    )
    given = [f"10.20.0.{last}" for last in (2, 4, 250, 252, 253, 254)]  # not network, router, broadcast ...
    assert list(config.pool) == given
    assert config.pool.size == 6
    assert "10.20.0.3" not in config.pool
    assert "10.20.1.2" not in config.pool


def test_some_addresses_are_no_machines_to_have() -> None:
    config = subnet(server="10.20.0.9")
    assert config.usable("10.20.0.200")
    for address in ("10.20.0.0", "10.20.0.255", SERVER, "10.20.0.9", "10.21.0.5"):
        assert not config.usable(address)


def test_settings_are_encoded_once_and_options_by_number_win() -> None:
    config = subnet(options={opt.DOMAIN_NAME: b"other.example", 150: b"\1\2\3\4"})
    assert config.settings[opt.SUBNET_MASK] == b"\xff\xff\xff\0"
    assert config.settings[opt.ROUTER] == opt.addresses([SERVER])
    assert config.settings[opt.DOMAIN_NAME] == b"other.example"
    assert config.settings[150] == b"\1\2\3\4"


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"ranges": (("10.20.0.9", "10.20.0.5"),)}, "ranges"),
        ({"ranges": (("10.20.0.9", "10.21.0.5"),)}, "ranges"),
        ({"ranges": (("10.20.0.5", "10.20.0.9"), ("10.20.0.9", "10.20.0.12"))}, "ranges"),
        ({"ranges": (("10.20.0.x", "10.20.0.5"),)}, "ranges"),
        ({"reservations": {MAC: Reservation("10.9.0.1")}}, "reservations"),
        ({"reservations": {MAC: Reservation("10.20.0.8"), "x": Reservation("10.20.0.8")}}, "reservations"),
        ({"reservations": {MAC: Reservation(SERVER)}}, "reservations"),
        ({"reservations": {MAC: Reservation("10.20.0.255")}}, "reservations"),
        ({"dns": ("dns.example",)}, "dns"),
        ({"lease_seconds": 0}, "lease_seconds"),
        ({"options": {53: b"\1"}}, "options"),
        ({"options": {255: b""}}, "options"),
        ({"domain": "schön.example"}, "domain"),
    ],
)
def test_a_contradiction_names_key_value_and_remedy(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(SubnetError) as caught:
        subnet(**changes)
    assert caught.value.key == key
    assert caught.value.remedy
