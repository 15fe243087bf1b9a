"""Frames from strangers: only the right bytes come out, and never more than a chunk of them."""

import contextlib
import os
import tempfile
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from imaging.chunks import (
    compress,
    hash_chunk,
    open_frame,
    open_in_place,
    read_in_place,
    read_masked,
    write_exactly,
)
from imaging.errors import ChunkInvalid, DiskError
from imaging.manifest import CHUNK_SIZE

Opener = Callable[[bytes, bytes], bytes | memoryview]
both = pytest.mark.parametrize("opened", [open_frame, open_in_place])


def test_compress_and_open_again() -> None:
    data = os.urandom(1000) * 1000
    frame = compress(data)
    assert len(frame) < len(data)
    assert open_frame(hash_chunk(data), frame) == data
    assert open_frame(hash_chunk(data), compress(data, level=9)) == data


def test_every_flipped_bit_is_noticed() -> None:
    data = os.urandom(200) * 2
    hash, frame = hash_chunk(data), compress(data)
    for bit in range(len(frame) * 8):
        bad = bytearray(frame)
        bad[bit // 8] ^= 1 << bit % 8
        # A few header bits mean nothing to the content (RFC 8878, unused bit): then it must come out right.
        with contextlib.suppress(ChunkInvalid):
            assert open_frame(hash, bytes(bad)) == data
        with contextlib.suppress(ChunkInvalid):
            assert open_in_place(hash, bytes(bad)) == data


@both
def test_a_bomb_is_refused_before_it_goes_off(opened: Opener) -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(64 << 20))
    with pytest.raises(ChunkInvalid, match="size"):
        opened(bytes(32), bomb)


@both
def test_a_frame_that_does_not_tell_its_size_is_refused(opened: Opener) -> None:
    data = bytes(5000)
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(data)
    with pytest.raises(ChunkInvalid):
        opened(hash_chunk(data), silent)


@both
def test_bytes_after_the_frame_are_refused(opened: Opener) -> None:
    data = bytes(5000)
    with pytest.raises(ChunkInvalid):
        opened(hash_chunk(data), compress(data) + b"more")


@both
def test_an_empty_or_foreign_chunk_is_refused(opened: Opener) -> None:
    for frame in (b"", b"GET / HTTP/1.1", compress(b"x"), zstandard.ZstdCompressor().compress(b"")):
        with pytest.raises(ChunkInvalid):
            opened(hash_chunk(b"y"), frame)


def outcome(opened: Opener, hash: bytes, frame: bytes) -> bytes | None:
    """The chunk, None when it was refused."""
    try:
        return bytes(opened(hash, frame))
    except ChunkInvalid:
        return None


@given(st.binary(max_size=300), st.integers(0, 40), st.binary(max_size=8), st.booleans())
def test_of_random_bytes_both_readers_take_only_what_is_right(
    noise: bytes, at: int, patch: bytes, checksum: bool
) -> None:
    whole = (noise or b"x") * 5
    frame = bytearray(zstandard.ZstdCompressor(write_checksum=checksum).compress(whole))
    frame[at : at + len(patch)] = patch
    for hash, candidate in ((hash_chunk(noise), noise), (hash_chunk(whole), bytes(frame))):
        taken = outcome(open_frame, hash, candidate)
        assert taken in (None, whole)
        assert outcome(open_in_place, hash, candidate) == taken


@both
@pytest.mark.parametrize("change", [-200_000, -1, 1, 100_000])
def test_a_frame_that_announces_another_size_is_refused(opened: Opener, change: int) -> None:
    """Even when what it announces has the right hash."""
    data = os.urandom(1000) * 400
    frame = bytearray(compress(data))
    assert frame[4] >> 6 == 2  # RFC 8878 §3.1.1.1.1: four bytes of size, behind the descriptor
    at = 5 if frame[4] & 0x20 else 6
    assert int.from_bytes(frame[at : at + 4], "little") == len(data)
    frame[at : at + 4] = (len(data) + change).to_bytes(4, "little")
    content = (data + bytes(100_000))[: len(data) + change]
    with pytest.raises(ChunkInvalid):
        opened(hash_chunk(content), bytes(frame))


def test_masked_reading_gives_zeros_between_the_runs() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * CHUNK_SIZE + b"abcdefgh")
        file.flush()
        assert bytes(read_masked(file.fileno(), CHUNK_SIZE, 8, [(0, 2), (6, 2)])) == b"ab\0\0\0\0gh"
        with pytest.raises(DiskError, match="ends"):
            read_masked(file.fileno(), CHUNK_SIZE, 16, [(0, 16)])


def test_reading_in_place_gives_zeros_between_and_around_the_pieces_whatever_was_there_before() -> None:
    with tempfile.TemporaryFile() as one, tempfile.TemporaryFile() as two:
        one.write(b"x" * CHUNK_SIZE)
        two.write(b"abcdefgh")
        one.flush()
        two.flush()
        first, second = one.fileno(), two.fileno()
        assert bytes(read_in_place(CHUNK_SIZE, [(0, CHUNK_SIZE, first, 0)])) == b"x" * CHUNK_SIZE
        pieces = [(3, 2, second, 6), (5, 1, first, 0), (9, 2, second, 0)]
        assert bytes(read_in_place(12, pieces)) == b"\0\0\0ghx\0\0\0ab\0"
        assert bytes(read_in_place(4, [])) == bytes(4)
        with pytest.raises(DiskError, match="ends"):
            read_in_place(16, [(0, 16, second, 0)])


@given(st.binary(min_size=1, max_size=2000), st.integers(1, 600), st.integers(1, 19), st.booleans())
def test_a_frame_opens_in_place_however_it_was_made(
    piece: bytes, times: int, level: int, check: bool
) -> None:
    """Raw, repeated and compressed blocks, one or many, with and without zstd's own checksum."""
    data = (piece * times)[:CHUNK_SIZE]
    frame = zstandard.ZstdCompressor(level=level, write_checksum=check).compress(data)
    assert open_in_place(hash_chunk(data), frame) == data
    for bad in (frame + b"x", frame[:-1], frame + frame):
        with pytest.raises(ChunkInvalid):
            open_in_place(hash_chunk(data), bad)


def test_a_disk_that_cannot_be_written_is_an_error_of_ours() -> None:
    with open("/dev/full", "wb") as full, pytest.raises(DiskError, match="No space"):
        write_exactly(full.fileno(), memoryview(b"x"), 0)
