"""Records of a pack are found again whatever lies between them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.chunks import compress, hash_chunk
from imaging.errors import ChunkInvalid
from imaging.store.packs import PACK_HEAD, PACK_MAGIC, Place, pack_path, read_frame, record_head, scan

CONTENTS = [b"", b"a" * 3000, b"b", bytes(range(256)) * 9, b"(\xb5/\xfd" * 20]


def record(data: bytes) -> bytes:
    frame = compress(data or b"\0")
    return record_head(hash_chunk(data or b"\0"), len(data or b"\0"), frame) + frame


def packed(directory: Path, *parts: bytes) -> list[tuple[bytes, Place]]:
    pack_path(directory, 1).write_bytes(PACK_HEAD.pack(PACK_MAGIC, 1, 0) + b"".join(parts))
    return list(scan(directory, 1, 0))


def test_a_damaged_record_does_not_hide_those_behind_it(tmp_path: Path) -> None:
    whole = [record(data) for data in CONTENTS]
    for at in range(len(whole[1])):
        broken = bytearray(whole[1])
        broken[at] ^= 0x10
        found = packed(tmp_path, whole[0], bytes(broken), *whole[2:])
        assert [hash for hash, _ in found] == [hash_chunk(d or b"\0") for d in (CONTENTS[0], *CONTENTS[2:])]


def test_a_torn_tail_that_ends_with_a_page_of_memory_is_looked_through(tmp_path: Path) -> None:
    """CPython 3.11 up to 3.11.4 (gh-105235): `mmap.find` reads one byte too far, which no page need hold.
    A daemon killed at that byte of a pack could never start again.
    """
    size = 16 << 20  # no hole between other things in memory is as large: it comes right below the guard
    pack_path(tmp_path, 1).write_bytes(PACK_HEAD.pack(PACK_MAGIC, 1, 0) + bytes(size - PACK_HEAD.size))
    code = f"""
import mmap
from pathlib import Path
from imaging.store.packs import scan
guard = mmap.mmap(-1, {size}, prot=0)
for start in range(100, 105):  # the search goes in steps of five bytes: one of them meets the end
    assert not list(scan(Path({str(tmp_path)!r}), 1, start))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@given(
    st.lists(
        st.one_of(
            st.sampled_from(CONTENTS).map(lambda data: (record(data), data or b"\0")),
            st.binary(max_size=90).map(lambda rubbish: (rubbish, None)),
        ),
        max_size=8,
    ),
    st.integers(0, 40),
)
@settings(max_examples=200, deadline=None)
def test_what_is_found_is_whole_and_in_its_place(parts: list[tuple[bytes, bytes | None]], cut: int) -> None:
    with TemporaryDirectory() as name:
        directory = Path(name)
        data = [part for part, _ in parts]
        if data and cut:
            data[-1] = data[-1][:-cut]
        expected = [hash_chunk(plain) for part, plain in (parts[:-1] if cut else parts) if plain is not None]
        found = packed(directory, *data)
        for hash, place in found:
            assert read_frame(directory, hash, place)
        # Rubbish in front of a record can only look like one by a hash collision: all are found.
        assert [hash for hash, _ in found] == expected


@given(
    st.tuples(*[st.one_of(st.integers(-(1 << 63), 1 << 63), st.sampled_from([0, 1, 16, 17, 1 << 20]))] * 4),
    st.binary(min_size=0, max_size=40),
)
@settings(max_examples=200, deadline=None)
def test_no_place_reads_what_was_not_put_there(place: tuple[int, int, int, int], hash: bytes) -> None:
    with TemporaryDirectory() as name:
        packed(Path(name), record(b"a" * 3000))
        try:
            read_frame(Path(name), hash, Place(*place))
        except (ChunkInvalid, FileNotFoundError):
            return
        raise AssertionError("a frame was made up")
