"""What is served where, and what does not fit this machine."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest

from pxeboot.adapters.interfaces import InterfaceFacts, NotThere, look, look_up
from pxeboot.adapters.plan import Plan, default_pool, make_plan
from pxeboot.settings import Settings

ETH1 = InterfaceFacts("eth1", 3, "10.20.0.1", IPv4Network("10.20.0.0/24"))
ETH2 = InterfaceFacts("eth2", 4, "10.30.0.1", IPv4Network("10.30.0.0/24"))


def plan(interfaces: list[InterfaceFacts], **sections: Any) -> Plan:
    network = {"interface": "eth1", "interfaces": [one.name for one in interfaces[1:]]}
    return make_plan(Settings.model_validate({"network": network, **sections}), interfaces)


def told(made: Plan) -> list[str]:
    return [f"{one.level}: {one.sentence}" for one in made.mistakes]


def test_the_subnet_comes_from_the_interface_and_the_pool_from_its_upper_half() -> None:
    made = plan([ETH1])
    (config,) = made.subnets
    assert str(config.network) == "10.20.0.0/24"
    assert config.ranges == (("10.20.0.128", "10.20.0.254"),)
    assert "10.20.0.1" not in config.pool
    assert (config.server, config.interface, config.mode) == ("10.20.0.1", "eth1", "full")
    assert told(made) == []
    given = plan([ETH1], dhcp={"pool_start": "10.20.0.10", "pool_end": "10.20.0.20"})
    assert given.subnets[0].ranges == (("10.20.0.10", "10.20.0.20"),)
    assert default_pool(IPv4Network("10.0.0.0/16")) == ("10.0.128.0", "10.0.255.254")


def test_none_of_our_own_addresses_is_ever_given() -> None:
    """Also a further one of the interface (a virtual address, say): no probe of ours would find ourselves."""
    (config,) = plan([replace(ETH1, others=("10.20.0.200", "192.168.7.1"))]).subnets
    assert "10.20.0.200" not in config.pool
    assert "10.20.0.201" in config.pool


def test_a_further_interface_without_a_table_gets_no_dhcp_and_is_told() -> None:
    made = plan([ETH1, ETH2])
    assert [str(config.network) for config in made.subnets] == ["10.20.0.0/24"]
    assert told(made) == [
        "warning: network.interfaces[0] = 'eth2' has TFTP and HTTP but no DHCP: no [[dhcp.subnets]] table is "
        'for 10.30.0.0/24; add one (mode = "off" if another server there names our boot files).'
    ]
    # Machines there may be anybody's: only a contradiction speaks against them.
    assert made.beside == (IPv4Network("10.30.0.0/24"),)


def test_tables_inherit_what_they_leave_out_and_find_their_interface() -> None:
    made = plan(
        [ETH1, ETH2],
        dhcp={
            "dns": ["10.0.0.53"],
            "options": {"tftp-server-name": "10.0.0.1", "ntp-servers": ["10.0.0.1"]},
            "domain_search": ["lab.example"],
            "lease_seconds": 7200,
            "subnets": [
                {"network": "10.20.0.0/24", "routers": ["10.20.0.254"], "options": {"42": ["10.20.0.1"]}},
                {"network": "10.30.0.0/24", "mode": "proxy", "proxy_style": "direct", "dns": []},
                {"network": "10.40.0.0/24", "interface": "", "lease_seconds": 600},
            ],
        },
    )
    assert told(made) == []
    full, proxy, relayed = made.subnets
    assert (full.interface, proxy.interface, relayed.interface) == ("eth1", "eth2", None)
    assert (full.dns, proxy.dns) == (("10.0.0.53",), ())
    assert full.options[66] == b"10.0.0.1"
    assert full.options[42] == bytes((10, 20, 0, 1))  # the table's word over [dhcp]'s
    assert relayed.options[42] == bytes((10, 0, 0, 1))
    assert full.options[119] == b"\3lab\7example\0"
    assert (full.lease_seconds, relayed.lease_seconds) == (7200, 600)
    assert (proxy.proxy_style, proxy.ranges) == ("direct", ())
    assert (full.server, relayed.server) == ("10.20.0.1", None)
    assert made.modes_at("eth1") == {"full"}
    assert made.modes_at("eth2") == {"proxy", "full"}  # a relay may come in there
    assert made.beside == (IPv4Network("10.30.0.0/24"),)


@pytest.mark.parametrize(
    ("dhcp", "says"),
    [
        ({"router": "10.99.0.1"}, "error: dhcp.router = '10.99.0.1' is outside 10.20.0.0/24, the network of"),
        (
            {"pool_start": "10.20.0.1", "pool_end": "10.20.0.9"},
            "warning: dhcp.pool_start = '10.20.0.1-10.20.0.9' holds our own address 10.20.0.1",
        ),
        ({"subnet": "10.9.0.0/30"}, "error: dhcp.subnet = '10.9.0.0/30' is too small for a pool of our"),
        ({"subnet": "10.9.0.0/24"}, "warning: dhcp.subnet = '10.9.0.0/24' does not hold our address on eth1"),
        (
            {"subnets": [{"network": "10.20.0.0/24", "server": "10.20.0.9"}]},
            "warning: dhcp.subnets[0].server = '10.20.0.9' is no address of ours (we have: 10.20.0.1)",
        ),
        (
            {"subnets": [{"network": "10.30.0.0/24"}]},
            "warning: network.interface = 'eth1' has TFTP and HTTP but no DHCP",
        ),
    ],
)
def test_what_does_not_fit_the_interface_is_told(dhcp: dict[str, Any], says: str) -> None:
    assert any(line.startswith(says) for line in told(plan([ETH1], dhcp=dhcp))), told(plan([ETH1], dhcp=dhcp))


def test_boot_rules_of_the_site_are_judged() -> None:
    made = plan([ETH1], boot={"default": "beos", "menu": "sometimes", "local_boot": "auto"})
    assert [line[:50] for line in told(made)] == [
        "error: boot.default = 'beos' cannot be meant; writ",
        "error: boot.menu = 'sometimes' cannot be meant; wr",
    ]


def test_without_dhcp_nothing_is_missed() -> None:
    made = plan([ETH1, ETH2], dhcp={"enabled": False})
    assert told(made) == []
    assert made.served == ()
    assert made.beside == (ETH1.network, ETH2.network)


async def test_facts_of_an_interface() -> None:
    facts = await look_up("lo")
    assert isinstance(facts, InterfaceFacts)
    assert (facts.name, facts.address, str(facts.network), facts.up) == (
        "lo",
        "127.0.0.1",
        "127.0.0.0/8",
        True,
    )
    absent = await look_up("nosuch0")
    assert isinstance(absent, NotThere)
    assert not absent.late
    other = await look_up("lo", "192.0.2.1")
    assert isinstance(other, NotThere)
    assert "it has: 127.0.0.1" in other.what


async def test_every_interface_that_is_not_there_is_named() -> None:
    wanted = {"interface": "lo", "address": "192.0.2.9", "interfaces": ["nosuch0=192.0.2.1", "nosuch1"]}
    facts, mistakes = await look(Settings.model_validate({"network": wanted}))
    assert facts == ()
    assert [(one.key, one.value) for one in mistakes] == [
        ("network.address", "192.0.2.9"),
        ("network.interfaces[0]", "nosuch0=192.0.2.1"),
        ("network.interfaces[1]", "nosuch1"),
    ]


@pytest.mark.parametrize("words", ["quiet && reboot", "a;b", "${x}", "café", "init=/bin/sh #x"])
def test_kernel_arguments_that_no_loader_could_be_told_are_a_mistake(words: str) -> None:
    made = plan([ETH1], boot={"kernel_arguments": words})
    assert [one.key for one in made.mistakes if one.level == "error"] == ["boot.kernel_arguments"]
    assert not plan([ETH1], boot={"kernel_arguments": "  quiet   -- x=1 "}).mistakes
    assert not plan([ETH1], boot={"kernel_arguments": ""}).mistakes
