"""Files cut in pieces and compressed, read as one stream of plain bytes in bounded memory.

FOG and Clonezilla pipe partclone through a compressor and split(1). Every trailer is checked: a stream that
ends early or whose own checksum does not match is an error, with the file and place where it was noticed.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import zstandard

from imaging.exchange.errors import StreamInvalid
from imaging.exchange.paths import open_regular

#: Bytes read from a file at a time, and plain bytes handed out at a time, at most.
PIECE = 1 << 20
#: Bytes given to zstd at a time. Three bytes may stand for a block of 128 KiB, and the library has no limit
#: for what comes out of one call: so at most 171 MiB do.
_ZSTD_IN = 4 << 10
_XZ_MEMORY = 1 << 30

_MAGIC = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\0": "xz",
    b"]\0\0": "xz",  # the older lzma: the same library reads both
    b"BZh": "bzip2",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x89LZO": "lzop",
    b"LZIP": "lzip",
    b"LRZI": "lrzip",
    b"Salted__": "openssl",
}


class Joined:
    """The bytes of several files, one after the other; knows where it is, for errors and progress."""

    def __init__(self, paths: Sequence[Path]) -> None:
        if not paths:
            raise ValueError("no files to join")
        self.paths = list(paths)
        self.at = 0
        """Bytes read so far, over all files."""
        self._name, self._offset = self.paths[0].name, 0

    @property
    def place(self) -> str:
        """Where reading is, for people."""
        return f"{self._name}, byte {self._offset}"

    def size(self) -> int:
        """Bytes of all files; raises StreamInvalid when one is gone."""
        try:
            return sum(path.stat(follow_symlinks=False).st_size for path in self.paths)
        except OSError as error:
            raise StreamInvalid(f"{error.filename} cannot be read: {error.strerror}.") from error

    def head(self, length: int) -> bytes:
        """The first bytes of the first file. Raises StreamInvalid, PathRefused."""
        try:
            with open_regular(self.paths[0]) as file:
                return file.read(length)
        except OSError as error:
            raise StreamInvalid(f"{self.paths[0]} cannot be read: {error.strerror}.") from error

    def __iter__(self) -> Iterator[bytes]:
        for path in self.paths:
            self._name, self._offset = path.name, 0
            try:
                with open_regular(path) as file:
                    while data := file.read(PIECE):
                        self.at += len(data)
                        self._offset += len(data)
                        yield data
            except OSError as error:
                raise StreamInvalid(f"{self.place} cannot be read: {error.strerror}.") from error


def compression(head: bytes) -> str:
    """What the first bytes say: ``zstd gzip xz bzip2``, one we cannot read, or ``none``."""
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "none")


def plain(source: Joined) -> Iterator[bytes]:
    """The decompressed bytes of ``source``, in pieces. Raises StreamInvalid, PathRefused."""
    kind = compression(source.head(16))
    if kind == "none":
        return iter(source)
    if kind not in _UNITS:
        raise StreamInvalid(
            f"{source.paths[0].name} is packed with {kind}, which is not read here: "
            "unpack it and pack it again with zstd, then try again."
        )
    return _unpack(kind, source)


class _Unit(Protocol):
    """One frame, member or stream of a compressed file."""

    @property
    def eof(self) -> bool: ...
    def feed(self, data: bytes) -> Iterator[bytes]: ...
    @property
    def rest(self) -> bytes: ...


def _unpack(kind: str, source: Joined) -> Iterator[bytes]:
    unit: _Unit | None = None
    for data in source:
        while data:
            if unit is None:
                unit = _UNITS[kind]()
            try:
                yield from unit.feed(data)
            except (zlib.error, lzma.LZMAError, OSError, ValueError, EOFError, zstandard.ZstdError) as error:
                raise StreamInvalid(
                    f"The {kind} data near {source.place} is damaged ({error}): "
                    "copy the file again, or take another backup of it."
                ) from None
            if not unit.eof:
                break
            data, unit = unit.rest, None
            if kind == "xz":
                data = data.lstrip(b"\0")  # padding between streams (xz file format 1.2.1, §2.2)
    if unit is not None:
        raise StreamInvalid(
            f"The {kind} data ends too early at {source.place}: a piece of it is missing. "
            "Copy all pieces again, or take another backup."
        )


class _Zstd:
    def __init__(self) -> None:
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._left = b""
        self.eof = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), _ZSTD_IN):
            if plain := self._frame.decompress(data[at : at + _ZSTD_IN]):
                yield plain
            if self._frame.eof:
                self.eof = True
                self._left = self._frame.unused_data + data[at + _ZSTD_IN :]
                return

    @property
    def rest(self) -> bytes:
        return self._left


class _Gzip:
    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self.eof = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data and not self._member.eof:
            if plain := self._member.decompress(data, PIECE):
                yield plain
            data = self._member.unconsumed_tail
        self.eof = self._member.eof

    @property
    def rest(self) -> bytes:
        return self._member.unused_data


class _Blocks:
    """xz and bzip2 have the same shape of decompressor."""

    def __init__(self, inner: "lzma.LZMADecompressor | bz2.BZ2Decompressor") -> None:
        self._inner = inner
        self.eof = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while True:
            if plain := self._inner.decompress(data, PIECE):
                yield plain
            data = b""
            if self._inner.eof or (self._inner.needs_input and not plain):
                break
        self.eof = self._inner.eof

    @property
    def rest(self) -> bytes:
        return self._inner.unused_data


_UNITS: dict[str, Callable[[], _Unit]] = {
    "zstd": _Zstd,
    "gzip": _Gzip,
    "xz": lambda: _Blocks(lzma.LZMADecompressor(memlimit=_XZ_MEMORY)),
    "bzip2": lambda: _Blocks(bz2.BZ2Decompressor()),
}


class Feed:
    """A stream of pieces, taken in the lengths that its reader wants."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._piece: memoryview = memoryview(b"")
        self.at = 0
        """Bytes taken so far."""

    def take(self, length: int) -> bytes:
        """``length`` bytes; fewer only at the end of the stream."""
        parts = []
        while length:
            if not self._piece:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._piece = memoryview(piece)
            part = self._piece[:length]
            self._piece = self._piece[len(part) :]
            length -= len(part)
            self.at += len(part)
            parts.append(part)
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def back(self, data: bytes) -> None:
        """Give back what was taken last."""
        self._piece = memoryview(data + bytes(self._piece))
        self.at -= len(data)

    def ended(self) -> bool:
        """Whether nothing follows; reads on until that is known, so trailers have been checked then."""
        while not self._piece:
            piece = next(self._pieces, None)
            if piece is None:
                return True
            self._piece = memoryview(piece)
        return False
