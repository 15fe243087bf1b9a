"""What a capture will bring is told from a sixteenth of it, and not too high."""

import os
import random

from imaging.chunks import compress, hash_chunk
from imaging.estimate import SAMPLES, bytes_to_come
from imaging.runs import CHUNK_SIZE, Grid, Runs


def test_a_disk_of_which_a_third_is_known_and_a_third_is_zeros() -> None:
    contents = [
        bytearray(os.urandom(CHUNK_SIZE)),
        bytearray(CHUNK_SIZE),
        bytearray(b"text " * 209715 + b"\0"),
    ]
    dice = random.Random(5)
    order = [dice.randrange(3) for _ in range(4000)]
    grid = Grid(len(order) * CHUNK_SIZE, Runs([(0, len(order) * CHUNK_SIZE)]))
    asked: list[bytes] = []

    def missing(hashes: list[bytes]) -> list[bool]:
        asked.extend(hashes)
        return [hash != known for hash in hashes]

    known = hash_chunk(contents[2])
    found = bytes_to_come([(lambda ordinal: (contents[order[ordinal]], 0), grid)], missing)  # type: ignore[arg-type]
    truth = sum(len(compress(contents[kind])) for kind in order if kind != 2)
    assert len(asked) <= SAMPLES
    assert 0.5 * truth < found < 1.4 * truth


def test_nothing_missing_and_nothing_at_all() -> None:
    grid = Grid(5 * CHUNK_SIZE, Runs([(0, 5 * CHUNK_SIZE)]))
    assert bytes_to_come([(lambda ordinal: (bytearray(9), 9), grid)], lambda hashes: [False]) == 0
    assert (
        bytes_to_come([(lambda ordinal: (bytearray(9), 9), Grid(CHUNK_SIZE, Runs()))], lambda hashes: [True])
        == 0
    )
