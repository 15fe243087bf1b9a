"""The sender as a conversation: reports in, bursts out, time by hand."""

from typing import Any

import pytest

from imaging.multicast import fec
from imaging.multicast.cutting import ChunkUnavailable
from imaging.multicast.events import ChunkSkipped, ClassChanged, ReceiverJoined, ReceiverLeft, SweepStarted
from imaging.multicast.pacer import burst_of
from imaging.multicast.reports import ReceiverState, Repair, Report, encode_report
from imaging.multicast.sender import Sender
from imaging.multicast.settings import SenderSettings
from imaging.multicast.simulate import split
from imaging.multicast.wire import (
    Announce,
    Data,
    SenderState,
    WireError,
    parse_announce,
    parse_data,
)

SESSION, CHUNKS, SYMBOL = 7, 20, 1000
FRAMES = [bytes([i]) * 9500 for i in range(CHUNKS)]  # ten symbols each, the last one half


def make(**changes: Any) -> Sender:
    settings = {"rate": 1e9, "symbol_size": SYMBOL, "gather": 0.0, **changes}
    return Sender(SESSION, bytes(32), CHUNKS, lambda i: FRAMES[i], SenderSettings(**settings))


def report(
    wants: list[int],
    receiver: int = 1,
    *,
    state: ReceiverState = ReceiverState.RECEIVING,
    highest: int = 0,
    number: int = 0,
    repairs: tuple[Repair, ...] = (),
    received: int = 0,
    lost: int = 0,
    backlog: int = 0,
) -> bytes:
    bits = sum(1 << i for i in wants)
    wanted = len(wants) + len(repairs)
    return encode_report(
        Report(
            SESSION,
            receiver,
            number,
            highest,
            received,
            lost,
            wanted,
            backlog,
            state,
            0,
            CHUNKS,
            bits,
            repairs,
        )
    )


def sent(sender: Sender, now: float) -> tuple[list[Data], list[Announce]]:
    data, announces = [], []
    for batch in sender.datagrams_to_send(now):
        for datagram in split(batch):
            try:
                data.append(parse_data(datagram, SESSION, SYMBOL))
            except WireError:
                announces.append(parse_announce(datagram, SESSION))
    return data, announces


def chunks_sent(sender: Sender, start: float, end: float) -> list[int]:
    """Which chunks went out between two instants, in order."""
    order: list[int] = []
    now = start
    while now < end:
        for data in sent(sender, now)[0]:
            if not order or order[-1] != data.chunk:
                order.append(data.chunk)
        now += 0.001
    return order


def test_nothing_wanted_nothing_sent_but_announces() -> None:
    sender = make()
    times = [t / 100 for t in range(200) if sent(sender, t / 100)[1]]
    assert times == pytest.approx([0.0, 0.4, 0.8, 1.2, 1.6], abs=0.011)
    assert sender.state(3.0) is SenderState.GATHERING


def test_a_chunk_goes_out_as_its_symbols_padded() -> None:
    sender = make()
    sender.receive(report([3]), "a", 0)
    data, _ = sent(sender, 0)
    assert [d.symbol for d in data] == list(range(10))
    assert {(d.chunk, d.length) for d in data} == {(3, 9500)}
    assert b"".join(d.payload for d in data) == FRAMES[3] + bytes(500)
    # Ten symbols and the announce before them: each datagram has a number of its own.
    assert [d.sequence for d in data] == list(range(1, 11))


def test_the_sweep_sends_the_union_in_disk_order_and_wraps() -> None:
    sender = make()
    sender.receive(report([5, 9], 1), "a", 0)
    sender.receive(report([9, 2], 2), "b", 0)
    assert chunks_sent(sender, 0, 0.1) == [2, 5, 9]
    # A late one makes demand behind the pointer; the pointer goes to the end first.
    sender.receive(report([1, 15, 3], 3), "c", 0.1)
    assert chunks_sent(sender, 0.1, 0.2) == [15, 1, 3]


def test_a_chunk_just_sent_is_held_out_and_then_sent_again() -> None:
    sender = make(hold=1.5)
    sender.receive(report([5]), "a", 0)
    assert chunks_sent(sender, 0, 1.4) == [5]
    sender.receive(report([5], number=1), "a", 1.4)
    assert chunks_sent(sender, 1.4, 1.6) == [5]
    assert sender.counters.chunks_resent == 1


def test_wants_that_are_gone_are_not_sent_again() -> None:
    sender = make()
    sender.receive(report([5]), "a", 0)
    assert chunks_sent(sender, 0, 1) == [5]
    sender.receive(report([], number=1, state=ReceiverState.DONE), "a", 1)
    assert chunks_sent(sender, 1, 3) == []
    assert sender.state(3.0) is SenderState.IDLE


def parity_of(chunk: int, rows: list[int]) -> list[bytes]:
    frame = FRAMES[chunk] + bytes(500)
    return fec.codec().encode([frame[i : i + SYMBOL] for i in range(0, len(frame), SYMBOL)], rows)


def rows(data: list[Data]) -> list[int]:
    assert all(d.parity for d in data)
    return [d.symbol for d in data]


def test_repairs_go_first_as_parity_never_sent_before() -> None:
    sender = make(rate=10e6)
    sender.receive(report(list(range(10))), "a", 0)
    first = [d for t in range(20) for d in sent(sender, t / 1000)[0]]
    done = first[9]
    assert (done.chunk, done.symbol) == (0, 9)
    again = report(list(range(2, 10)), highest=done.sequence, number=1, repairs=(Repair(0, (2,)),))
    sender.receive(again, "a", 0.02)
    now, later = 0.02, list[Data]()
    while len(later) < 30:
        now += 0.001
        later += sent(sender, now)[0]
    repairs = [d for d in later if d.chunk == 0]
    assert [(d.parity, d.symbol) for d in repairs] == [(True, 0), (True, 1)]
    assert [d.payload for d in repairs] == parity_of(0, [0, 1])
    # At once, after no more than the chunk that was in hand.
    assert [d.chunk for d in later].index(0) <= 10
    # One of the two got lost at somebody: what comes next was never sent.
    again = report([], highest=later[-1].sequence, number=2, repairs=(Repair(0, (1,)),))
    sender.receive(again, "a", now)
    after = [d for t in range(30) for d in sent(sender, now + t / 1000)[0]]
    assert rows([d for d in after if d.chunk == 0])[:1] == [2]


def test_as_many_as_the_worst_lacks() -> None:
    sender = make(rate=10e6)
    sender.receive(report([0, 1, 2], 1), "a", 0)
    sender.receive(report([0, 1, 2], 2), "b", 0)
    last = [d for t in range(40) for d in sent(sender, t / 1000)[0]][-1].sequence
    sender.receive(
        report([], 1, highest=last, number=1, repairs=(Repair(1, (1,)), Repair(2, (1,)))), "a", 0.1
    )
    sender.receive(report([], 2, highest=last, number=1, repairs=(Repair(1, (3,)),)), "b", 0.1)
    out = [d for t in range(40) for d in sent(sender, 0.1 + t / 1000)[0]]
    assert [(d.chunk, d.symbol) for d in out] == [(1, 0), (1, 1), (1, 2), (2, 0)]
    # Another one, that has not seen these yet, lacks two: they are on their way.
    sender.receive(report([], 1, highest=last, number=2, repairs=(Repair(1, (2,)),)), "a", 0.12)
    assert [d for t in range(40) for d in sent(sender, 0.15 + t / 1000)[0]] == []
    # It lacks five: two are missing still.
    sender.receive(report([], 1, highest=last, number=3, repairs=(Repair(1, (5,)),)), "a", 0.2)
    assert rows([d for t in range(40) for d in sent(sender, 0.2 + t / 1000)[0]]) == [3, 4]


def test_what_is_asked_for_while_parity_is_on_its_way_is_not_added_to_it() -> None:
    sender = make(rate=5e8)
    for who in (1, 2, 3):
        sender.receive(report([0], who), "a", 0)
    last = sent(sender, 0)[0][-1].sequence
    sender.receive(report([], 1, highest=last, number=1, repairs=(Repair(0, (20,)),)), "a", 0.1)
    first = sender.datagrams_to_send(0.1, most=1)
    assert first[0].segments == 16
    # Four of twenty are in hand still. One that has seen none lacks 22, one that has seen ten lacks nine.
    sender.receive(report([], 2, highest=last, number=1, repairs=(Repair(0, (22,)),)), "b", 0.1)
    sender.receive(report([], 3, highest=last + 10, number=1, repairs=(Repair(0, (9,)),)), "c", 0.1)
    rest = [d for t in range(9) for d in sent(sender, 0.101 + t / 1000)[0]]
    assert rows(rest) == [16, 17, 18, 19, 20, 21]
    # One that has seen ten and lacks thirteen needs one more than these.
    sender.receive(report([], 3, highest=last + 10, number=2, repairs=(Repair(0, (13,)),)), "c", 0.12)
    assert rows(sent(sender, 0.12)[0]) == [22]


def test_a_repair_asked_before_the_end_of_the_chunk_was_seen_is_stale() -> None:
    sender = make()
    sender.receive(report([0]), "a", 0)
    last = sent(sender, 0)[0][-1]
    stale = report([], highest=last.sequence - 1, number=1, repairs=(Repair(0, (1,)),))
    sender.receive(stale, "a", 0.1)
    assert sent(sender, 0.1)[0] == []
    # Every announce since then was lost: after the hold the request counts whatever was seen.
    sender.receive(report([], highest=last.sequence - 1, number=4, repairs=(Repair(0, (1,)),)), "a", 1.8)
    assert rows(sent(sender, 1.8)[0]) == [0]


def test_repairs_that_make_no_sense_are_not_sent() -> None:
    sender = make()
    sender.receive(report([1]), "a", 0)
    sent(sender, 0)
    # Two blocks, where the chunk has one; nothing at all; and more than there can be.
    for number, missing in enumerate(((1, 1), (0,)), 1):
        sender.receive(report([], highest=99, number=number, repairs=(Repair(4, missing),)), "a", 0.1)
        assert sent(sender, 0.1)[0] == []


def test_a_chunk_whose_parity_is_used_up_goes_out_whole_again() -> None:
    sender = make(rate=1e9)
    sender.receive(report([3]), "a", 0)
    last, now, number = sent(sender, 0)[0][-1].sequence, 0.1, 0
    seen: list[Data] = []
    while not seen or seen[-1].parity:
        number += 1
        sender.receive(report([], highest=last, number=number, repairs=(Repair(3, (255,)),)), "a", now)
        seen += sent(sender, now)[0]
        last, now = seen[-1].sequence, now + 0.1
        assert number < 20
    parity = [d.symbol for d in seen if d.parity]
    assert len(set(parity)) == len(parity) == 16 * 255 <= fec.rows_of(10)
    assert [d.symbol for d in seen if not d.parity] == list(range(10))


def test_a_slow_one_costs_the_others_nothing() -> None:
    sender = make(rate=1e6, adapt=False)
    now, number = 0.0, 0
    while now < 7:
        number += 1
        # The first loses a third of the stream, the others nothing.
        for who, lost in ((1, number * 30), (2, 0), (3, 0)):
            wants = [0, 1] if who == 1 else [9]
            datagram = report(
                wants, who, number=number, received=number * 100 - lost, lost=lost, repairs=(Repair(5, (3,)),)
                if who == 1 and number > 10 else (),
            )  # fmt: skip
            sender.receive(datagram, who, now)
        now += 0.1
    (changed,) = [e for e in sender.events() if isinstance(e, ClassChanged)]
    assert (changed.receiver, changed.slow) == (1, True)
    assert changed.loss == pytest.approx(0.3, abs=0.02)
    # First what the others want, then what it wants; and no parity for it.
    order = chunks_sent(sender, 7, 7.5)
    assert order == [9, 0, 1]
    assert sender.counters.parity_sent == 0


def test_a_restarted_sender_repairs_what_it_never_sent() -> None:
    sender = make()
    sender.receive(report([], highest=123456, repairs=(Repair(4, (2,)),)), "a", 0)
    assert [(d.chunk, d.symbol, d.parity) for d in sent(sender, 0)[0]] == [
        (4, 0, True),
        (4, 1, True),
    ]


def test_when_there_is_nothing_to_send_the_waiting_are_asked() -> None:
    sender = make()
    sender.receive(report([3]), "a", 0)
    polls = [t / 100 for t in range(150) if any(a.poll for a in sent(sender, t / 100)[1])]
    # A few times, not for ever: it may be busy with what it has.
    assert 4 <= len(polls) <= 8
    assert polls[-1] < 0.5
    sender.receive(report([], number=1, state=ReceiverState.DONE), "a", 1.5)
    assert not any(a.poll for t in range(150, 300) for a in sent(sender, t / 100)[1])


def test_bursts_are_equal_sized_and_bounded() -> None:
    sender = make()
    sender.receive(report(list(range(CHUNKS))), "a", 0)
    batches = [b for t in range(100) for b in sender.datagrams_to_send(t / 1000) if b.segments > 1]
    assert len(batches) > 5
    assert {b.segments for b in batches[:-1]} == {burst_of(sender.settings.rate, 22 + SYMBOL)}
    assert all(len(d) == 22 + SYMBOL for b in batches for d in split(b))


def test_gathers_until_the_time_is_over() -> None:
    sender = make(gather=10)
    sender.receive(report([5]), "a", 100)
    assert chunks_sent(sender, 100, 101) == []
    for t in range(1, 10):
        sender.receive(report([5], number=t), "a", 100 + t)
        sender.handle_timer(100 + t)
    assert sender.next_timer(109.7) <= 110
    assert chunks_sent(sender, 109.9, 110.1) == [5]
    assert SweepStarted(1) in sender.events()


def test_newcomers_extend_the_gathering_threefold_at_most() -> None:
    sender = make(gather=10)
    for second in range(0, 40, 2):
        for receiver in range(second // 6 + 1):
            sender.receive(report([5], receiver, number=second), "a", second)
        began = bool(chunks_sent(sender, second, second + 0.01))
        assert began == (second >= 30), second
        if began:
            break


def test_gathers_until_the_expected_are_in() -> None:
    sender = make(gather=10, expected=2)
    sender.receive(report([5], 1), "a", 0)
    assert chunks_sent(sender, 0, 0.1) == []
    sender.receive(report([5], 2), "b", 0.1)
    assert chunks_sent(sender, 0.1, 0.2) == [5]
    assert sender.events() == [ReceiverJoined(1, "a"), ReceiverJoined(2, "b"), SweepStarted(2)]


def test_a_silent_receiver_is_forgotten_after_three_seconds() -> None:
    sender = make(rate=1e6)
    sender.receive(report(list(range(CHUNKS)), 1), "a", 0)
    sender.receive(report([19], 2), "b", 0)
    sender.events()
    sender.handle_timer(2.9)
    assert sender.events() == []
    sender.receive(report([19], 2, number=1), "b", 2.9)
    sender.handle_timer(3.0)
    assert sender.events() == [ReceiverLeft(1, "a", "silent")]
    assert sender.wanted(3.0) == 1


def test_one_that_leaves_is_forgotten_at_once() -> None:
    sender = make(gather=10)
    sender.receive(report([1]), "a", 0)
    sender.receive(report([1], number=1, state=ReceiverState.LEAVING), "a", 0.5)
    assert sender.events() == [ReceiverJoined(1, "a"), ReceiverLeft(1, "a", "left")]
    assert sender.wanted(3.0) == 0
    sender.receive(report([1], number=2, state=ReceiverState.LEAVING), "a", 0.6)
    assert sender.events() == []


def test_a_report_overtaken_by_a_newer_one_does_not_count() -> None:
    sender = make(gather=10)
    sender.receive(report([], number=5), "a", 0)
    sender.receive(report([1, 2], number=4), "a", 0.1)
    assert sender.wanted(3.0) == 0


def test_a_report_speaks_only_for_its_span() -> None:
    sender = make(gather=10)
    sender.receive(report([1, 15]), "a", 0)
    part = Report(SESSION, 1, 1, 0, 0, 0, 2, 0, ReceiverState.RECEIVING, 0, 10, 1 << 3, ())
    sender.receive(encode_report(part), "a", 0.1)
    assert sender.peers[1].wants == 1 << 3 | 1 << 15


def test_an_unreadable_chunk_is_skipped_said_and_announced() -> None:
    def frame(index: int) -> bytes:
        if index == 5:
            raise ChunkUnavailable("damaged in the store")
        return b"" if index == 6 else FRAMES[index]

    sender = Sender(SESSION, bytes(32), CHUNKS, frame, SenderSettings(symbol_size=SYMBOL, gather=0))
    sender.receive(report([4, 5, 6, 7]), "a", 0)
    assert chunks_sent(sender, 0, 0.005) == [4, 7]
    assert ChunkSkipped(5, "damaged in the store") in sender.events()
    announces = sent(sender, 0.45)[1]
    assert announces[-1].unavailable == ((5, 2),)
    sender.receive(report([5], number=1, repairs=(Repair(6, (1,)),)), "a", 0.5)
    assert chunks_sent(sender, 0.5, 3) == []
    assert sender.state(3.0) is SenderState.IDLE


def test_strangers_datagrams_are_counted_and_dropped() -> None:
    sender = make()
    for datagram in (b"", b"hello", report([1])[:-1], report([1]).replace(b"\x7b\x24", b"\x7b\x14")):
        sender.receive(datagram, "x", 0)
    assert sender.counters.bad_reports == 4
    assert not sender.peers


def test_no_more_receivers_than_set() -> None:
    sender = make(gather=10, max_receivers=3)
    for receiver in range(10):
        sender.receive(report([1], receiver), receiver, 0)
    assert len(sender.peers) == 3


def test_very_many_receivers_are_asked_to_report_less_often() -> None:
    sender = make(gather=10, reports_per_second=100)
    for receiver in range(50):
        sender.receive(report([1], receiver), receiver, 0)
    assert sent(sender, 0)[1][0].hint == 500


def test_the_last_announce_says_so() -> None:
    sender = make()
    assert parse_announce(bytes(sender.end().buffers[0]), SESSION).state is SenderState.ENDED


def test_a_keyed_session_hears_only_keyed_reports() -> None:
    sender = make(key=bytes(32))
    sender.receive(report([1]), "a", 0)
    assert sender.counters.bad_reports == 1


@pytest.mark.parametrize("rate", [1e6, 20e6, 300e6])
def test_the_rate_is_held(rate: float) -> None:
    sender = make(rate=rate, hold=0.0)
    on_wire, now, number = 0, 0.0, 0
    while now < 4:
        number += 1
        sender.receive(report(list(range(CHUNKS)), number=number, highest=0), "a", now)
        for _ in range(50):
            on_wire += sum(b.segments * (b.size + 66) for b in sender.datagrams_to_send(now))
            now += 0.0005
    assert on_wire * 8 / now == pytest.approx(rate, rel=0.03)
