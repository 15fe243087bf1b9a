"""Why a host does not hear its session: from what the kernel and the server say to one sentence."""

from dataclasses import replace

import pytest

from imaging.agent.hearing import (
    Facts,
    Hearing,
    interface_of,
    is_member,
    multicast_packets,
    network_of,
    why_deaf,
)

IGMP = """Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter
1\tlo        :     1      V3
\t\t\t\t010000E0     1 0:00000000\t\t0
2\teth0      :     2      V3
\t\t\t\t0907C0EF     1 0:00000000\t\t0
\t\t\t\t010000E0     1 0:00000000\t\t0
"""
NETSTAT = """TcpExt: SyncookiesSent EmbryonicRsts
TcpExt: 0 3
IpExt: InNoRoutes InTruncatedPkts InMcastPkts OutMcastPkts
IpExt: 0 0 4711 12
"""
DEAF = Facts("239.192.7.9", "eth0", member=True, arrived=0, sent=500, seconds=4, before=False)


def test_membership_is_read_for_the_right_interface() -> None:
    assert is_member(IGMP, "239.192.7.9", "eth0")
    assert not is_member(IGMP, "239.192.7.9", "lo")
    assert not is_member(IGMP, "239.192.7.10", "eth0")
    assert not is_member("", "239.192.7.9", "eth0")


def test_packets_are_counted_where_the_kernel_tells() -> None:
    assert multicast_packets(NETSTAT) == 4711
    joined = NETSTAT.replace("OutMcastPkts", "InMcastOctets").replace(" 12\n", " 15000000\n")
    assert multicast_packets(joined) == 10_000, "GRO had joined them"
    assert multicast_packets("") == 0
    assert multicast_packets("IpExt: InNoRoutes\nIpExt: 0\n") == 0


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (DEAF, "IGMP snooping without a querier"),
        (replace(DEAF, before=True), "stopped forwarding"),
        (replace(DEAF, member=False), "not a member"),
        (replace(DEAF, arrived=480), "packet filter"),
        (replace(DEAF, sent=0), "sends nothing"),
        (replace(DEAF, sent=None), "Nothing was heard"),
        (replace(DEAF, sent=0, member=False), "sends nothing"),  # then membership explains nothing
    ],
)
def test_each_cause_has_its_sentence(facts: Facts, said: str) -> None:
    assert said in why_deaf(facts)
    assert "239.192.7.9" in why_deaf(facts)


def test_only_what_is_sent_during_the_silence_counts() -> None:
    hearing = Hearing("239.192.7.9", "127.0.0.1", 0.0)
    hearing.told(1000, 0.0)
    hearing.heard(3.0)
    # What the server had sent up to its first word in the silence may have been heard.
    hearing.told(5000, 4.0)
    assert hearing._fresh is None
    hearing.told(5200, 5.0)
    assert hearing._fresh == 200
    hearing.heard(6.0)
    assert hearing._fresh is None


def test_a_server_that_sends_nothing_is_named_after_a_while() -> None:
    hearing = Hearing("239.192.7.9", "127.0.0.1", 0.0)
    hearing.told(100, 4.0)
    hearing.told(100, 5.0)
    assert hearing._fresh is None  # its figure may be half a second old
    hearing.told(100, 8.0)
    assert "sends nothing" in hearing.explain(8.0)
    hearing.told(3, 9.0)  # it was started again
    assert hearing._fresh is None


def test_own_interface_and_network() -> None:
    assert interface_of("127.0.0.1") == "lo"
    assert str(network_of("127.0.0.1")) == "127.0.0.1/8"
    assert network_of("240.0.0.1").network.prefixlen == 32
    assert interface_of("240.0.0.1") == ""
