"""Nothing that the older table lacks is ever skipped, and little else is named."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.store.fresh import fresh

NAMES = [bytes([n]) * 32 for n in range(256)]
tables = st.lists(st.sampled_from(NAMES[:12]), max_size=40)


@given(tables, tables)
@settings(max_examples=500, deadline=None)
def test_all_that_is_new_is_named(old: list[bytes], new: list[bytes]) -> None:
    found = list(fresh(b"".join(old), b"".join(new)))
    assert set(new) - set(old) <= set(found) <= set(new)


@given(st.integers(0, 1 << 32), st.integers(0, 30))
@settings(max_examples=100, deadline=None)
def test_what_came_went_or_changed_in_a_long_table(seed: int, edits: int) -> None:
    chance = random.Random(seed)
    old = [chance.randbytes(32) for _ in range(chance.randrange(1, 3000))]
    new = list(old)
    for _ in range(edits):
        at, count = chance.randrange(len(new) + 1), chance.randrange(1, 20)
        new[at : at + chance.choice([0, count])] = [
            chance.randbytes(32) for _ in range(chance.choice([0, count]))
        ]
    found = list(fresh(b"".join(old), b"".join(new)))
    assert set(new) - set(old) <= set(found)
    assert len(found) <= 40 * edits


def test_a_table_cut_in_the_middle_of_a_repeated_hash() -> None:
    for old, new in ((b"", b"a" * 64), (b"a" * 64, b"a" * 96), (b"a" * 96, b"a" * 64), (b"a" * 33, b"")):
        assert set(fresh(old, new)) <= {b"a" * 32}
        assert set(fresh(old, new)) | ({b"a" * 32} if len(old) >= 32 else set()) >= set(new and [b"a" * 32])
