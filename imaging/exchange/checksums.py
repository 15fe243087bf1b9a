"""The checksums of partclone images (its src/checksum.c), fed piece by piece.

CRC-32 is the usual one without the final inversion. XXH64 and XXH128 stand in the byte order of the machine
that wrote the image; only little-endian ones are read.
"""

import zlib
from typing import Protocol

from imaging.exchange.errors import PartcloneInvalid

NONE, CRC32, XXH64, XXH128 = 0x00, 0x20, 0x30, 0x31
SIZES = {NONE: 0, CRC32: 4, XXH64: 8, XXH128: 16}


class Checksum(Protocol):
    """State of one checksum."""

    def update(self, data: bytes | memoryview) -> None: ...
    def digest(self) -> bytes: ...


class Crc32:
    """CRC-32 (IEEE 802.3, reflected) as partclone stores it: little-endian, not inverted at the end."""

    def __init__(self) -> None:
        self._crc = 0

    def update(self, data: bytes | memoryview) -> None:
        self._crc = zlib.crc32(data, self._crc)

    def digest(self) -> bytes:
        return (self._crc ^ 0xFFFFFFFF).to_bytes(4, "little")


class Nothing:
    """For images without checksums."""

    def update(self, data: bytes | memoryview) -> None:
        pass

    def digest(self) -> bytes:
        return b""


class _Xxh:
    def __init__(self, mode: int) -> None:
        try:
            import xxhash
        except ImportError:
            raise PartcloneInvalid(
                "This image has XXH checksums, for which the Python package xxhash is missing: install it."
            ) from None
        self._size = SIZES[mode]
        self._state = xxhash.xxh64() if mode == XXH64 else xxhash.xxh3_128()

    def update(self, data: bytes | memoryview) -> None:
        self._state.update(data)

    def digest(self) -> bytes:
        number: int = self._state.intdigest()
        return number.to_bytes(self._size, "little")


def start(mode: int) -> Checksum:
    """A fresh checksum of a mode in ``SIZES``; raises PartcloneInvalid when its library is missing."""
    if mode == CRC32:
        return Crc32()
    return Nothing() if mode == NONE else _Xxh(mode)
