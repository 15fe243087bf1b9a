"""Datagrams: there and back, the vectors of the document, and garbage."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.multicast import wire
from imaging.multicast.ranges import BITMAP, RUNS
from imaging.multicast.reports import ReceiverState, Repair, Report, encode_report, parse_report
from imaging.multicast.wire import (
    CRC,
    Announce,
    Data,
    SenderState,
    WireError,
    ahead,
    encode_announce,
    encode_data,
    make_seal,
    parse_announce,
    parse_data,
)

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "multicast-protocol.md"
KEY = bytes(range(32))
u32 = st.integers(0, 0xFFFFFFFF)

DATA = Data(0x1234ABCD, 7, 700, 1, 42, (b"end of the frame" + bytes(172)).ljust(512, b"\0"))
PARITY = Data(0x1234ABCD, 7, 700, 3, 43, bytes([0xAA]) * 512, True)
ANNOUNCE = Announce(
    0x1234ABCD,
    1000,
    1450,
    44,
    bytes(range(32)),
    SenderState.SENDING,
    True,
    100,
    950_000,
    12,
    3,
    ((5, 1), (90, 10)),
)
REPORT = Report(
    0x1234ABCD, 0x0123456789ABCDEF, 6, 42, 40, 2, 13, 250, ReceiverState.RECEIVING, 0, 1000,
    (1 << 3) | (1 << 4) | (0b1111 << 900), (Repair(8, (2, 0, 1)),),
)  # fmt: skip
WANTS = b"\x03\x01\xff\x06\x03"

VECTORS: dict[str, Callable[[], bytes]] = {
    "DATA": lambda: encode_data(DATA),
    "PARITY": lambda: encode_data(PARITY),
    "ANNOUNCE": lambda: encode_announce(ANNOUNCE),
    "REPORT": lambda: encode_report(REPORT, RUNS, WANTS),
    "REPORT with a key": lambda: encode_report(REPORT, RUNS, WANTS, make_seal(KEY)),
}


def documented(name: str) -> bytes:
    """The hex block under `#### NAME` in the document; `00 * n` stands for n such bytes."""
    text = DOCUMENT.read_text().split(f"#### {name}\n", 1)[1].split("```")[1]
    text = re.sub(r"(00|aa) \* (\d+)", lambda m: f"{m[1]} " * int(m[2]), text)
    return bytes.fromhex("".join(text.split()))


@pytest.mark.parametrize("name", VECTORS)
def test_the_document_shows_what_we_send(name: str) -> None:
    assert documented(name).hex(" ") == VECTORS[name]().hex(" ")


def test_the_vectors_are_read_back() -> None:
    assert parse_data(documented("DATA"), 0x1234ABCD, 512) == DATA
    assert parse_data(documented("PARITY"), 0x1234ABCD, 512) == PARITY
    assert parse_announce(documented("ANNOUNCE"), 0x1234ABCD) == ANNOUNCE
    assert parse_report(documented("REPORT"), 0x1234ABCD, 1000) == REPORT
    assert parse_report(documented("REPORT with a key"), 0x1234ABCD, 1000, make_seal(KEY)) == REPORT


@given(u32, st.integers(1, wire.MAX_FRAME), u32, st.binary(min_size=512, max_size=512), st.booleans())
def test_data_comes_back(session: int, length: int, sequence: int, payload: bytes, parity: bool) -> None:
    symbol = wire.symbols_of(length, 512) - 1
    data = Data(session, 3, length, symbol, sequence, payload, parity)
    assert parse_data(encode_data(data), session, 512) == data


@given(
    st.integers(0, (1 << 1000) - 1),
    st.lists(st.tuples(st.integers(0, 999), st.binary(min_size=1, max_size=9))),
)
def test_a_report_comes_back(wants: int, repairs: list[tuple[int, bytes]]) -> None:
    report = replace(REPORT, wants=wants, repairs=tuple(Repair(c, tuple(m)) for c, m in repairs))
    assert parse_report(encode_report(report), report.session, 1000) == report


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize("name", ["DATA", "ANNOUNCE", "REPORT"])
def test_one_flipped_bit_anywhere_breaks_the_seal(name: str, key: bytes | None) -> None:
    seal = make_seal(key)
    whole, parse = {
        "DATA": (encode_data(DATA, seal), lambda d: parse_data(d, DATA.session, 512, seal)),
        "ANNOUNCE": (encode_announce(ANNOUNCE, seal), lambda d: parse_announce(d, DATA.session, seal)),
        "REPORT": (encode_report(REPORT, seal=seal), lambda d: parse_report(d, DATA.session, 1000, seal)),
    }[name]
    parse(whole)
    for bit in range(len(whole) * 8):
        spoilt = bytearray(whole)
        spoilt[bit // 8] ^= 1 << bit % 8
        with pytest.raises(WireError):
            parse(bytes(spoilt))


def test_another_key_is_a_broken_seal() -> None:
    datagram = encode_data(DATA, make_seal(KEY))
    for seal in (make_seal(bytes(32)), make_seal(None)):
        with pytest.raises(WireError, match="seal"):
            parse_data(datagram, DATA.session, 512, seal)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"length": 0}, "length"),
        ({"length": wire.MAX_FRAME + 1}, "length"),
        ({"symbol": 2}, "beyond"),
        ({"session": 1}, "session"),
        ({"payload": bytes(511)}, "size"),
    ],
)
def test_data_that_cannot_be(change: dict[str, Any], says: str) -> None:
    with pytest.raises(WireError, match=says):
        parse_data(encode_data(DATA._replace(**change)), DATA.session, 512)


@pytest.mark.parametrize(
    "change",
    [
        {"first": 1, "count": 1000},
        {"wanted": 1001},
        {"repairs": (Repair(1000, (1,)),)},
        {"repairs": (Repair(1, ()),)},
        {"count": 900},
    ],
)
def test_a_report_beyond_the_manifest(change: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        parse_report(encode_report(replace(REPORT, **change)), REPORT.session, 1000)


def test_kinds_are_told_apart_unknown_ones_and_other_versions_refused() -> None:
    for kind in wire.Kind:
        assert wire.kind_of(bytes([0x7B, 0x20 | kind]) + bytes(29), 0) is kind
    for head in (b"\x7b\x2f", b"\x7b\x01", b"\x7b\x31", b"\x00\x21"):
        with pytest.raises(WireError):
            wire.kind_of(head + bytes(29), 0)


class Blind(wire.Seal):
    """A seal that fits everything, so that the parsers behind it are tried."""

    def check(self, datagram: bytes) -> None:
        return


BLIND = Blind(*CRC)


def parse_as_anything(datagram: bytes) -> None:
    for parse in (
        lambda: parse_data(datagram, 0x1234ABCD, 512, CRC, False),
        lambda: parse_announce(datagram, 0x1234ABCD, BLIND),
        lambda: parse_report(datagram, 0x1234ABCD, 1000, BLIND),
    ):
        try:
            parse()
        except WireError:
            continue


@given(st.binary(max_size=1500), st.sampled_from(list(wire.Kind)))
def test_garbage_is_a_wire_error(garbage: bytes, kind: wire.Kind) -> None:
    parse_as_anything(garbage)
    parse_as_anything(bytes([0x7B, 0x20 | kind]) + b"\x12\x34\xab\xcd" + garbage)


@pytest.mark.parametrize("name", VECTORS)
@given(st.data())
def test_spoilt_datagrams_are_a_wire_error(name: str, data: st.DataObject) -> None:
    datagram = bytearray(VECTORS[name]())
    for _ in range(data.draw(st.integers(1, 6))):
        datagram[data.draw(st.integers(0, min(90, len(datagram) - 1)))] = data.draw(st.integers(0, 255))
    parse_as_anything(bytes(datagram[: data.draw(st.integers(0, len(datagram)))]))


def test_sequences_wrap_round() -> None:
    assert ahead(2, 0xFFFFFFFF) == 3
    assert ahead(0xFFFFFFFF, 2) == -3
    assert ahead(5, 5) == 0


def test_a_key_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="32"):
        make_seal(b"short")


def test_an_announce_lists_as_much_as_fits() -> None:
    many = tuple((i * 2, 1) for i in range(400))
    whole = encode_announce(ANNOUNCE._replace(unavailable=many))
    assert len(whole) <= 22 + 1450
    assert parse_announce(whole, ANNOUNCE.session).unavailable == many[:175]


def test_bitmap_is_the_default_encoding() -> None:
    assert encode_report(REPORT)[wire.HEADER_SIZE + 29] == BITMAP
