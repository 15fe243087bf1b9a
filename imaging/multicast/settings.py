"""What the two cores can be told. Times are in seconds, sizes in bytes."""

from dataclasses import dataclass

from .wire import SYMBOL_SIZE


@dataclass(frozen=True)
class SenderSettings:
    """Of a sender; `rate` is in bits per second on the wire (Ethernet framing included)."""

    rate: float = 950e6
    symbol_size: int = SYMBOL_SIZE
    gather: float = 10.0  # nobody new for so long (three times as long at most) ...
    expected: int | None = None  # ... or so many receivers have reported: then it begins
    hold: float = 1.5  # a chunk just sent stays out of the sweep for so long
    forget: float = 3.0  # a receiver silent for so long counts no more
    # Half a second below the receivers' patience of 1 s, so that one lost announce makes nobody rejoin.
    announce: float = 0.4
    max_receivers: int = 4096
    reports_per_second: int = 2000  # what the sender is ready to read; spread over the receivers by the hint
    adapt: bool = True  # lower the rate when the room as a whole cannot follow
    key: bytes | None = None  # 32 bytes: datagrams are authenticated
    encrypt: bool = False  # frames too are secret; needs a key


@dataclass(frozen=True)
class ReceiverSettings:
    """Of a receiver."""

    symbol_size: int = SYMBOL_SIZE
    report: float = 0.1  # shortest time between reports; the longest is twice that
    repair_limit: float = 1 / 3  # share of a block's symbols up to which parity is asked for
    repair_patience: float = 2.0  # then the chunk is wanted as a whole again
    passed: float = 0.25  # a chunk with no symbol for so long has gone by
    buffer: int = 64 << 20  # for unfinished chunks
    max_pending: int = 64  # frames handed out and not yet answered by got or reject
    max_rejects: int = 3  # of one chunk; then it is given up
    rejoin: float = 1.0
    silent: float = 3.0
    stalled: float = 10.0
    key: bytes | None = None  # 32 bytes: datagrams are authenticated
    encrypt: bool = False  # frames too are secret; needs a key
