"""What a receiver tells the sender: REPORT datagrams as named values.

Each is the truth about one span of chunks, and counts for each nearly complete chunk how many symbols of each
block are missing. The layout is in docs/multicast-protocol.md.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from .ranges import BITMAP, decode_span
from .wire import CRC, Kind, Seal, WireError, check, prefix_of

_HEAD = struct.Struct(">QI")
_REPORT = struct.Struct(">IIIIHHIIBBH")
_REPAIR = struct.Struct(">IB")
#: Bytes of a report between seal and wants.
REPORT_BODY = _REPORT.size
#: A receiver takes a longer wish of the sender's for so many seconds: a flipped bit must not silence it.
LONGEST_HINT = 1.0


def longest_wait(hint: float) -> float:
    """Seconds between two reports of a receiver that wants something, at most, when the hint is so many."""
    return 2 * min(hint, LONGEST_HINT)


class ReceiverState(IntEnum):
    """What a REPORT says the receiver is doing."""

    SCANNING = 1
    RECEIVING = 2
    DONE = 3
    LEAVING = 4


class Repair(NamedTuple):
    """How many symbols a receiver lacks of each block of a chunk (1 to 255 blocks, 0 to 255 symbols)."""

    chunk: int
    missing: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What one receiver wants; the truth for its span of chunks, and nothing about the others."""

    session: int
    receiver: int
    number: int
    highest: int  # sequence of the newest datagram it has processed
    received: int
    lost: int
    wanted: int  # chunks in all, whatever the span
    backlog: int  # permille of its buffers in use
    state: ReceiverState
    first: int
    count: int
    wants: int  # bit i: chunk first + i
    repairs: tuple[Repair, ...]


def encode_report(
    report: Report, encoding: int = BITMAP, wants: bytes | None = None, seal: Seal = CRC
) -> bytes:
    """A REPORT; `wants` is the span already encoded by `ranges.encode_span`, else a bitmap is made of it."""
    if wants is None:
        encoding = BITMAP
        wants = report.wants.to_bytes((report.wants.bit_length() + 7) // 8, "little")
    body = [
        _REPORT.pack(
            report.highest, report.received & 0xFFFFFFFF, report.lost & 0xFFFFFFFF, report.wanted,
            report.backlog, len(report.repairs), report.first, report.count, report.state, encoding,
            len(wants),
        ),
        wants,
    ]  # fmt: skip
    for repair in report.repairs:
        body.append(_REPAIR.pack(repair.chunk, len(repair.missing)) + bytes(repair.missing))
    head = prefix_of(Kind.REPORT, report.session) + _HEAD.pack(report.receiver, report.number)
    joined = b"".join(body)
    return head + seal.of(head, joined) + joined


def repair_size(repair: Repair) -> int:
    """Bytes of a repair entry."""
    return _REPAIR.size + len(repair.missing)


def parse_report(datagram: bytes, session: int, chunks: int, seal: Seal = CRC) -> Report:
    """A REPORT of `session` about a manifest of `chunks` chunks. Raises WireError."""
    check(datagram, session, (Kind.REPORT,), seal)
    if len(datagram) < seal.header + _REPORT.size:
        raise WireError("report cut short")
    receiver, number = _HEAD.unpack_from(datagram, 6)
    highest, received, lost, wanted, backlog, entries, first, count, state, encoding, length = (
        _REPORT.unpack_from(datagram, seal.header)
    )
    if first + count > chunks or wanted > chunks:
        raise WireError("report about chunks beyond the manifest")
    offset = seal.header + _REPORT.size + length
    if offset > len(datagram):
        raise WireError("report cut short")
    try:
        known = ReceiverState(state)
        wants = decode_span(count, encoding, datagram[offset - length : offset])
    except ValueError as error:  # an unknown state, or RangesError
        raise WireError(str(error)) from None
    repairs = []
    for _ in range(entries):
        if offset + _REPAIR.size > len(datagram):
            raise WireError("report cut short")
        chunk, blocks = _REPAIR.unpack_from(datagram, offset)
        offset += _REPAIR.size
        missing = tuple(datagram[offset : offset + blocks])
        if not blocks or len(missing) != blocks or chunk >= chunks:
            raise WireError("repair cut short or beyond the manifest")
        offset += blocks
        repairs.append(Repair(chunk, missing))
    if offset != len(datagram):
        raise WireError("bytes left over")
    return Report(
        session, receiver, number, highest, received, lost, wanted, backlog, known,
        first, count, wants, tuple(repairs),
    )  # fmt: skip
