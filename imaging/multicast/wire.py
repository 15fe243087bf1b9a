"""The datagrams to the group as named values, and what all datagrams share. Protocol version 2.

All numbers are big-endian. Every datagram starts with a head of 18 bytes and a seal of the rest: CRC-32 (the
one of zlib and Ethernet, 4 bytes), or, in a session with a key, the first 8 bytes of keyed BLAKE3. Parsing
raises WireError and nothing else. The layouts are tables in docs/multicast-protocol.md; REPORT is in
`reports`.
"""

import struct
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import NamedTuple

from .cipher import seal_key

try:
    from isal.isal_zlib import crc32  # the same sum by carry-less multiplication, five times as fast
except ImportError:
    from zlib import crc32

MAGIC = 0x7B
VERSION = 2
HEAD = 18
SEAL, KEYED_SEAL = 4, 8
HEADER_SIZE = HEAD + SEAL
SYMBOL_SIZE = 1450  # fills an MTU of 1500: 20 IPv4 + 8 UDP + 22 header
MIN_SYMBOL, MAX_SYMBOL = 512, 8940
# A zstd frame of an incompressible 1 MiB chunk is slightly more than 1 MiB; nothing longer is believed.
MAX_FRAME = (1 << 20) + (1 << 16)
MAX_CHUNKS = 1 << 24

_PREFIX = struct.Struct(">BBI")
# prefix; chunk and length, 24 bits each; symbol; sequence
_HEADER = struct.Struct(">BBIHIHI")
_ANNOUNCE = struct.Struct(">32sBBHIIHH")
_RANGE = struct.Struct(">II")


class WireError(ValueError):
    """The bytes are not a datagram of this protocol, version or session; the sentence says which."""


class Kind(IntEnum):
    """The low half of byte 1 of every datagram; the high half is the version."""

    DATA = 1
    PARITY = 2
    ANNOUNCE = 3
    REPORT = 4


class SenderState(IntEnum):
    """What an ANNOUNCE says the sender is doing."""

    GATHERING = 0
    SENDING = 1
    IDLE = 2
    ENDED = 3


class Data(NamedTuple):
    """One symbol of one stored chunk: a piece of it (padded with zeros), or with `parity` a parity symbol."""

    session: int
    chunk: int
    length: int  # bytes of the stored frame, so that ceil(length / symbol size) symbols make it
    symbol: int  # parity: block + blocks × row
    sequence: int
    payload: bytes
    parity: bool = False


class Announce(NamedTuple):
    """What the session serves and what the sender is doing."""

    session: int
    chunks: int  # in the manifest
    symbol_size: int
    sequence: int
    manifest: bytes  # 32 bytes
    state: SenderState
    poll: bool  # there is nothing left to send: report at once what is missing
    hint: int  # ms between two reports of a receiver that the sender wishes for
    rate_kbit: int
    wanted: int
    receivers: int
    unavailable: tuple[tuple[int, int], ...]  # (first, length) of chunks the sender cannot read


class Seal(NamedTuple):
    """How the datagrams of a session are sealed."""

    size: int
    of: Callable[[bytes, bytes | memoryview], bytes]  # head, body -> seal
    #: heads, bodies -> heads, each with its seal, end to end
    join: Callable[[Sequence[bytes], Sequence[bytes | memoryview]], bytes]

    @property
    def header(self) -> int:
        """Bytes before the body."""
        return HEAD + self.size

    def check(self, datagram: bytes) -> None:
        """Raises WireError."""
        if self.of(datagram[:HEAD], datagram[self.header :]) != datagram[HEAD : self.header]:
            raise WireError("broken seal")


def _crc(head: bytes, body: bytes | memoryview) -> bytes:
    seal: int = crc32(body, crc32(head))
    return seal.to_bytes(SEAL, "big")


def _crcs(heads: Sequence[bytes], bodies: Sequence[bytes | memoryview]) -> bytes:
    fields: list[bytes | int] = [0] * (2 * len(heads))
    fields[::2] = heads
    fields[1::2] = map(crc32, bodies, map(crc32, heads))
    return struct.pack(">" + f"{HEAD}sI" * len(heads), *fields)


#: The seal of a session without key: finds accidents, not forgers.
CRC = Seal(SEAL, _crc, _crcs)


def make_seal(key: bytes | None) -> Seal:
    """The seal of a session: `key` is 32 bytes, or None for CRC. Raises ValueError on another length."""
    if key is None:
        return CRC
    derived = seal_key(key)
    from blake3 import blake3

    def keyed(head: bytes, body: bytes | memoryview) -> bytes:
        return blake3(head, key=derived).update(body).digest(KEYED_SEAL)

    def joined(heads: Sequence[bytes], bodies: Sequence[bytes | memoryview]) -> bytes:
        return b"".join([head + keyed(head, body) for head, body in zip(heads, bodies, strict=True)])

    return Seal(KEYED_SEAL, keyed, joined)


def symbols_of(length: int, symbol_size: int) -> int:
    """How many symbols a stored frame of `length` bytes takes."""
    return -(-length // symbol_size)


def prefix_of(kind: Kind, session: int) -> bytes:
    """The first 6 bytes of every datagram of this kind and session."""
    return _PREFIX.pack(MAGIC, VERSION << 4 | kind, session)


def data_head(prefix: bytes, chunk: int, length: int, symbol: int, sequence: int) -> bytes:
    """The head of a DATA or PARITY datagram, for senders that seal and gather it themselves."""
    return prefix + (chunk << 72 | length << 48 | symbol << 32 | sequence).to_bytes(12, "big")


def encode_data(data: Data, seal: Seal = CRC) -> bytes:
    """A whole datagram; the payload must already have the symbol size of the session."""
    kind = Kind.PARITY if data.parity else Kind.DATA
    head = data_head(prefix_of(kind, data.session), data.chunk, data.length, data.symbol, data.sequence)
    return head + seal.of(head, data.payload) + data.payload


def kind_of(datagram: bytes | memoryview, session: int) -> Kind:
    """Which parser a datagram is for. Raises WireError unless it is of this protocol, version and session."""
    if len(datagram) < HEADER_SIZE:
        raise WireError("shorter than a header")
    magic, kind, its = _PREFIX.unpack_from(datagram)
    if magic != MAGIC or kind >> 4 != VERSION:
        raise WireError("another protocol or version")
    if its != session:
        raise WireError("another session")
    try:
        return Kind(kind & 15)
    except ValueError:
        raise WireError(f"unknown kind {kind & 15}") from None


def check(datagram: bytes, session: int, kinds: tuple[Kind, ...], seal: Seal, sealed: bool = True) -> Kind:
    """One of these kinds, with an unbroken seal (if `sealed`). Raises WireError."""
    kind = kind_of(datagram, session)
    if kind not in kinds:
        raise WireError(f"not a {kinds[0].name}")
    if len(datagram) < seal.header:
        raise WireError("shorter than a header")
    if sealed:
        seal.check(datagram)
    return kind


def parse_data(
    datagram: bytes, session: int, symbol_size: int, seal: Seal = CRC, sealed: bool = True
) -> Data:
    """A DATA or PARITY of `session`; not `sealed` skips the check of the seal. Raises WireError."""
    kind = check(datagram, session, (Kind.DATA, Kind.PARITY), seal, sealed)
    _, _, _, high, low, symbol, sequence = _HEADER.unpack_from(datagram)
    chunk, length = high << 8 | low >> 24, low & 0xFFFFFF
    if len(datagram) != seal.header + symbol_size:
        raise WireError("symbol of another size")
    if not 0 < length <= MAX_FRAME:
        raise WireError("frame of impossible length")
    if kind is Kind.DATA and symbol >= symbols_of(length, symbol_size):
        raise WireError("symbol beyond its frame")
    return Data(session, chunk, length, symbol, sequence, datagram[seal.header :], kind is Kind.PARITY)


def encode_announce(announce: Announce, seal: Seal = CRC) -> bytes:
    """An ANNOUNCE; of `unavailable` as many ranges as fit into one datagram, the first ones."""
    room = (announce.symbol_size - _ANNOUNCE.size) // _RANGE.size
    ranges = announce.unavailable[:room]
    body = _ANNOUNCE.pack(
        announce.manifest,
        announce.state,
        announce.poll,
        announce.hint,
        min(announce.rate_kbit, 0xFFFFFFFF),
        announce.wanted,
        min(announce.receivers, 0xFFFF),
        len(ranges),
    ) + b"".join(_RANGE.pack(*r) for r in ranges)
    prefix = prefix_of(Kind.ANNOUNCE, announce.session)
    head = data_head(prefix, announce.chunks, len(body), announce.symbol_size, announce.sequence)
    return head + seal.of(head, body) + body


def parse_announce(datagram: bytes, session: int, seal: Seal = CRC) -> Announce:
    """An ANNOUNCE of `session`. Raises WireError."""
    check(datagram, session, (Kind.ANNOUNCE,), seal)
    _, _, _, high, low, symbol_size, sequence = _HEADER.unpack_from(datagram)
    chunks, length = high << 8 | low >> 24, low & 0xFFFFFF
    if length != len(datagram) - seal.header or length < _ANNOUNCE.size:
        raise WireError("announce of another length")
    if not 0 < symbol_size <= MAX_SYMBOL:
        raise WireError("announce of an impossible session")
    manifest, state, poll, hint, rate, wanted, receivers, ranges = _ANNOUNCE.unpack_from(
        datagram, seal.header
    )
    if length != _ANNOUNCE.size + ranges * _RANGE.size:
        raise WireError("announce with other ranges than it says")
    unavailable = tuple(_RANGE.iter_unpack(datagram[seal.header + _ANNOUNCE.size :]))
    if any(first + count > chunks for first, count in unavailable):
        raise WireError("announce of chunks beyond the manifest")
    try:
        known = SenderState(state)
    except ValueError:
        raise WireError(f"unknown sender state {state}") from None
    return Announce(
        session, chunks, symbol_size, sequence, manifest, known, bool(poll), hint, rate, wanted, receivers,
        unavailable,
    )  # fmt: skip


def ahead(a: int, b: int) -> int:
    """How far sequence `a` is ahead of `b`, in serial number arithmetic (RFC 1982) of 32 bits."""
    return ((a - b + 0x80000000) & 0xFFFFFFFF) - 0x80000000
