"""Whole rooms in virtual time: loss, late ones, deaths, restarts, forgeries."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.multicast import fec
from imaging.multicast.channels import Link, Wire, bursty_loss, independent_loss
from imaging.multicast.events import Ended, Silent, Stalled
from imaging.multicast.reports import ReceiverState, Report, encode_report
from imaging.multicast.settings import ReceiverSettings, SenderSettings
from imaging.multicast.simulate import MANIFEST, SESSION, Room
from imaging.multicast.wire import Announce, SenderState, encode_announce

ENDED = Announce(SESSION, 30, 1446, 1, MANIFEST, SenderState.ENDED, False, 100, 1, 1, 1, ())
GREEDY = Report(SESSION, 99, 1, 0, 0, 0, 30, 0, ReceiverState.RECEIVING, 0, 30, (1 << 30) - 1, ())


def frames(count: int, size: int = 60_000) -> list[bytes]:
    rng = random.Random(7)
    return [rng.randbytes(rng.randint(size // 2, size)) for _ in range(count)]


def overhead(room: Room) -> float:
    """Bytes sent over what one perfect turn would take."""
    return room.bytes_sent / sum(-(-len(f) // 1450) * 1472 for f in room.frames) - 1


def assert_complete(room: Room) -> None:
    for host in room.hosts:
        if host.dies_at == float("inf"):
            assert host.frames == dict(enumerate(room.frames)), f"host {host.number}"


def test_without_loss_each_chunk_is_sent_once() -> None:
    room = Room(frames(40))
    room.add_hosts(3)
    room.run(60)
    assert_complete(room)
    assert overhead(room) < 0.01


def test_thirty_receivers_at_one_percent_loss() -> None:
    room = Room(frames(60), loss=independent_loss(0.01), sender=SenderSettings(rate=100e6, gather=0.5))
    room.add_hosts(30)
    room.run(60)
    assert_complete(room)
    # Sending lost symbols again to thirty independent receivers would cost 26 %.
    assert overhead(room) < 0.09
    assert sum(h.core.counters.spoiled for h in room.hosts) == 0


@pytest.mark.parametrize(("loss", "limit"), [(0.05, 30), (0.2, 60), (0.4, 60)])
def test_heavy_loss_costs_time_but_never_hangs(loss: float, limit: float) -> None:
    room = Room(frames(40), loss=independent_loss(loss), report_loss=loss)
    room.add_hosts(4)
    room.run(limit)
    assert_complete(room)


def test_little_memory_costs_turns_but_never_hangs() -> None:
    room = Room(frames(60), loss=independent_loss(0.15), sender=SenderSettings(rate=100e6, gather=0.1))
    room.add_hosts(2, settings=ReceiverSettings(buffer=500_000))
    room.run(120)
    assert_complete(room)


def test_a_late_joiner_gets_everything_and_the_others_notice_nothing() -> None:
    alone = Room(frames(60), sender=SenderSettings(rate=10e6, gather=0.1))
    alone.add_hosts(4)
    alone.run(60)
    room = Room(frames(60), sender=SenderSettings(rate=10e6, gather=0.1))
    room.add_hosts(4)
    total = max(h.finished_at or 99 for h in alone.hosts)
    (late,) = room.add_hosts(1, joins_at=total / 2)
    room.run(60)
    assert_complete(room)
    assert max(h.finished_at or 99 for h in room.hosts[:4]) <= total * 1.02
    # It uses what passes at once: half an image to the end of the sweep, half after its wrap.
    assert late.finished_at is not None
    assert late.finished_at - late.joins_at <= total * 1.15
    assert overhead(room) < 0.6


def test_a_death_holds_nobody() -> None:
    room = Room(frames(60), sender=SenderSettings(rate=10e6, gather=0.1))
    room.add_hosts(4)
    room.hosts[2].dies_at = 1.0
    room.run(60)
    assert_complete(room)
    assert overhead(room) < 0.02
    assert room.sender is not None
    room.run(room.now + 4, stop_when_done=False)
    assert sorted(room.sender.peers) == [0, 1, 3]


def test_a_restarted_sender_rebuilds_the_demand() -> None:
    room = Room(frames(60), sender=SenderSettings(rate=10e6, gather=5, expected=3))
    room.add_hosts(3)
    room.run(1.5)
    before = [len(h.frames) for h in room.hosts]
    assert all(10 < n < 50 for n in before)
    room.kill_sender()
    room.run(6)
    assert all(isinstance(h.log[-1][1], Silent) for h in room.hosts)
    room.start_sender()
    sent = room.bytes_sent
    room.run(60)
    assert_complete(room)
    # It resumes: what was there is not sent again, but for the chunk that was on its way.
    missing = sum(-(-len(f) // 1450) * 1472 for f in room.frames[min(before) :])
    assert room.bytes_sent - sent < missing * 1.05


def test_corrupt_datagrams_never_complete_a_chunk_with_wrong_bytes() -> None:
    def spoil(rng: random.Random, datagram: bytes) -> bytes:
        if rng.random() > 0.01:
            return datagram
        spoilt = bytearray(datagram)
        spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
        return bytes(spoilt)

    room = Room(frames(40), spoil=spoil)
    room.add_hosts(3)
    room.run(60)
    assert sum(h.rejects for h in room.hosts) > 0
    assert all(room.frames[i] == f for h in room.hosts for i, f in h.frames.items())
    assert_complete(room)


def test_a_stranger_who_forges_whole_chunks_cannot_spoil_a_disk() -> None:
    def forge(rng: random.Random, datagram: bytes) -> bytes:
        # A bit of the symbol, and a seal to fit: without a key anybody can do that.
        from imaging.multicast.wire import CRC

        if len(datagram) < 1472:
            return datagram
        body = bytes([datagram[22] ^ 1]) + datagram[23:]
        return datagram[:18] + CRC.of(datagram[:18], body) + body

    room = Room(frames(10), spoil=forge)
    room.add_hosts(1)
    room.run(60)
    assert room.hosts[0].frames == {}
    assert sorted(room.hosts[0].lost) == list(range(10))


def test_an_unreadable_chunk_is_left_out_and_told() -> None:
    room = Room(frames(20))
    room.unreadable = {4, 5, 11}
    room.add_hosts(2)
    room.run(30)
    for host in room.hosts:
        assert sorted(host.lost) == [4, 5, 11]
        assert len(host.frames) == 17


def test_a_receiver_that_hears_next_to_nothing_says_so_and_costs_the_others_little() -> None:
    quiet = Room(frames(60), sender=SenderSettings(rate=20e6, gather=0.1))
    quiet.add_hosts(3)
    quiet.run(60)
    room = Room(
        frames(60),
        sender=SenderSettings(rate=20e6, gather=0.1),
    )
    room.add_hosts(3)
    room.add_hosts(1, settings=ReceiverSettings(buffer=300_000), loss=independent_loss(0.9))
    room.run(30)
    assert any(isinstance(e, Stalled) for _, e in room.hosts[3].log)
    slowest = max(h.finished_at or 99 for h in room.hosts[:3])
    assert slowest <= max(h.finished_at or 99 for h in quiet.hosts) * 1.02


@pytest.mark.parametrize("trouble", ["dead", "frozen", "slow disk", "narrow", "deafish"])
def test_one_of_eight_in_trouble_costs_the_others_nothing(trouble: str) -> None:
    def others(spoilt: bool) -> tuple[float, Room]:
        room = Room(frames(200, 30_000), sender=SenderSettings(rate=2e6, gather=0.1))
        hosts = room.add_hosts(8, loss=independent_loss(0.005))
        if spoilt and trouble == "dead":
            hosts[0].dies_at = 6.0
        elif spoilt and trouble == "frozen":
            hosts[0].frozen = (6.0, 30.0)
        elif spoilt and trouble == "slow disk":
            hosts[0].disk = 60_000
        elif spoilt and trouble == "narrow":
            hosts[0].link = Link(1.2e6, 60_000)
        elif spoilt:
            hosts[0].wire = Wire(independent_loss(0.3), random.Random(1))
        room.run(200)
        return max(h.finished_at or 999 for h in hosts[1:]), room

    quiet, _ = others(False)
    busy, room = others(True)
    assert busy <= quiet * 1.03
    assert_complete(room)


@pytest.mark.parametrize(("rate", "link"), [(100e6, 20e6), (30e6, 20e6), (20e6, 20e6)])
def test_the_rate_follows_a_narrower_link(rate: float, link: float) -> None:
    room = Room(frames(100, 120_000), sender=SenderSettings(rate=rate, gather=0.1), link=Link(link, 200_000))
    room.add_hosts(5)
    room.run(100)
    assert_complete(room)
    ideal = sum(-(-len(f) // 1450) * 1538 * 8 for f in room.frames) / link
    # It begins at the configured rate: what that costs is over within a second.
    assert room.now < ideal * 1.4
    assert room.sender is not None
    assert room.sender.controller.rate < 1.1 * link


def test_losses_in_bursts_and_losses_shared_by_all() -> None:
    alone = Room(frames(60, 200_000), loss=bursty_loss(0.01, 8))
    alone.add_hosts(10)
    alone.run(60)
    assert_complete(alone)
    assert overhead(alone) < 0.2
    shared = Room(frames(60, 200_000), shared_loss=independent_loss(0.02))
    shared.add_hosts(30)
    shared.run(60)
    assert_complete(shared)
    # Everybody lacks the same: parity costs no more than what was lost.
    assert overhead(shared) < 0.035


def test_groups_that_come_one_after_the_other_need_one_sweep() -> None:
    room = Room(frames(60), sender=SenderSettings(rate=3e6, gather=10))
    for group in range(4):
        room.add_hosts(3, joins_at=group * 9.5)
    room.run(200)
    assert_complete(room)
    assert overhead(room) < 0.15


def test_a_room_so_large_that_a_receiver_reports_once_in_two_seconds() -> None:
    # As with 3,000: the sender wishes for 1.5 s between two reports.
    sending = SenderSettings(rate=4e6, gather=0.1, reports_per_second=20)
    room = Room(frames(60), sender=sending, loss=independent_loss(0.01), report_loss=0.05)
    room.add_hosts(30)
    room.run(60)
    assert_complete(room)
    assert room.sender is not None
    # Who has a chunk but had no turn to say so does not get it twice, and nobody counts as lost.
    assert room.sender.counters.chunks_resent == 0
    assert overhead(room) < 0.07
    assert room.reports / room.now < 40


def test_only_the_union_is_sent() -> None:
    room = Room(frames(100))
    wants = [[1, 2, 50], [2, 99], [50], []]
    for want in wants:
        room.add_hosts(1, wants=want)
    room.run(20)
    assert [sorted(h.frames) for h in room.hosts] == wants
    assert room.sender is not None
    assert room.sender.counters.chunks_sent == 4


def test_a_machine_that_was_started_again_wants_only_the_rest() -> None:
    room = Room(frames(100), sender=SenderSettings(rate=10e6, gather=0.1), loss=independent_loss(0.01))
    first, other = room.add_hosts(2)
    room.run(2.0)
    first.dies_at = room.now
    here = sorted(first.frames)
    assert 20 < len(here) < 80
    (again,) = room.add_hosts(1, room.now + 1, wants=[i for i in range(100) if i not in first.frames])
    room.run(60)
    assert sorted([*here, *again.frames]) == list(range(100))
    assert len(other.frames) == 100
    # What passed in the second it was away, and no more.
    assert overhead(room) < 0.35


@pytest.mark.parametrize("encrypt", [False, True])
def test_a_session_with_a_key_survives_a_loud_stranger(encrypt: bool) -> None:
    def forge(rng: random.Random, datagram: bytes) -> bytes:
        kind = rng.random()
        if kind < 0.9:
            return datagram
        if kind < 0.93:  # the state `ended`, well made but for the key
            return encode_announce(ENDED)
        if kind < 0.96:  # a payload of his own
            return datagram[:26] + bytes(len(datagram) - 26)
        return rng.randbytes(rng.randint(0, 1500))

    sending = SenderSettings(rate=50e6, gather=0.1, key=bytes(range(32)), encrypt=encrypt, symbol_size=1446)
    room = Room(frames(30), sender=sending, spoil=forge)
    receivers = ReceiverSettings(symbol_size=1446, key=bytes(range(32)), encrypt=encrypt)
    room.add_hosts(3, settings=receivers)
    assert room.sender is not None
    for number in range(50):  # reports too
        room.sender.receive(room.rng.randbytes(70 + number), "stranger", 0.0)
        room.sender.receive(encode_report(GREEDY), "stranger", 0.0)
    room.run(60)
    assert_complete(room)
    for host in room.hosts:
        assert host.rejects == 0
        assert not any(isinstance(event, Ended) for _, event in host.log)
    assert room.sender.counters.bad_reports == 100


def test_a_stranger_without_the_key_reads_nothing() -> None:
    seen: list[bytes] = []

    def listen(rng: random.Random, datagram: bytes) -> bytes:
        seen.append(datagram)
        return datagram

    plain = [b"the secrets of the staff room " * 100]
    key = bytes(32)
    room = Room(plain, sender=SenderSettings(gather=0, key=key, encrypt=True, symbol_size=1446), spoil=listen)
    room.add_hosts(1, settings=ReceiverSettings(symbol_size=1446, key=key, encrypt=True))
    room.run(10)
    assert_complete(room)
    assert len(seen) > 2
    assert not any(b"secrets" in datagram for datagram in seen)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1 << 30), st.floats(0.0, 0.3), st.floats(0.0, 0.05), st.booleans())
def test_whatever_happens_to_datagrams_disks_hold_only_what_is_right(
    seed: int, loss: float, spoilt: float, keyed: bool
) -> None:
    def spoil(rng: random.Random, datagram: bytes) -> bytes:
        if rng.random() >= spoilt:
            return datagram
        bad = bytearray(datagram)
        for _ in range(rng.randint(1, 3)):
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        return bytes(bad[: rng.choice([len(bad), rng.randrange(len(bad))])])

    key = bytes(range(32)) if keyed else None
    # A key is checked on every datagram: then nothing wrong is ever put together.
    room = Room(
        frames(8, 20_000),
        seed=seed,
        sender=SenderSettings(rate=50e6, gather=0.1, key=key),
        loss=independent_loss(loss),
        report_loss=loss,
        spoil=spoil,
    )
    room.add_hosts(2)
    room.run(90)
    for host in room.hosts:
        assert all(room.frames[i] == frame for i, frame in host.frames.items())
        assert len(host.frames) + len(host.lost) == 8, "no session stops"
        assert not (keyed and (host.rejects or host.lost))


def everything_at_once(seed: int) -> Room:
    """Machines come over five seconds, lose in bursts and all alike; some die, one's disk is slow, one wakes
    up late, and one was started again with half of the image.
    """
    rng = random.Random(seed)
    sending = SenderSettings(rate=5e6, gather=1.5)
    room = Room(
        frames(60), seed, sending, bursty_loss(0.02, 4), shared_loss=independent_loss(0.005), report_loss=0.02
    )
    for _ in range(12):
        room.add_hosts(1, joins_at=rng.uniform(0, 5))
    for host in rng.sample(room.hosts[2:], 3):
        host.dies_at = host.joins_at + rng.uniform(0.5, 3)
    room.hosts[0].disk = rng.uniform(100_000, 300_000)
    start = rng.uniform(1, 4)
    room.hosts[1].frozen = start, start + 8
    room.add_hosts(1, joins_at=6, wants=rng.sample(range(60), 30))
    room.run(120)
    return room


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_all_troubles_at_once(seed: int) -> None:
    room = everything_at_once(seed)
    for host in room.hosts:
        if host.dies_at == float("inf"):
            assert len(host.frames) == (30 if host is room.hosts[-1] else 60)
        assert all(room.frames[index] == frame for index, frame in host.frames.items())
    again = everything_at_once(seed)
    assert (again.bytes_sent, again.reports, again.now) == (room.bytes_sent, room.reports, room.now)
    assert [host.finished_at for host in again.hosts] == [host.finished_at for host in room.hosts]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(1, 12), st.floats(0.0, 0.2), st.integers(300, 800))
def test_every_chunk_comes_within_what_the_code_promises(
    seed: int, hosts: int, loss: float, symbols: int
) -> None:
    # No chunk goes out as a whole again: none lost more than a third of a block.
    sending = SenderSettings(rate=20e6, gather=0.1, symbol_size=16)
    rng = random.Random(seed)
    content = [rng.randbytes(symbols * 16 - 5) for _ in range(6)]
    room = Room(content, seed, sending, independent_loss(loss))
    room.add_hosts(hosts)
    room.run(60)
    assert_complete(room)
    assert room.sender is not None
    spoilt = sum(host.core.counters.spoiled for host in room.hosts)
    assert room.sender.counters.chunks_resent <= spoilt


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(2, 8), st.floats(0.1, 0.25))
def test_without_rows_left_a_chunk_goes_out_whole_and_comes_all_the_same(
    seed: int, hosts: int, loss: float
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # Blocks of 200 symbols with six rows: every one of them runs out.
        patch.setattr(fec, "POINTS", 206)
        sending = SenderSettings(rate=20e6, gather=0.1, symbol_size=16)
        rng = random.Random(seed)
        room = Room([rng.randbytes(200 * 16) for _ in range(6)], seed, sending, independent_loss(loss))
        room.add_hosts(hosts)
        room.run(60)
        assert_complete(room)
        assert room.sender is not None
        assert room.sender.counters.chunks_resent > 0


def test_the_same_seed_is_the_same_run() -> None:
    runs = []
    for seed in (5, 5, 6):
        room = Room(frames(10), seed=seed, loss=independent_loss(0.05))
        room.add_hosts(3)
        room.run(30)
        runs.append(([h.finished_at for h in room.hosts], room.bytes_sent))
    assert runs[0] == runs[1] != runs[2]


def test_the_end_of_the_sender_is_told() -> None:
    room = Room(frames(5))
    (host,) = room.add_hosts(1)
    assert room.sender is not None
    host.core.receive(bytes(room.sender.end().buffers[0]), 0.0)
    assert host.core.events() == [Ended("the sender has stopped")]
