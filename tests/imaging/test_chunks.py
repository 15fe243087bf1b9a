"""Frames from strangers: only the right bytes come out, and never more than a chunk of them."""

import contextlib
import os
import tempfile

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from imaging.chunks import compress, hash_chunk, open_frame, read_masked, write_exactly
from imaging.errors import ChunkInvalid, DiskError
from imaging.manifest import CHUNK_SIZE


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


def test_a_bomb_is_refused_before_it_goes_off() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(64 << 20))
    with pytest.raises(ChunkInvalid, match="size"):
        open_frame(bytes(32), bomb)


def test_a_frame_that_does_not_tell_its_size_is_refused() -> None:
    data = bytes(5000)
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(data)
    with pytest.raises(ChunkInvalid):
        open_frame(hash_chunk(data), silent)


def test_bytes_after_the_frame_are_refused() -> None:
    data = bytes(5000)
    with pytest.raises(ChunkInvalid):
        open_frame(hash_chunk(data), compress(data) + b"more")


def test_an_empty_or_foreign_chunk_is_refused() -> None:
    for frame in (b"", b"GET / HTTP/1.1", compress(b"x"), zstandard.ZstdCompressor().compress(b"")):
        with pytest.raises(ChunkInvalid):
            open_frame(hash_chunk(b"y"), frame)


@given(st.binary(max_size=300), st.integers(0, 40), st.binary(max_size=8))
def test_random_bytes_raise_only_chunk_invalid(noise: bytes, at: int, patch: bytes) -> None:
    frame = bytearray(compress(noise or b"x"))
    frame[at : at + len(patch)] = patch
    for candidate in (noise, bytes(frame)):
        with contextlib.suppress(ChunkInvalid):
            assert open_frame(hash_chunk(noise), candidate) == noise


def test_masked_reading_gives_zeros_between_the_runs() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * CHUNK_SIZE + b"abcdefgh")
        file.flush()
        assert bytes(read_masked(file.fileno(), CHUNK_SIZE, 8, [(0, 2), (6, 2)])) == b"ab\0\0\0\0gh"
        with pytest.raises(DiskError, match="ends"):
            read_masked(file.fileno(), CHUNK_SIZE, 16, [(0, 16)])


def test_a_disk_that_cannot_be_written_is_an_error_of_ours() -> None:
    with open("/dev/full", "wb") as full, pytest.raises(DiskError, match="No space"):
        write_exactly(full.fileno(), memoryview(b"x"), 0)
