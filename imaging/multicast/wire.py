"""The datagrams of protocol v1 as named values: DATA and ANNOUNCE to the group, REPORT back to the sender.

All numbers are big-endian. Every datagram starts with 32 bytes whose last 8 seal the rest: CRC-32 (the one of
zlib and Ethernet) and four zero bytes, or, in a session with a key, the first 8 bytes of keyed BLAKE3.
Parsing raises WireError and nothing else. The layouts are tables in docs/multicast-protocol.md.
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from .ranges import BITMAP, decode_span

MAGIC = 0x7B01  # the low byte is the protocol's version
HEADER_SIZE = 32
SYMBOL_SIZE = 1440  # fills an MTU of 1500: 20 IPv4 + 8 UDP + 32 header
MIN_SYMBOL, MAX_SYMBOL = 512, 8940
# A zstd frame of an incompressible 1 MiB chunk is slightly more than 1 MiB; nothing longer is believed.
MAX_FRAME = (1 << 20) + (1 << 16)
MAX_CHUNKS = 1 << 24
SINGLE_BLOCK = 0x10  # FEC byte: one block (high nibble), number 0 (low nibble)

_HEADER = struct.Struct(">HBBIIIHHI")
_SEALED = 24
_REPORT_HEADER = struct.Struct(">HBBIQII")
_REPORT = struct.Struct(">IIIHHIIBBH")
_REPAIR = struct.Struct(">IHH")
_ANNOUNCE = struct.Struct(">32sBBHIIHH")
_RANGE = struct.Struct(">II")
REPORT_OVERHEAD = HEADER_SIZE + _REPORT.size
REPAIR_OVERHEAD = _REPAIR.size


class WireError(ValueError):
    """The bytes are not a datagram of this protocol, version or session; the sentence says which."""


class Kind(IntEnum):
    """Byte 2 of every datagram. PARITY and PROBE are kept free for later; version 1 ignores them."""

    DATA = 1
    PARITY = 2
    ANNOUNCE = 3
    PROBE = 4
    REPORT = 16


class SenderState(IntEnum):
    """What an ANNOUNCE says the sender is doing."""

    GATHERING = 0
    SENDING = 1
    IDLE = 2
    ENDED = 3


class ReceiverState(IntEnum):
    """What a REPORT says the receiver is doing."""

    SCANNING = 1
    RECEIVING = 2
    DONE = 3
    LEAVING = 4


class Data(NamedTuple):
    """One symbol of one stored chunk; the last symbol of a chunk is padded with zeros."""

    session: int
    chunk: int
    length: int  # bytes of the stored frame, so that ceil(length / symbol size) symbols make it
    symbol: int
    hint: int  # ms between reports that the sender wishes for
    sequence: int
    payload: bytes


class Announce(NamedTuple):
    """What the session serves and what the sender is doing."""

    session: int
    chunks: int  # in the manifest
    symbol_size: int
    hint: int
    sequence: int
    manifest: bytes  # 32 bytes
    state: SenderState
    rate_kbit: int
    wanted: int
    receivers: int
    unavailable: tuple[tuple[int, int], ...]  # (first, length) of chunks the sender cannot read


class Repair(NamedTuple):
    """Symbols of one chunk that a receiver lacks: bit i stands for symbol i."""

    chunk: int
    missing: int


@dataclass(frozen=True, slots=True)
class Report:
    """What one receiver wants; the truth for its span of chunks, and nothing about the others."""

    session: int
    receiver: int
    state: ReceiverState
    highest: int  # sequence of the newest datagram it has processed
    number: int
    received: int
    lost: int
    wanted: int  # chunks in all, whatever the span
    backlog: int  # permille of its buffers in use
    first: int
    count: int
    wants: int  # bit i: chunk first + i
    repairs: tuple[Repair, ...]


Seal = Callable[[bytes, bytes | memoryview], bytes]


def crc_seal(head: bytes, body: bytes | memoryview) -> bytes:
    """The seal of a session without key: finds accidents, not forgers."""
    return zlib.crc32(body, zlib.crc32(head)).to_bytes(4, "big") + b"\0\0\0\0"


def make_seal(key: bytes | None) -> Seal:
    """The seal of a session: `key` is 32 bytes, or None for CRC. Raises ValueError on another length."""
    if key is None:
        return crc_seal
    if len(key) != 32:
        raise ValueError("a session key has 32 bytes")
    # Imported where it is needed, so that a session without key runs on the standard library alone.
    from blake3 import blake3

    def keyed_seal(head: bytes, body: bytes | memoryview) -> bytes:
        return blake3(head, key=key).update(body).digest(8)

    return keyed_seal


def symbols_of(length: int, symbol_size: int) -> int:
    """How many symbols a stored frame of `length` bytes takes."""
    return -(-length // symbol_size)


def data_head(session: int, chunk: int, length: int, symbol: int, hint: int, sequence: int) -> bytes:
    """The first 24 bytes of a DATA datagram, for senders that seal and gather it themselves."""
    return _HEADER.pack(MAGIC, Kind.DATA, SINGLE_BLOCK, session, chunk, length, symbol, hint, sequence)


def encode_data(data: Data, seal: Seal = crc_seal) -> bytes:
    """A whole DATA datagram; the payload must already have the symbol size of the session."""
    head = data_head(data.session, data.chunk, data.length, data.symbol, data.hint, data.sequence)
    return head + seal(head, data.payload) + data.payload


def kind_of(datagram: bytes | memoryview, session: int) -> Kind:
    """Which parser a datagram is for. Raises WireError unless it is of this protocol, version and session."""
    if len(datagram) < HEADER_SIZE:
        raise WireError("shorter than a header")
    magic, kind, _, its = struct.unpack_from(">HBBI", datagram)
    if magic != MAGIC:
        raise WireError("another protocol or version")
    if its != session:
        raise WireError("another session")
    try:
        return Kind(kind)
    except ValueError:
        raise WireError(f"unknown kind {kind}") from None


def _check(datagram: bytes, session: int, kind: Kind, seal: Seal | None) -> None:
    if kind_of(datagram, session) is not kind:
        raise WireError(f"not a {kind.name}")
    if seal is not None and seal(datagram[:_SEALED], datagram[HEADER_SIZE:]) != datagram[_SEALED:HEADER_SIZE]:
        raise WireError("broken seal")


def parse_data(datagram: bytes, session: int, symbol_size: int, seal: Seal | None = crc_seal) -> Data:
    """A DATA datagram of `session`; `seal` None skips the check of the seal. Raises WireError."""
    _check(datagram, session, Kind.DATA, seal)
    _, _, _, _, chunk, length, symbol, hint, sequence = _HEADER.unpack_from(datagram)
    if len(datagram) != HEADER_SIZE + symbol_size:
        raise WireError("symbol of another size")
    if not 0 < length <= MAX_FRAME:
        raise WireError("frame of impossible length")
    if symbol >= symbols_of(length, symbol_size):
        raise WireError("symbol beyond its frame")
    return Data(session, chunk, length, symbol, hint, sequence, datagram[HEADER_SIZE:])


def encode_announce(announce: Announce, seal: Seal = crc_seal) -> bytes:
    """An ANNOUNCE; of `unavailable` as many ranges as fit into one datagram, the first ones."""
    room = (announce.symbol_size - _ANNOUNCE.size) // _RANGE.size
    ranges = announce.unavailable[:room]
    body = _ANNOUNCE.pack(
        announce.manifest,
        announce.state,
        0,
        0,
        min(announce.rate_kbit, 0xFFFFFFFF),
        announce.wanted,
        min(announce.receivers, 0xFFFF),
        len(ranges),
    ) + b"".join(_RANGE.pack(*r) for r in ranges)
    head = _HEADER.pack(
        MAGIC, Kind.ANNOUNCE, 0, announce.session, announce.chunks, len(body), announce.symbol_size,
        announce.hint, announce.sequence,
    )  # fmt: skip
    return head + seal(head, body) + body


def parse_announce(datagram: bytes, session: int, seal: Seal | None = crc_seal) -> Announce:
    """An ANNOUNCE of `session`. Raises WireError."""
    _check(datagram, session, Kind.ANNOUNCE, seal)
    _, _, _, _, chunks, length, symbol_size, hint, sequence = _HEADER.unpack_from(datagram)
    if length != len(datagram) - HEADER_SIZE or length < _ANNOUNCE.size:
        raise WireError("announce of another length")
    if not MIN_SYMBOL <= symbol_size <= MAX_SYMBOL or chunks > MAX_CHUNKS:
        raise WireError("announce of an impossible session")
    manifest, state, _, _, rate, wanted, receivers, ranges = _ANNOUNCE.unpack_from(datagram, HEADER_SIZE)
    if length != _ANNOUNCE.size + ranges * _RANGE.size:
        raise WireError("announce with other ranges than it says")
    unavailable = tuple(_RANGE.iter_unpack(datagram[HEADER_SIZE + _ANNOUNCE.size :]))
    if any(first + count > chunks for first, count in unavailable):
        raise WireError("announce of chunks beyond the manifest")
    try:
        known = SenderState(state)
    except ValueError:
        raise WireError(f"unknown sender state {state}") from None
    return Announce(
        session, chunks, symbol_size, hint, sequence, manifest, known, rate, wanted, receivers, unavailable
    )


def encode_report(
    report: Report, encoding: int = BITMAP, wants: bytes | None = None, seal: Seal = crc_seal
) -> bytes:
    """A REPORT; `wants` is the span already encoded by `ranges.encode_span`, else a bitmap is made of it."""
    if wants is None:
        encoding = BITMAP
        wants = report.wants.to_bytes((report.wants.bit_length() + 7) // 8, "little")
    body = [
        _REPORT.pack(
            report.received & 0xFFFFFFFF, report.lost & 0xFFFFFFFF, report.wanted, report.backlog,
            len(report.repairs), report.first, report.count, encoding, 0, len(wants),
        ),
        wants,
    ]  # fmt: skip
    for repair in report.repairs:
        body.append(encode_repair(repair))
    head = _REPORT_HEADER.pack(
        MAGIC, Kind.REPORT, report.state, report.session, report.receiver, report.highest, report.number
    )
    joined = b"".join(body)
    return head + seal(head, joined) + joined


def encode_repair(repair: Repair) -> bytes:
    """One repair entry: a bitmap that starts at the first missing symbol (`missing` must not be 0)."""
    first = (repair.missing & -repair.missing).bit_length() - 1
    bits = repair.missing >> first
    bitmap = bits.to_bytes((bits.bit_length() + 7) // 8, "little")
    return _REPAIR.pack(repair.chunk, first, len(bitmap)) + bitmap


def parse_report(datagram: bytes, session: int, chunks: int, seal: Seal | None = crc_seal) -> Report:
    """A REPORT of `session` about a manifest of `chunks` chunks. Raises WireError."""
    _check(datagram, session, Kind.REPORT, seal)
    if len(datagram) < REPORT_OVERHEAD:
        raise WireError("report cut short")
    _, _, state, _, receiver, highest, number = _REPORT_HEADER.unpack_from(datagram)
    received, lost, wanted, backlog, entries, first, count, encoding, _, length = _REPORT.unpack_from(
        datagram, HEADER_SIZE
    )
    if first + count > chunks or wanted > chunks:
        raise WireError("report about chunks beyond the manifest")
    offset = REPORT_OVERHEAD + length
    if offset > len(datagram):
        raise WireError("report cut short")
    try:
        known = ReceiverState(state)
        wants = decode_span(count, encoding, datagram[REPORT_OVERHEAD:offset])
    except ValueError as error:  # an unknown state, or RangesError
        raise WireError(str(error)) from None
    repairs = []
    for _ in range(entries):
        if offset + _REPAIR.size > len(datagram):
            raise WireError("report cut short")
        chunk, start, size = _REPAIR.unpack_from(datagram, offset)
        offset += _REPAIR.size
        bitmap = datagram[offset : offset + size]
        if len(bitmap) != size or chunk >= chunks:
            raise WireError("repair cut short or beyond the manifest")
        offset += size
        repairs.append(Repair(chunk, int.from_bytes(bitmap, "little") << start))
    if offset != len(datagram):
        raise WireError("bytes left over")
    return Report(
        session, receiver, known, highest, number, received, lost, wanted, backlog,
        first, count, wants, tuple(repairs),
    )  # fmt: skip


def ahead(a: int, b: int) -> int:
    """How far sequence `a` is ahead of `b`, in serial number arithmetic (RFC 1982) of 32 bits."""
    return ((a - b + 0x80000000) & 0xFFFFFFFF) - 0x80000000
