"""Uploads are cut into records however they arrive; the signing key is made once."""

from __future__ import annotations

import stat
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.adapters.store import RecordReader, StoreGateway, load_key
from pxeboot.errors import Invalid, StoreRefused

RECORDS = [(bytes([number]) * 32, bytes(number)) for number in (1, 5, 200)]
BODY = b"".join(struct.pack(">32sI", hash, len(frame)) + frame for hash, frame in RECORDS)


@given(st.lists(st.integers(1, 60), min_size=1))
def test_any_cut_gives_the_same_records(sizes: list[int]) -> None:
    reader, at, found = RecordReader(), 0, []
    for size in sizes:
        reader.feed(BODY[at : at + size])
        at += size
        found += reader.take()
    reader.feed(BODY[at:])
    reader.finish()
    assert found + reader.take() == RECORDS


@given(st.binary(max_size=300))
def test_garbage_raises_only_invalid(data: bytes) -> None:
    reader = RecordReader()
    try:
        reader.feed(data)
        reader.finish()
    except Invalid:
        return
    # What was accepted is exactly what was sent.
    assert b"".join(struct.pack(">32sI", hash, len(frame)) + frame for hash, frame in reader.take()) == data


def test_an_unfinished_record_is_refused() -> None:
    reader = RecordReader()
    reader.feed(BODY[:-1])
    with pytest.raises(Invalid, match="middle of a chunk"):
        reader.finish()


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "server.ed25519"
    first = load_key(path).private_bytes_raw()
    assert load_key(path).private_bytes_raw() == first == path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_store_in_use_is_named(tmp_path: Path) -> None:
    first = StoreGateway.open(tmp_path / "store", tmp_path / "key", reserve_mb=1)
    with pytest.raises(StoreRefused, match="Another process") as busy:
        StoreGateway.open(tmp_path / "store", tmp_path / "key", reserve_mb=1)
    assert busy.value.problem_code == "store-busy"
    first.close()


def test_missing_wants_whole_hashes(tmp_path: Path) -> None:
    store = StoreGateway.open(tmp_path / "store", tmp_path / "key", reserve_mb=1)
    assert store.missing(b"") == b""
    assert store.missing(bytes(64)) == b"\1\1"
    for bad in (bytes(31), bytes(32 * 8193)):
        with pytest.raises(Invalid):
            store.missing(bad)
    store.close()
