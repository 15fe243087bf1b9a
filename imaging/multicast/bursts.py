"""Bursts of symbols as buffers for one send: heads and seals are made many at a time.

With next to no Python per datagram; that is what lets one thread send several gigabits a second.
"""

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache

from .wire import HEAD, Kind, Seal, prefix_of


@lru_cache(maxsize=512)
def _repeated(form: str, count: int) -> struct.Struct:
    return struct.Struct(">" + form * count)


class BurstMaker:
    """For one session and one kind of datagram, DATA or PARITY."""

    def __init__(self, kind: Kind, session: int, seal: Seal) -> None:
        self._prefix = struct.unpack(">HI", prefix_of(kind, session))
        self._seal = seal
        self._sealed = f"{seal.header}s"

    def buffers(
        self,
        chunk: int,
        length: int,
        numbers: Sequence[int],
        payloads: Sequence[bytes | memoryview],
        sequence: int,
    ) -> list[bytes | memoryview]:
        """Header, symbol, header, symbol …; `sequence` is the first datagram's."""
        count = len(numbers)
        # prefix; chunk and length, 24 bits each; symbol; sequence (see wire)
        fields = [*self._prefix, chunk >> 8, (chunk & 0xFF) << 24 | length, 0, 0] * count
        fields[4::6] = numbers
        sequences: Iterable[int] = range(sequence, sequence + count)
        if sequence + count > 1 << 32:
            sequences = (number & 0xFFFFFFFF for number in sequences)
        fields[5::6] = sequences
        packed = _repeated("HIHIHI", count).pack(*fields)
        heads = _repeated(f"{HEAD}s", count).unpack(packed)
        buffers: list[bytes | memoryview] = [b""] * (2 * count)
        buffers[::2] = _repeated(self._sealed, count).unpack(self._seal.join(heads, payloads))
        buffers[1::2] = payloads
        return buffers
