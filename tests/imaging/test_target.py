"""Images placed on other disks than their own, in real bytes: growth, cuts, single partitions, discard."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from imaging.chunks import compress, hash_chunk
from imaging.deploy import deploy, scan, verify, verify_assigned
from imaging.disk.device import Disk
from imaging.disk.table import read_table, write_table
from imaging.errors import DiskTooSmall, TableDiffers, UnsupportedDisk
from imaging.manifest import ChunkRef, DiskImage, GptTable, Manifest, Partition, merge_runs
from imaging.placement import Placement
from imaging.runs import Grid
from imaging.store import ChunkStore
from imaging.target import Assignment, Target, assign

MIB = 1 << 20
KIND = "0fc63daf-8483-4772-8e79-3d69d8477de4"
PROTECTIVE = bytes.fromhex("00000200eeffffff01000000ffffffff")
TABLE = GptTable(
    "54e9e10b-fea0-49ac-a1ef-ab679ecb431a", bytes(446) + PROTECTIVE + bytes(48) + b"\x55\xaa", 128, 34
)
SIZE = 34 * MIB
#: The second one begins in the middle of a chunk, which the first one ends.
BORDER = 8 * MIB + 512 * 1024
PARTS = (
    Partition(1, KIND, KIND[:-1] + "1", "", 0, MIB, BORDER - MIB, "ext4", "", "", 3 * MIB, "used"),
    Partition(2, KIND, KIND[:-1] + "2", "", 0, BORDER, 16 * MIB, "ntfs", "", "", 3 * MIB, "used"),
    Partition(
        3, KIND, KIND[:-1] + "3", "", 0, BORDER + 16 * MIB, 2 * MIB, "unknown", "", "", 2 * MIB, "whole"
    ),
    Partition(
        4, KIND, KIND[:-1] + "4", "", 0, 30 * MIB, 2 * MIB, "ntfs", "", "", 0, "used"
    ),  # without content
)
RUNS = merge_runs(
    [
        (MIB, 2 * MIB),
        (BORDER - MIB, 2 * MIB),  # the end of one, the beginning of the other
        (12 * MIB, MIB),
        (BORDER + 15 * MIB, MIB),  # the end of the second, which a cut does not like
        (BORDER + 16 * MIB, 2 * MIB),
    ]
)


@dataclass(frozen=True)
class Wish:
    partitions: tuple[int, ...] | None = None
    grow: str | tuple[int, ...] = "none"
    shrink: bool = False


class Sample:
    """An image of noise, and a store that has it."""

    def __init__(self, path: Path) -> None:
        self.store = ChunkStore(path, reserve=0)
        self.bytes = os.urandom(SIZE)
        hashes = []
        for offset, length, runs in (Grid(SIZE, RUNS)[i] for i in range(len(Grid(SIZE, RUNS)))):
            chunk = bytearray(length)
            for start, size in runs:
                chunk[start : start + size] = self.bytes[offset + start : offset + start + size]
            hashes.append(hash_chunk(chunk))
            self.store.add_frame(hashes[-1], compress(chunk))
        self.manifest = Manifest([DiskImage(SIZE, 512, TABLE, PARTS, RUNS, b"".join(hashes))])
        self.asked: list[int] = []

    def fetch(self, ref: ChunkRef) -> bytes:
        self.asked.append(ref.index)
        return self.store.frame(ref.hash)

    def on(self, data: bytes, placement: Placement, numbers: tuple[int, ...] = (1, 2, 3)) -> None:
        """Every used byte of these partitions is where the placement's partitions say."""
        for p in placement.partitions:
            if p.number not in numbers:
                continue
            old = next(q for q in PARTS if q.number == p.number)
            for start, length in RUNS:
                begin, end = max(start, old.start), min(start + length, old.start + min(old.size, p.size))
                if begin < end:
                    at = begin - old.start + p.start
                    assert data[at : at + end - begin] == self.bytes[begin:end], (p.number, begin)


@pytest.fixture
def sample(tmp_path: Path) -> Iterator[Sample]:
    made = Sample(tmp_path / "store")
    yield made
    made.store.close()


def noise(path: Path, size: int) -> Path:
    path.write_bytes(os.urandom(1 << 16) * (size // (1 << 16)) + bytes(size % (1 << 16)))
    return path


def test_on_a_larger_disk_the_grown_partition_stays_and_the_later_ones_move(
    sample: Sample, tmp_path: Path
) -> None:
    target = noise(tmp_path / "b", 60 * MIB)
    given = assign(sample.manifest, 0, str(target), Wish(grow=(2,)))
    assert given.placement is not None
    assert [p.size // MIB for p in given.placement.partitions] == [7, 16 + 27, 2, 2]
    result = deploy(given, sample.manifest, sample.fetch)
    assert result.kept == 0
    sample.on(target.read_bytes(), given.placement)
    with Disk(target) as disk:
        table, partitions = read_table(disk)
    assert table is not None
    assert [(p.start, p.size) for p in partitions] == [(p.start, p.size) for p in given.placement.partitions]
    assert partitions[3].start == 57 * MIB
    # The same again needs nothing; a flipped bit is found where it now lies, and put right.
    assert not any(scan(target, sample.manifest, placement=given.placement))
    flip(target, given.placement.partitions[2].start + 70_000)
    sample.asked.clear()
    assert not verify(target, sample.manifest, placement=given.placement).ok
    assert deploy(given, sample.manifest, sample.fetch).written == len(sample.asked) == 1


def flip(path: Path, at: int) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 4]))


def test_the_end_of_a_cut_partition_goes_to_the_spill(sample: Sample, tmp_path: Path) -> None:
    target = noise(tmp_path / "b", 29 * MIB)
    before = target.read_bytes()
    with pytest.raises(DiskTooSmall, match=f"{MIB} bytes of its data"):
        assign(sample.manifest, 0, str(target), Wish(shrink=True))
    assert target.read_bytes() == before
    given = assign(sample.manifest, 0, str(target), Wish(shrink=True), spill_limit=MIB)
    assert given.placement is not None
    cut = given.placement.cut
    assert cut is not None
    assert (cut.number, cut.size, cut.spill) == (2, 12 * MIB, 4 * MIB)
    with open(tmp_path / "spill", "w+b") as spill:
        spill.truncate(cut.spill)
        given.spill = spill.fileno()
        deploy(given, sample.manifest, sample.fetch)
        sample.on(target.read_bytes(), given.placement)
        spill.seek(3 * MIB)
        assert spill.read() == sample.bytes[BORDER + 15 * MIB : BORDER + 16 * MIB]
        # The proof covers the spill as well.
        flip(tmp_path / "spill", 4 * MIB - 1)
        assert len(verify_assigned(given, sample.manifest).bad) == 1


def test_single_partitions_leave_every_other_byte_alone(sample: Sample, tmp_path: Path) -> None:
    target = noise(tmp_path / "b", 60 * MIB)
    with pytest.raises(TableDiffers, match="has no partition 2"):
        assign(sample.manifest, 0, str(target), Wish(partitions=(2,)))
    # The target's own table has the partition 3 MiB further on, and 1 MiB larger.
    there = [PARTS[0], *(replace(p, start=p.start + 3 * MIB) for p in PARTS[1:])]
    there[1] = replace(there[1], start=there[1].start - MIB, size=17 * MIB)
    with Disk(target, write=True) as disk:
        write_table(disk, TABLE, there)
    before = target.read_bytes()
    given = assign(sample.manifest, 0, str(target), Wish(partitions=(2,)))
    assert given.placement is not None
    assert given.placement.grown == (2,)
    result = deploy(given, sample.manifest, sample.fetch)
    after = target.read_bytes()
    begin, end = there[1].start, there[1].start + there[1].size
    assert (after[:begin], after[end:]) == (before[:begin], before[end:])
    sample.on(after, given.placement, (2,))
    chunks = {ref.index for ref in sample.manifest.chunks if BORDER < ref.offset + MIB <= BORDER + 17 * MIB}
    assert result.written == len(set(sample.asked) & chunks) == len(set(sample.asked))
    # The chunks that the borders cut cannot be compared: they are brought again; the others are kept.
    sample.asked.clear()
    again = assign(sample.manifest, 0, str(target), Wish(partitions=(2,)))
    deploy(again, sample.manifest, sample.fetch)
    borders = [ref.index for ref in sample.manifest.chunks if ref.offset in (8 * MIB, 24 * MIB)]
    assert sorted(sample.asked) == borders
    # But what was written in this deploy is known to the byte.
    flip(target, there[1].start + 5)
    assert verify_assigned(again, sample.manifest).bad == borders[:1]
    flip(target, there[1].start - 5)  # not ours
    assert verify_assigned(again, sample.manifest).bad == borders[:1]


def test_discard_makes_holes_only_where_nothing_is(sample: Sample, tmp_path: Path) -> None:
    target = noise(tmp_path / "b", 60 * MIB)
    before = target.read_bytes()
    full = target.stat().st_blocks
    given = assign(sample.manifest, 0, str(target), Wish())
    result = deploy(given, sample.manifest, sample.fetch, discard=True)
    assert result.written == len(sample.manifest.chunks)
    after = target.read_bytes()
    assert given.placement is not None
    sample.on(after, given.placement)
    assert verify(target, sample.manifest).ok
    assert (full - target.stat().st_blocks) * 512 > 40 * MIB
    # A partition whose content is not in the image is not ours to empty.
    kept = slice(PARTS[3].start, PARTS[3].start + PARTS[3].size)
    assert after[kept] == before[kept]
    assert after[10 * MIB : 12 * MIB] == bytes(2 * MIB)


def test_discard_of_single_partitions_stays_inside_them(sample: Sample, tmp_path: Path) -> None:
    target = noise(tmp_path / "b", 60 * MIB)
    with Disk(target, write=True) as disk:
        write_table(disk, TABLE, PARTS)
    before = target.read_bytes()
    given = assign(sample.manifest, 0, str(target), Wish(partitions=(2,)))
    deploy(given, sample.manifest, sample.fetch, discard=True)
    after = target.read_bytes()
    end = BORDER + 16 * MIB
    assert (after[:BORDER], after[end:]) == (before[:BORDER], before[end:])
    assert after[14 * MIB : 20 * MIB] == bytes(6 * MIB)


def test_a_disk_that_changed_its_size_meanwhile_is_not_written(sample: Sample, tmp_path: Path) -> None:
    target = noise(tmp_path / "b", 60 * MIB)
    given = assign(sample.manifest, 0, str(target), Wish(grow="last"))
    os.truncate(target, 50 * MIB)
    with pytest.raises(UnsupportedDisk, match="check its cable"):
        Target(sample.manifest, given, write=True)
    assert Assignment(0, str(target)).placement is None
