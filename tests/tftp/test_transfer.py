"""One transfer as a conversation: options, loss, repeats, ends."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tftp.conversation import LATENCY, converse
from tftp.cut import Train
from tftp.packet import Ack, Data, Error, OptionAck, ReadRequest, parse
from tftp.transfer import (
    Limits,
    ReadTransfer,
    TransferAborted,
    TransferCompleted,
    TransferFailed,
    to_netascii,
)


def start(content=b"x" * 1000, *options, mode="octet", limits=None):
    return ReadTransfer(ReadRequest("f", mode, options), content, 0.0, limits, jitter=lambda: 0.0)


def said(transfer, now=0.0):
    """What the server says now, as packets."""
    return [parse(datagram) for train in transfer.datagrams_to_send(now) for datagram in train.datagrams()]


def hears(transfer, packet, now=0.0):
    transfer.receive(packet.to_bytes(), now)


# Options


def test_without_options_data_follows_at_once():
    t = start(b"a" * 512 + b"b" * 10)
    assert said(t) == [Data(1, b"a" * 512)]
    hears(t, Ack(1))
    assert said(t) == [Data(2, b"b" * 10)]
    hears(t, Ack(2), now=0.5)
    assert t.events() == [TransferCompleted(522, 0.5, 0)]
    assert t.finished
    assert said(t) == []
    assert t.next_timer() is None


def test_a_multiple_of_the_block_size_ends_with_an_empty_block():
    t = start(b"a" * 512)
    assert said(t) == [Data(1, b"a" * 512)]
    hears(t, Ack(1))
    assert said(t) == [Data(2, b"")]


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ((("tsize", "0"),), (("tsize", "1000"),)),
        ((("BlkSize", "1024"),), (("BlkSize", "1024"),)),
        ((("blksize", "65464"),), (("blksize", "1468"),)),  # MTU 1500 - 32
        ((("blksize", "70000"),), (("blksize", "1468"),)),
        ((("timeout", "3"),), (("timeout", "3"),)),
        ((("windowsize", "65535"),), (("windowsize", "64"),)),
        ((("windowsize", "4"), ("multicast", ""), ("tsize", "0")), (("windowsize", "4"), ("tsize", "1000"))),
    ],
)
def test_only_what_was_asked_and_never_more(asked, granted):
    assert said(start(b"x" * 1000, *asked)) == [OptionAck(granted)]


@pytest.mark.parametrize(
    "option",
    [
        ("blksize", "7"),
        ("blksize", "abc"),
        ("blksize", "-8"),
        ("blksize", "١٢٣٤"),  # digits to Python, not to the RFC
        ("blksize", "9" * 30),
        ("timeout", "0"),
        ("timeout", "256"),
        ("timeout", "200"),
        ("windowsize", "0"),
        ("windowsize", "65536"),
        ("tsize", ""),
        ("rollover", "1"),
    ],
)
def test_an_option_out_of_range_is_as_if_unknown(option):
    assert said(start(b"abc", option)) == [Data(1, b"abc")]


def test_data_only_after_the_oack_was_acknowledged():
    t = start(b"abc", ("tsize", "0"))
    assert said(t) == [OptionAck((("tsize", "3"),))]
    assert said(t) == []
    hears(t, Ack(1))
    assert said(t) == []
    hears(t, Ack(0))
    assert said(t) == [Data(1, b"abc")]


def test_small_mtu():
    assert said(start(b"", ("blksize", "1468"), limits=Limits(mtu=1400))) == [
        OptionAck((("blksize", "1368"),))
    ]


# Ends


@pytest.mark.parametrize(("code", "normal"), [(0, True), (8, True), (1, False), (3, False), (4, False)])
def test_the_firmware_that_only_wanted_the_size(code, normal):
    t = start(b"x" * 9, ("tsize", "0"))
    said(t)
    hears(t, Error(code, "User aborted the transfer"))
    assert t.events() == [TransferAborted(code, "User aborted the transfer", normal, 0)]
    assert said(t) == []


def test_silence_ends_after_six_tries_each_twice_as_long():
    t, waits, last = start(b"abc"), [], 0.0
    while not t.finished:
        now = t.next_timer() if t.next_timer() is not None else last
        waits.append(now - last)
        last = now
        t.handle_timer(now)
        if not t.finished:
            assert said(t, now) == [Data(1, b"abc")]
    assert waits == [0.0, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert isinstance(said(t, last)[0], Error)
    (event,) = t.events()
    assert event == TransferFailed("The peer did not acknowledge block 1 of 1 in 6 tries.", 0)


def test_the_first_wait_is_doubled_only_without_a_timeout_option():
    t = start(b"abc", ("timeout", "3"))
    said(t)
    assert t.next_timer() == 3.0
    t.handle_timer(3.0)
    assert said(t, 3.0) == [OptionAck((("timeout", "3"),))]
    assert t.next_timer() == 6.0


def test_a_timer_that_fires_early_changes_nothing():
    t = start()
    said(t)
    t.handle_timer(0.5)
    assert said(t, 0.5) == []


@pytest.mark.parametrize("packet", [Data(1, b""), OptionAck(())])
def test_a_peer_that_writes_is_told_off(packet):
    t = start()
    said(t)
    hears(t, packet)
    assert said(t)[0].code == 4
    assert t.finished


def test_garbage_is_ignored():
    t = start()
    said(t)
    t.receive(b"\xff" * 9, 0.0)
    t.receive(b"", 0.0)
    assert not t.finished


def test_a_file_that_shrinks_ends_in_an_error_not_in_a_short_file():
    content = bytearray(b"x" * 1000)
    t = start(content)
    assert len(said(t)) == 1

    class Shrunk:
        def __len__(self):
            return 1000

        def __getitem__(self, key):
            return b""

    t = start(Shrunk())
    assert isinstance(said(t)[0], Error)
    assert "shorter" in t.events()[0].reason


def test_unknown_mode():
    t = start(mode="mail")
    assert said(t)[0].code == 4
    assert t.finished


# Netascii


def test_netascii():
    assert to_netascii(b"a\nb\r\n\r") == b"a\r\nb\r\0\r\n\r\0"
    t = start(b"a\nb", ("tsize", "0"), mode="netascii")
    assert said(t) == [OptionAck((("tsize", "4"),))]
    hears(t, Ack(0))
    assert said(t) == [Data(1, b"a\r\nb")]


def test_netascii_of_a_huge_file():
    t = start(b"x" * 100, mode="netascii", limits=Limits(netascii_max=99))
    assert isinstance(said(t)[0], Error)


# Repeats


def test_sorcerers_apprentice():
    """RFC 1123 section 4.2.3.1: ACKs that arrive twice do not make DATA leave twice."""
    t = start(b"x" * 5120)
    said(t)
    hears(t, Ack(1))
    assert [p.block for p in said(t)] == [2]
    hears(t, Ack(1))
    hears(t, Ack(1))
    hears(t, Ack(0))
    assert said(t) == []


def test_an_ack_from_the_future_is_ignored():
    t = start(b"x" * 5120)
    said(t)
    hears(t, Ack(2))
    hears(t, Ack(0xFFFF))
    assert said(t) == []
    assert t.acknowledged == 0


def test_window_goes_on_after_the_block_that_was_lost():
    """RFC 7440 section 4: ACK 2 inside the window 1-4 means that 3 is missing."""
    t = start(b"x" * 5120, ("windowsize", "4"))
    said(t)
    hears(t, Ack(0))
    assert [p.block for p in said(t)] == [1, 2, 3, 4]
    hears(t, Ack(2))
    assert [p.block for p in said(t)] == [3, 4, 5, 6]
    hears(t, Ack(2))  # block 4 came out of order too: the same loss, told again
    assert said(t) == []
    hears(t, Ack(6))
    assert [p.block for p in said(t)] == [7, 8, 9, 10]


def test_window_whose_first_block_was_lost_is_sent_again_once():
    t = start(b"x" * 5120, ("windowsize", "4"))
    said(t)
    hears(t, Ack(0))
    said(t)
    hears(t, Ack(0))
    assert [p.block for p in said(t)] == [1, 2, 3, 4]
    for _ in range(2):  # EDK2 says it for blocks 2, 3 and 4
        hears(t, Ack(0))
        assert said(t) == []


def test_an_ack_that_overtakes_the_resending_still_counts():
    t = start(b"x" * 5120, ("windowsize", "4"))
    said(t)
    hears(t, Ack(0))
    said(t)
    hears(t, Ack(0))
    hears(t, Ack(4))  # both were waiting when we looked
    assert [p.block for p in said(t)] == [5, 6, 7, 8]


def test_a_repeated_request_is_told_from_a_reboot():
    request = ReadRequest("f", "octet", (("tsize", "0"),))
    t = ReadTransfer(request, b"abc", 0.0)
    assert t.is_repeat(request, 60.0)
    assert not t.is_repeat(ReadRequest("g"), 0.0)
    said(t)
    hears(t, Ack(0))
    assert t.is_repeat(request, 1.0)
    assert not t.is_repeat(request, 60.0)


# The short way


def test_the_short_way_answers_only_the_plain_ack():
    t = start(b"x" * 5120, ("windowsize", "4"))
    said(t)
    assert t.answer(Ack(0).to_bytes(), 0.0) is None  # to the OACK
    hears(t, Ack(0))
    said(t)
    for datagram in (b"", b"\0\4", Ack(0).to_bytes(), Ack(3).to_bytes(), Ack(5).to_bytes(), b"\0\5\0\4x\0"):
        assert t.answer(datagram, 0.1) is None
    assert t.acknowledged == 0
    octets = t.answer(Ack(4).to_bytes(), 0.1)
    assert [parse(d).block for d in Train(t.segment, octets).datagrams()] == [5, 6, 7, 8]
    assert t.acknowledged == 2048
    assert t.next_timer() == 1.1
    hears(t, Ack(8), 0.2)
    said(t, 0.2)
    assert t.answer(Ack(11).to_bytes(), 0.3) is None  # the last one ends it, and that is no plain answer
    hears(t, Ack(11), 0.3)
    assert t.events() == [TransferCompleted(5120, 0.3, 0)]


def test_after_a_repeat_there_is_no_short_way():
    """Its ACK may be about the first sending; and the timer was set for a longer wait."""
    t = start(b"x" * 5120)
    said(t)
    t.handle_timer(1.0)
    assert said(t, 1.0) == [Data(1, b"x" * 512)]
    assert t.answer(Ack(1).to_bytes(), 1.1) is None
    hears(t, Ack(1), 1.1)
    assert said(t, 1.1) == [Data(2, b"x" * 512)]
    assert t.next_timer() == 2.1
    assert t.answer(Ack(2).to_bytes(), 1.2) is not None


def test_what_is_known_to_be_lost_is_sent_again_at_once():
    t = start(b"x" * 5120, ("windowsize", "4"))
    t.lost()  # nothing is on its way yet
    said(t)
    t.lost()
    assert said(t) == [OptionAck((("windowsize", "4"),))]
    hears(t, Ack(0))
    said(t)
    t.lost()
    assert [p.block for p in said(t)] == [1, 2, 3, 4]
    for _ in range(10):
        t.lost()
        said(t)
    assert t.next_timer() is not None  # six times, then the timer has the word
    t.handle_timer(t.next_timer())
    assert t.finished


# Conversations over a bad wire


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 5120, 20_000])
@pytest.mark.parametrize("windowsize", [1, 4, 16])
def test_a_good_wire_carries_each_block_once(size, windowsize):
    content = random.Random(size).randbytes(size)
    reader, transfer, _, sent = converse(content, windowsize=windowsize)
    assert b"".join(reader.parts) == content
    assert sent == size // 512 + 1 + 1  # blocks and the OACK
    assert transfer.events()[0].resent == 0


@pytest.mark.parametrize("windowsize", [1, 4, 16])
def test_every_single_loss_is_mended(windowsize):
    content = random.Random(1).randbytes(12 * 512 + 7)
    for direction in (True, False):
        for lost in range(14):
            reader, transfer, _, _ = converse(
                content,
                windowsize=windowsize,
                fate=lambda n, down, lost=lost, to=direction: [] if (n, down) == (lost, to) else [LATENCY],
            )
            if reader.done:
                assert b"".join(reader.parts) == content
            (event,) = transfer.events()
            # Only the loss of the very last ACK leaves us without knowing; everything else completes.
            assert isinstance(event, TransferCompleted), (direction, lost)


@pytest.mark.parametrize("windowsize", [1, 4, 16])
def test_everything_doubled_costs_no_avalanche(windowsize):
    content = random.Random(2).randbytes(200 * 512)
    reader, _, _, sent = converse(
        content, windowsize=windowsize, fate=lambda n, down: [LATENCY, LATENCY * 1.5]
    )
    assert b"".join(reader.parts) == content
    assert sent < 3 * 201


@pytest.mark.parametrize("windowsize", [1, 4, 16])
def test_one_late_ack_does_not_double_the_rest(windowsize):
    content = random.Random(3).randbytes(400 * 512)
    reader, _, _, sent = converse(
        content, windowsize=windowsize, fate=lambda n, down: [1.5] if n == 3 and not down else [LATENCY]
    )
    assert b"".join(reader.parts) == content
    assert sent <= 402 + 3 * windowsize


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    windowsize=st.sampled_from([1, 2, 4, 16, 64]),
    loss=st.floats(0, 0.2),
    size=st.integers(0, 30_000),
    short_way=st.booleans(),
)
def test_a_bad_wire_never_spoils_a_file(seed, windowsize, loss, size, short_way):
    chance, content = random.Random(seed), random.Random(size).randbytes(size)

    def fate(n, down):
        if chance.random() < loss:
            return []
        delays = [LATENCY * chance.uniform(1, 3)]
        if chance.random() < loss:
            delays.append(LATENCY * chance.uniform(1, 200))
        return delays

    reader, transfer, _, _ = converse(
        content, windowsize=windowsize, fate=fate, patience=5000, short_way=short_way
    )
    (event,) = transfer.events()
    if isinstance(event, TransferCompleted):
        assert b"".join(reader.parts) == content
    else:
        assert isinstance(event, TransferFailed)
        assert content.startswith(b"".join(reader.parts))


def test_block_numbers_wrap_to_zero():
    content = random.Random(4).randbytes(70_000 * 8 + 3)
    for windowsize in (1, 16):
        reader, _, _, sent = converse(content, blksize=8, windowsize=windowsize, patience=5000)
        assert b"".join(reader.parts) == content
        assert sent == 70_001 + 1


@given(
    st.lists(
        st.binary(max_size=20) | st.builds(lambda n: Ack(n).to_bytes(), st.integers(0, 65535)), max_size=40
    )
)
def test_no_datagram_makes_it_raise_or_send_without_end(datagrams):
    t, sent = start(b"x" * 5000, ("windowsize", "4")), 0
    for datagram in datagrams:
        t.receive(datagram, 0.0)
        sent += len(said(t))
    assert sent <= 1 + 4 * (len(datagrams) + 1)


def test_trains_are_what_one_call_can_carry():
    t = start(b"x" * 200_000, ("blksize", "1468"), ("windowsize", "64"))
    said(t)
    hears(t, Ack(0))
    trains = t.datagrams_to_send(0.0)
    assert [p.block for train in trains for p in map(parse, train.datagrams())] == list(range(1, 65))
    assert all(len(train.octets) < 65_507 and train.segment == 1472 for train in trains)
