"""The receiver as a conversation: datagrams in, frames and reports out, time by hand."""

import itertools
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.multicast import fec
from imaging.multicast.events import (
    ChunkLost,
    ChunkReceived,
    Ended,
    Rejoin,
    Resumed,
    Silent,
    Stalled,
)
from imaging.multicast.receiver import Receiver
from imaging.multicast.reports import ReceiverState, Repair, Report, parse_report
from imaging.multicast.settings import ReceiverSettings
from imaging.multicast.wire import (
    Announce,
    Data,
    SenderState,
    encode_announce,
    encode_data,
    make_seal,
)

SESSION, CHUNKS, SYMBOL = 9, 100, 600
SEGMENT = 22 + SYMBOL
FRAMES = [random.Random(i).randbytes(29_900) for i in range(CHUNKS)]  # fifty symbols each
MANIFEST = bytes(range(32))


def make(wants: range | list[int] = range(CHUNKS), **changes: Any) -> Receiver:
    settings = ReceiverSettings(symbol_size=SYMBOL, **changes)
    receiver = Receiver(SESSION, 5, CHUNKS, 0.0, settings, MANIFEST)
    for index in wants:
        receiver.want(index, 0.0)
    return receiver


class Stream:
    """Makes datagrams with the sequence numbers a sender would give them."""

    def __init__(self, start: int = 0) -> None:
        self.sequence = start

    def chunk(self, index: int, symbols: range | list[int] = range(50), frame: bytes | None = None) -> bytes:
        frame = FRAMES[index] if frame is None else frame
        out = []
        for symbol in symbols:
            payload = frame[symbol * SYMBOL : (symbol + 1) * SYMBOL].ljust(SYMBOL, b"\0")
            out.append(encode_data(Data(SESSION, index, len(frame), symbol, self.sequence, payload)))
            self.sequence += 1
        return b"".join(out)

    def parity(self, index: int, rows: range | list[int]) -> bytes:
        """Parity symbols; fifty symbols are one block."""
        frame = FRAMES[index].ljust(50 * SYMBOL, b"\0")
        sources = [frame[start : start + SYMBOL] for start in range(0, len(frame), SYMBOL)]
        out = []
        for row, payload in zip(rows, fec.codec().encode(sources, list(rows)), strict=True):
            data = Data(SESSION, index, len(FRAMES[index]), row, self.sequence, payload, True)
            out.append(encode_data(data))
            self.sequence += 1
        return b"".join(out)

    def announce(self, **changes: Any) -> bytes:
        announce = Announce(
            SESSION, CHUNKS, SYMBOL, self.sequence, MANIFEST, SenderState.SENDING, False, 100, 1000, 1, 1, ()
        )
        self.sequence += 1
        return encode_announce(announce._replace(**changes))


def reports(receiver: Receiver, now: float) -> list[Report]:
    return [parse_report(d, SESSION, CHUNKS) for d in receiver.datagrams_to_send(now)]


def indexes(receiver: Receiver) -> list[int]:
    return [e.index for e in receiver.events() if isinstance(e, ChunkReceived)]


def test_a_chunk_in_one_run_is_handed_out_whole() -> None:
    receiver, stream = make(), Stream()
    receiver.receive(stream.chunk(3), 0.1, SEGMENT)
    assert receiver.events() == [ChunkReceived(3, FRAMES[3])]
    assert (receiver.wanted, receiver.pending) == (99, 1)
    receiver.got(3)
    assert receiver.pending == 0


@given(st.randoms(use_true_random=False), st.integers(1, 16))
def test_symbols_in_any_order_doubled_and_in_any_grouping(rng: random.Random, group: int) -> None:
    receiver, stream = make(), Stream()
    symbols = [*range(50), *rng.choices(range(50), k=10)]
    rng.shuffle(symbols)
    data = b"".join(stream.chunk(7, [s]) for s in symbols)
    for start in range(0, len(data), group * SEGMENT):
        receiver.receive(data[start : start + group * SEGMENT], 0.1, SEGMENT)
    assert ChunkReceived(7, FRAMES[7]) in receiver.events()
    assert receiver.hearing.received == 60


def test_a_run_over_several_chunks_and_a_shorter_datagram_at_the_end() -> None:
    receiver, stream = make(), Stream()
    receiver.receive(stream.chunk(1) + stream.chunk(2) + stream.announce(), 0.1, SEGMENT)
    assert indexes(receiver) == [1, 2]
    assert receiver.announce is not None
    assert receiver.hearing.lost == 0


def test_what_is_not_wanted_passes_by() -> None:
    receiver, stream = make([1]), Stream()
    receiver.receive(stream.chunk(2), 0.1, SEGMENT)
    receiver.receive(stream.chunk(1), 0.1, SEGMENT)
    receiver.receive(stream.chunk(1), 0.1, SEGMENT)
    assert indexes(receiver) == [1]


def test_what_is_welcome_is_taken_but_never_asked_for() -> None:
    receiver, stream = make([]), Stream()
    receiver.scanning = True
    receiver.welcome(4)
    assert reports(receiver, 0)[0].wants == 0
    receiver.receive(stream.chunk(4), 0.1, SEGMENT)
    assert indexes(receiver) == [4]
    receiver.welcome(5)
    receiver.receive(stream.chunk(5, range(49)) + stream.chunk(6), 0.2, SEGMENT)
    assert [r.repairs for r in reports(receiver, 1)] == [()]


def test_for_little_missing_parity_is_asked_for() -> None:
    receiver, stream = make([1, 2, 3]), Stream()
    receiver.receive(stream.chunk(1, [s for s in range(50) if s not in (4, 40)]), 0.1, SEGMENT)
    assert reports(receiver, 0.1)[0].repairs == (), "it is still on its way"
    receiver.receive(stream.chunk(2, range(16)), 0.12, SEGMENT)
    (report,) = reports(receiver, 0.4)
    assert report.repairs == (Repair(1, (2,)),)
    assert report.wants == 1 << 2 | 1 << 3
    assert report.wanted == 3
    # Any parity of the chunk helps, and it is no sign that chunk 2 has gone by.
    receiver.receive(stream.parity(1, [7]), 0.5, SEGMENT)
    (report,) = reports(receiver, 0.7)
    assert report.repairs == (Repair(1, (1,)),)
    receiver.receive(stream.parity(1, [7, 2]), 0.8, SEGMENT)
    assert receiver.events() == [ChunkReceived(1, FRAMES[1])]
    assert receiver.counters.rebuilt == 1
    assert receiver.counters.duplicates == 1
    receiver.receive(stream.chunk(2, range(16, 50)), 0.9, SEGMENT)
    assert indexes(receiver) == [2]


def test_parity_and_what_was_missing_may_come_in_any_order() -> None:
    receiver, stream = make([1]), Stream()
    receiver.receive(stream.parity(1, range(30)), 0.1, SEGMENT)
    receiver.receive(stream.chunk(1, range(19)), 0.2, SEGMENT)
    assert receiver.events() == []
    receiver.receive(stream.chunk(1, [45]), 0.3, SEGMENT)
    assert receiver.events() == [ChunkReceived(1, FRAMES[1])]


def test_a_poll_is_answered_at_once() -> None:
    receiver, stream = make([1]), Stream()
    receiver.receive(stream.chunk(1, range(49)), 0.1, SEGMENT)
    assert reports(receiver, 0.1)[0].repairs == ()
    receiver.receive(stream.announce(poll=True), 0.11)
    assert receiver.next_timer() <= 0.12
    crowd, far = make([1]), Stream()
    crowd.receive(far.announce(hint=1500), 0.05)
    assert reports(crowd, 0.1)
    times = set()
    for _ in range(20):
        crowd.receive(far.announce(poll=True, hint=1500), 0.2)
        times.add(crowd._next_report)
    assert 0.2 < min(times) <= 0.2 + 1.41
    assert reports(receiver, 0.12)[0].repairs == (Repair(1, (1,)),)


def test_the_last_chunk_is_repaired_although_nothing_follows_it() -> None:
    receiver, stream = make([1]), Stream()
    receiver.receive(stream.chunk(1, range(48)), 0.1, SEGMENT)
    receiver.handle_timer(0.36)
    assert reports(receiver, 0.36)[0].repairs == (Repair(1, (2,)),)


def test_much_missing_stays_wanted_and_what_is_here_is_kept() -> None:
    receiver, stream = make([1, 2]), Stream()
    receiver.receive(stream.chunk(1, range(30)) + stream.chunk(2, range(1)), 0.1, SEGMENT)
    (report,) = reports(receiver, 0.4)
    assert (report.repairs, report.wants) == ((), 0b110)
    receiver.receive(stream.chunk(1, range(30, 50)), 0.5, SEGMENT)
    assert indexes(receiver) == [1]


def test_repairs_that_do_not_come_become_a_want() -> None:
    receiver, stream = make([1, 2]), Stream()
    receiver.receive(stream.chunk(1, range(49)) + stream.chunk(2, range(1)), 0.1, SEGMENT)
    assert reports(receiver, 0.4)[0].repairs
    receiver.handle_timer(2.2)
    (report,) = reports(receiver, 2.2)
    assert (report.repairs, report.wants) == ((), 0b110)


def test_buffers_are_bounded_and_the_best_partials_stay() -> None:
    receiver, stream = make(buffer=3 * 29_900), Stream()
    for chunk, symbols in ((1, 49), (2, 10), (3, 40), (4, 20)):
        receiver.receive(stream.chunk(chunk, range(symbols)), 0.1, SEGMENT)
    for chunk in (1, 3, 4):
        first = {1: 49, 3: 40, 4: 20}[chunk]
        receiver.receive(stream.chunk(chunk, range(first, 50)), 0.2, SEGMENT)
    receiver.receive(stream.chunk(2, range(10, 50)), 0.2, SEGMENT)
    assert indexes(receiver) == [1, 3, 4], "chunk 2 had the most missing and was given up for chunk 4"
    assert reports(receiver, 1)[0].wants & 0b11110 == 0b00100


def test_no_more_frames_are_out_than_the_agent_can_hold() -> None:
    receiver, stream = make(max_pending=2), Stream()
    receiver.receive(b"".join(stream.chunk(i) for i in range(4)), 0.1, SEGMENT)
    assert indexes(receiver) == [0, 1]
    assert receiver.backlog == 1000
    assert receiver.counters.refused > 0
    assert reports(receiver, 0.2)[0].wants & 0b1111 == 0b1100
    receiver.got(0)
    receiver.receive(stream.chunk(2), 0.3, SEGMENT)
    assert indexes(receiver) == [2]


def test_a_spoilt_frame_is_rejected_and_wanted_again() -> None:
    receiver, stream = make(), Stream()
    spoilt = bytearray(stream.chunk(3))
    spoilt[5000] ^= 1
    receiver.receive(bytes(spoilt), 0.1, SEGMENT)
    (event,) = receiver.events()
    assert isinstance(event, ChunkReceived)
    assert event.frame != FRAMES[3]
    receiver.reject(3, 0.2)
    assert reports(receiver, 0.2)[0].wants >> 3 & 1
    # From now on each seal is checked: the same damage costs one symbol, not the chunk.
    receiver.receive(bytes(spoilt), 0.3, SEGMENT)
    assert receiver.events() == []
    assert receiver.counters.bad == 1
    receiver.receive(stream.chunk(3, [5000 // SEGMENT]), 0.4, SEGMENT)
    assert receiver.events() == [ChunkReceived(3, FRAMES[3])]


def test_a_chunk_that_is_always_wrong_is_given_up() -> None:
    receiver, stream = make([3]), Stream()
    for _ in range(3):
        receiver.receive(stream.chunk(3, frame=bytes(29_900)), 0.1, SEGMENT)
        receiver.reject(3, 0.1)
    lost = [e for e in receiver.events() if isinstance(e, ChunkLost)]
    assert [e.index for e in lost] == [3]
    assert receiver.wanted == 0


def test_a_header_with_another_length_does_not_spoil_what_is_here() -> None:
    receiver, stream = make(), Stream()
    receiver.receive(stream.chunk(3, range(25)), 0.1, SEGMENT)
    liar = bytearray(stream.chunk(3, [0], frame=bytes(700)))
    liar[40] ^= 1  # its seal no longer fits
    receiver.receive(bytes(liar), 0.1)
    receiver.receive(stream.chunk(3, range(25, 50)), 0.1, SEGMENT)
    assert receiver.events() == [ChunkReceived(3, FRAMES[3])]


def test_a_keyed_session_believes_only_the_key() -> None:
    receiver, stream = make(key=bytes(32)), Stream()
    receiver.receive(stream.chunk(3), 0.1, SEGMENT)
    assert receiver.events() == []
    frame = FRAMES[3].ljust(50 * SYMBOL, b"\0")
    seal = make_seal(bytes(32))
    for i in range(50):
        data = Data(SESSION, 3, 29_900, i, 50 + i, frame[i * SYMBOL : (i + 1) * SYMBOL])
        receiver.receive(encode_data(data, seal), 0.1)
    assert receiver.events() == [ChunkReceived(3, FRAMES[3])]


KEY = bytes(range(32))


def sealed(index: int, start: int, forge: dict[int, Data] | None = None) -> bytes:
    """A chunk of a keyed session; `forge` puts other datagrams, sealed with another key, in their places."""
    frame, out = FRAMES[index].ljust(50 * SYMBOL, b"\0"), []
    for i in range(50):
        data = Data(SESSION, index, 29_900, i, start + i, frame[i * SYMBOL : (i + 1) * SYMBOL])
        forged = (forge or {}).get(i)
        out.append(encode_data(forged or data, make_seal(bytes(32) if forged else KEY)))
    return b"".join(out)


def test_a_forged_symbol_amid_others_costs_a_chunk_and_the_next_one_a_symbol() -> None:
    receiver = make(key=KEY)
    forged = {20: Data(SESSION, 3, 29_900, 20, 20, bytes(SYMBOL))}
    receiver.receive(sealed(3, 0, forged), 0.1, SEGMENT + 4)
    [event] = receiver.events()
    assert isinstance(event, ChunkReceived)
    assert event.frame != FRAMES[3]
    receiver.reject(3, 0.1)
    receiver.receive(sealed(3, 50, forged), 0.2, SEGMENT + 4)
    assert (receiver.events(), receiver.counters.bad) == ([], 1)
    receiver.receive(sealed(3, 100), 0.3, SEGMENT + 4)
    assert receiver.events() == [ChunkReceived(3, FRAMES[3])]


@pytest.mark.parametrize("place", [0, 49])
def test_a_strangers_sequence_numbers_are_not_believed(place: int) -> None:
    receiver = make(key=KEY)
    wild = {place: Data(SESSION, 3, 29_900, place, 1_000_000, bytes(SYMBOL))}
    receiver.receive(sealed(3, 100, wild), 0.1, SEGMENT + 4)
    assert (receiver.hearing.received, receiver.hearing.lost, receiver.counters.bad) == (49, 0, 1)
    # From now on each seal counts.
    receiver.receive(sealed(4, 150, {20: Data(SESSION, 4, 29_900, 20, 170, bytes(SYMBOL))}), 0.2, SEGMENT + 4)
    assert receiver.counters.bad == 2
    assert receiver.events() == []


def test_losses_are_counted_by_sequence() -> None:
    receiver, stream = make(), Stream(0xFFFFFFF0)
    receiver.receive(stream.chunk(1, range(10)), 0.1, SEGMENT)
    stream.sequence = (stream.sequence + 5) & 0xFFFFFFFF
    late = stream.chunk(1, [10])
    stream.sequence &= 0xFFFFFFFF
    receiver.receive(stream.chunk(1, range(11, 20)), 0.1, SEGMENT)
    assert receiver.hearing.lost == 6
    receiver.receive(late, 0.1)
    assert receiver.hearing.lost == 5


def test_a_restarted_sender_is_not_a_loss_of_millions() -> None:
    receiver = make()
    receiver.receive(Stream(3_000_000_000).chunk(1, range(10)), 0.1, SEGMENT)
    receiver.receive(Stream(0).chunk(1, range(10, 20)), 0.2, SEGMENT)
    assert receiver.hearing.lost == 0
    assert reports(receiver, 1)[0].highest == 9


def test_silence_is_noticed_and_ends() -> None:
    receiver, stream = make(), Stream()
    receiver.receive(stream.announce(), 10.0)
    seen: list[tuple[float, object]] = []
    now = 10.0
    while now < 22.9:
        receiver.handle_timer(now)
        seen += [(round(now, 1), type(e)) for e in receiver.events()]
        receiver.datagrams_to_send(now)
        now = max(now + 0.001, receiver.next_timer())
    assert seen[:4] == [(11.0, Rejoin), (12.0, Rejoin), (13.0, Silent), (13.0, Rejoin)]
    # Then seldom, and each machine at a time of its own.
    assert {kind for _, kind in seen[4:]} == {Rejoin}
    assert 18.0 <= seen[4][0] <= 23.0
    assert receiver.silent
    receiver.receive(stream.chunk(1), 23.0, SEGMENT)
    assert receiver.events()[0] == Resumed()
    assert not receiver.silent


def test_data_without_progress_is_a_stall() -> None:
    receiver, stream = make(), Stream()
    for second in range(12):
        for chunk in range(8):
            receiver.receive(stream.chunk(chunk + second * 8, range(20)), second, SEGMENT)
        receiver.handle_timer(second)
    assert Stalled() in receiver.events()


def test_reports_come_five_to_ten_times_a_second_and_not_in_step() -> None:
    receiver = make()
    times = []
    for t in range(10_000):
        if receiver.datagrams_to_send(t / 1000):
            times.append(t / 1000)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert 0.1 <= min(gaps) < 0.12
    assert 0.18 < max(gaps) <= 0.201


def test_the_senders_wish_for_fewer_reports_is_heeded() -> None:
    receiver, stream = make(), Stream()
    receiver.receive(stream.announce(hint=1000), 0.0)
    times = [t / 100 for t in range(2000) if receiver.datagrams_to_send(t / 100)]
    assert len(times) < 20


def test_a_wish_that_would_silence_us_is_a_flipped_bit() -> None:
    """The sender forgets whoever has not reported for 3 s."""
    receiver, stream = make(), Stream()
    receiver.receive(stream.announce(hint=0xFFFF), 0.0)
    times = [t / 100 for t in range(2000) if receiver.datagrams_to_send(t / 100)]
    assert max(b - a for a, b in itertools.pairwise(times)) < 2.1


def test_the_first_want_and_the_end_are_reported_at_once() -> None:
    receiver, stream = make([]), Stream()
    assert reports(receiver, 0)[0].state is ReceiverState.DONE
    receiver.want(3, 0.5)
    assert reports(receiver, 0.5)[0].wants == 1 << 3
    receiver.receive(stream.chunk(3), 0.51, SEGMENT)
    receiver.got(3)
    (report,) = reports(receiver, 0.51)
    assert (report.state, report.wants) == (ReceiverState.DONE, 0)


def test_a_scanner_is_not_done() -> None:
    receiver = make([])
    receiver.scanning = True
    assert reports(receiver, 0)[0].state is ReceiverState.SCANNING
    receiver.leave()
    assert reports(receiver, 0)[0].state is ReceiverState.LEAVING


def test_wants_too_many_for_a_report_are_told_in_turns() -> None:
    settings = ReceiverSettings(symbol_size=512)
    receiver = Receiver(SESSION, 5, 100_000, 0.0, settings)
    for index in range(0, 100_000, 2):
        receiver.want(index, 0)
    told, now = 0, 0.0
    while told != sum(1 << i for i in range(0, 100_000, 2)):
        datagrams = receiver.datagrams_to_send(now)
        assert len(datagrams) <= 8
        for datagram in datagrams:
            assert len(datagram) <= 22 + 512
            report = parse_report(datagram, SESSION, 100_000)
            told |= report.wants << report.first
        now += 0.25
        assert now < 3


def test_what_the_sender_cannot_read_is_lost_here() -> None:
    receiver, stream = make([1, 2, 3]), Stream()
    receiver.receive(stream.announce(unavailable=((2, 5),)), 0.1)
    assert [e.index for e in receiver.events() if isinstance(e, ChunkLost)] == [2, 3]
    assert receiver.wanted == 1
    # The scan goes on and finds that chunk 4 is needed too.
    receiver.want(4, 0.2)
    receiver.receive(stream.announce(unavailable=((2, 5),)), 0.3)
    assert [e.index for e in receiver.events() if isinstance(e, ChunkLost)] == [4]


@pytest.mark.parametrize(
    "change", [{"manifest": bytes(32)}, {"chunks": 99}, {"symbol_size": 1450}, {"state": SenderState.ENDED}]
)
def test_a_session_that_is_not_ours_or_over(change: dict[str, Any]) -> None:
    receiver, stream = make(), Stream()
    receiver.receive(stream.announce(**change), 0.1)
    (event,) = receiver.events()
    assert isinstance(event, Ended)
    assert receiver.ended
    receiver.receive(stream.chunk(3), 0.15, SEGMENT)
    assert bool(indexes(receiver)) == ("state" in change), "another image's data is not taken"
    receiver.receive(stream.announce(), 0.2)
    assert not receiver.ended


@given(st.binary(max_size=3000), st.sampled_from([0, 1, 20, SEGMENT, 2000]))
def test_garbage_changes_nothing(garbage: bytes, segment: int) -> None:
    receiver = make()
    receiver.receive(garbage, 0.1, segment)
    assert receiver.events() == []
    assert receiver.wanted == CHUNKS


@given(st.data())
def test_spoilt_headers_never_raise_nor_hand_out_another_chunk(data: st.DataObject) -> None:
    receiver, stream = make([3]), Stream()
    run = bytearray(stream.chunk(3))
    for _ in range(data.draw(st.integers(1, 5))):
        segment, offset = data.draw(st.integers(0, 49)), data.draw(st.integers(0, 21))
        run[segment * SEGMENT + offset] = data.draw(st.integers(0, 255))
    receiver.receive(bytes(run), 0.1, SEGMENT)
    assert {e.index for e in receiver.events() if isinstance(e, ChunkReceived)} <= {3}
