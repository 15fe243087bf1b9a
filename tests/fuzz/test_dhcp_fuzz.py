"""Any bytes to DHCP: only `PacketError` comes out of the parser, only actions out of the responder.

The storm (marker `fuzz`) has 20,000 mutated captures, or as many as `PXEBOOT_FUZZ` says.
"""

from __future__ import annotations

import gc
import random
import time
import tracemalloc
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dhcp import options as opt
from dhcp.actions import Arrival, Noted, Probe, Send
from dhcp.leases import SqliteLeases
from dhcp.packet import Packet, PacketError
from dhcp.pxe import identify
from dhcp.responder import Responder
from dhcp.subnets import Reservation
from dhcp.text import describe
from tests.dhcp.conversation import LINK, MAC, NOW, SERVER, Shelf, subnet
from tests.fuzz.mutate import STORM, dhcp_seeds, mutate

SEEDS = dhcp_seeds()
CHANCE = random.Random(815)

addresses = st.one_of(
    st.just("0.0.0.0"), st.integers(0, 60).map(lambda last: f"10.20.0.{last}"), st.just("255.255.255.255")
)
# The five whose length the parser checks are made below, or left to the mutated captures.
codes = st.integers(1, 254).filter(lambda code: code not in (50, 52, 53, 54, 57))
options = st.dictionaries(codes, st.binary(max_size=300), max_size=12)
packets = st.builds(
    lambda kind, wanted, server, more, **fields: Packet(
        **fields,
        options={
            **more,
            opt.MESSAGE_TYPE: bytes((kind,)),
            **({opt.REQUESTED_ADDRESS: opt.addresses([wanted])} if wanted else {}),
            **({opt.SERVER_IDENTIFIER: opt.addresses([SERVER])} if server else {}),
        },
    ),
    kind=st.integers(0, 9),
    wanted=st.none() | addresses,
    server=st.booleans(),
    more=options,
    op=st.sampled_from([1, 1, 1, 2]),
    htype=st.integers(0, 255),
    flags=st.sampled_from([0, 0x8000, 0xFFFF]),
    ciaddr=addresses,
    giaddr=addresses,
    chaddr=st.binary(max_size=16) | st.sampled_from([b"\x52\x54\0\0\0\1", b"\x52\x54\0\0\0\2"]),
    sname=st.binary(max_size=63),
    file=st.binary(max_size=127),
)


@given(st.one_of(st.binary(max_size=700), st.binary(max_size=300).map(lambda tail: SEEDS[0][:240] + tail)))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_packet_or_a_packet_error(data: bytes) -> None:
    try:
        packet = Packet.parse(data)
    except PacketError:
        return
    identify(packet)
    assert describe(packet)
    assert len(packet.to_bytes(1500)) >= 300


@given(packets)
@settings(max_examples=300, deadline=None)
def test_what_is_written_reads_back_alike(packet: Packet) -> None:
    packet = replace(packet, sname=packet.sname.split(b"\0")[0], file=packet.file.split(b"\0")[0])
    assert Packet.parse(packet.to_bytes(65535)) == packet


@given(st.lists(packets, min_size=1, max_size=20))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_conversation_upsets_the_responder(tmp_path: Path, conversation: list[Packet]) -> None:
    for leftover in tmp_path.glob("*.sqlite*"):
        leftover.unlink()
    leases = SqliteLeases(tmp_path / "leases.sqlite")
    try:
        responder = Responder([subnet(ranges=(("10.20.0.10", "10.20.0.12"),))], leases, Shelf())
        for step, packet in enumerate(conversation):
            judge(responder, packet, NOW + step)
            leases.commit()
        owned = [lease.address for lease in leases.all()]
        assert len(owned) == len(set(owned))
    finally:
        leases.close()


def judge(
    responder: Responder, packet: Packet, now: float, arrival: Arrival = LINK, chance: random.Random = CHANCE
) -> None:
    actions = responder.handle(packet, arrival, now)
    assert any(
        (isinstance(action, Noted) and action.sentence) or isinstance(action, Probe) for action in actions
    )
    for action in actions:
        if isinstance(action, Probe):
            actions += responder.probed(action, chance.random() < 0.5, now)
        elif isinstance(action, Send):
            reply = Packet.parse(action.data())
            assert reply.op == 2
            assert reply.xid == packet.xid
            # RFC 3046 §2.2: the relay gets back what it sent, whatever it was
            assert reply.options.get(82) == packet.options.get(82)


def storm(count: int, where: Path) -> float:
    """Mutated captures through parser and responder; memory must not follow the number of datagrams.

    Returns datagrams a second.
    """
    chance = random.Random(4711)
    leases = SqliteLeases(where)
    responder = Responder(
        [
            subnet(conflict_probe=True, bootp="answer", reservations={MAC: Reservation("10.20.0.200")}),
            subnet(network=IPv4Network("10.21.0.0/24"), interface=None, mode="proxy", ranges=()),
        ],
        leases,
        Shelf(),
    )
    half, began = 0, time.monotonic()
    try:
        for number in range(count):
            if number == count // 2:
                tracemalloc.start()
                gc.collect()
                half = tracemalloc.get_traced_memory()[0]
            try:
                packet = Packet.parse(mutate(chance.choice(SEEDS), chance))
            except PacketError:
                continue
            arrival = replace(LINK, port=4011, destination=SERVER, source="10.20.0.77")
            judge(responder, packet, NOW + number / 100, arrival if chance.random() < 0.2 else LINK, chance)
            if number % 64 == 0:
                leases.commit()
        leases.commit()
        rate = count / (time.monotonic() - began)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - half < 4 << 20
        addresses = [lease.address for lease in leases.all()]
        assert len(addresses) == len(set(addresses))
        return rate
    finally:
        tracemalloc.stop()
        leases.close()


def test_mutated_captures(tmp_path: Path) -> None:
    storm(1000, tmp_path / "leases.sqlite")


@pytest.mark.fuzz
@pytest.mark.timeout(300 + STORM // 50)
def test_a_storm_of_mutated_captures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rate = storm(STORM, tmp_path / "leases.sqlite")
    with capsys.disabled():
        print(f"\n{STORM:,} mutated messages through parser and responder, {rate:,.0f}/s")
