"""Whole rooms in virtual time: loss, late ones, deaths, restarts, forgeries."""

import random

import pytest

from imaging.multicast.channels import independent_loss
from imaging.multicast.events import Ended, Silent, Stalled
from imaging.multicast.settings import ReceiverSettings, SenderSettings
from imaging.multicast.simulate import Room


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
