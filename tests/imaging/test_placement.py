"""Where an image goes on a disk of another size: any image, any size, nothing lost, nothing overlapping."""

import itertools
from dataclasses import dataclass, replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from imaging.chunks import hash_chunk
from imaging.errors import DiskTooSmall, PlacementRefused, TableDiffers
from imaging.manifest import DiskImage, GptTable, Partition, merge_runs
from imaging.placement import ALIGN, GROWS, Placement, floor, plan
from imaging.runs import count_chunks

MIB = 1 << 20
GUID = "0fc63daf-8483-4772-8e79-3d69d8477de4"
TABLE = GptTable("54e9e10b-fea0-49ac-a1ef-ab679ecb431a", bytes(510) + b"\x55\xaa", 128, 34)


@dataclass(frozen=True)
class Wish:
    partitions: tuple[int, ...] | None = None
    grow: str | tuple[int, ...] = "none"
    shrink: bool = False


def part(number: int, start: int, size: int, filesystem: str = "ext4", used: int = 4096) -> Partition:
    capture = "used" if filesystem in GROWS else "whole"
    return Partition(number, GUID, GUID, "", 0, start, size, filesystem, "", "", used, capture)


def image(size: int, *parts: Partition, runs: list[tuple[int, int]] | None = None) -> DiskImage:
    if runs is None:
        runs = [(p.start, p.used) for p in parts if p.used]
    packed = merge_runs(runs)
    return DiskImage(size, 512, TABLE, parts, packed, hash_chunk(b"") * count_chunks(packed))


def small() -> DiskImage:
    """ESP, ext4, swap, NTFS and a recovery partition of unknown content."""
    return image(
        200 * MIB,
        part(1, MIB, 10 * MIB, "fat", MIB),
        part(2, 11 * MIB, 60 * MIB, "ext4", 20 * MIB),
        part(3, 71 * MIB, 9 * MIB, "swap", 4096),
        part(4, 80 * MIB, 100 * MIB, "ntfs", 30 * MIB),
        part(5, 180 * MIB, 10 * MIB, "unknown", 10 * MIB),
    )


def sizes(placement: Placement) -> dict[int, tuple[int, int]]:
    return {p.number: (p.start // MIB, p.size // MIB) for p in placement.partitions}


def test_on_a_disk_of_any_fitting_size_everything_stays_where_it_was() -> None:
    for target in (small().minimum_size, 200 * MIB, 400 * MIB + 512):
        placement = plan(small(), target, Wish())
        assert placement.is_identity
        assert placement.partitions == small().partitions
        assert list(placement.pieces(MIB, 3 * MIB)) == [(MIB, 3 * MIB, MIB)]


def test_the_last_partition_that_can_grow_grows_and_the_later_ones_move_up() -> None:
    placement = plan(small(), 300 * MIB, Wish(grow="last"))
    gain = 300 - 190 - 1  # the table's tail costs the last whole MiB
    assert sizes(placement) == {
        1: (1, 10), 2: (11, 60), 3: (71, 9), 4: (80, 100 + gain), 5: (180 + gain, 10),
    }  # fmt: skip
    assert placement.grown == (4,)
    assert list(placement.pieces(179 * MIB, 2 * MIB)) == [
        (179 * MIB, MIB, 179 * MIB),
        (180 * MIB, MIB, (180 + gain) * MIB),
    ]


def test_chosen_partitions_share_the_room_by_their_size() -> None:
    placement = plan(small(), 350 * MIB, Wish(grow=(2, 4)))
    (start2, size2), (start4, size4) = sizes(placement)[2], sizes(placement)[4]
    assert (start2, size2 - 60) == (11, 159 * 60 // 160)
    assert size2 - 60 + size4 - 100 == 159
    assert start4 == 80 + size2 - 60


def test_room_of_less_than_a_mebibyte_is_left() -> None:
    assert plan(small(), small().minimum_size + MIB - 512, Wish(grow="last")).is_identity


@pytest.mark.parametrize(
    ("grow", "sentence"), [((9,), "no partition 9 to grow; it has 1, 2, 3, 4, 5"), ((1, 2), "holds fat")]
)
def test_growth_that_cannot_be_is_refused(grow: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(PlacementRefused, match=sentence):
        plan(small(), 300 * MIB, Wish(grow=grow))


def test_a_smaller_disk_is_refused_with_the_numbers_unless_shrinking_was_asked_for() -> None:
    with pytest.raises(DiskTooSmall) as refused:
        plan(small(), 150 * MIB, Wish(), path="/dev/sda")
    assert (refused.value.needed, refused.value.size) == (small().minimum_size, 150 * MIB)
    assert "/dev/sda" in str(refused.value)


def test_a_smaller_disk_cuts_the_last_file_system_that_has_the_room() -> None:
    placement = plan(small(), 150 * MIB, Wish(shrink=True))
    assert placement.cut is not None
    assert (placement.cut.number, placement.cut.full) == (4, 100 * MIB)
    less = placement.cut.spill // MIB
    assert less == 190 - 150 + 1
    assert sizes(placement) == {
        1: (1, 10), 2: (11, 60), 3: (71, 9), 4: (80, 100 - less), 5: (180 - less, 10),
    }  # fmt: skip
    # What lies behind the new end has an address behind the target's own.
    assert [p.target for p in placement.pieces(179 * MIB, MIB)] == [150 * MIB + (less - 1) * MIB]


def test_a_disk_that_is_too_small_even_for_shrunk_file_systems_tells_what_would_do() -> None:
    with pytest.raises(DiskTooSmall) as refused:
        plan(small(), 100 * MIB, Wish(shrink=True))
    needed = refused.value.needed
    assert 100 * MIB < needed < small().minimum_size
    assert plan(small(), needed, Wish(shrink=True)).cut is not None


def test_data_behind_the_new_end_is_cut_only_when_somebody_can_hold_it() -> None:
    p = part(1, MIB, 100 * MIB, "ext4", 10 * MIB)
    tail = (96 * MIB, 2 * MIB)
    disk = image(110 * MIB, p, runs=[(MIB, 8 * MIB), tail])
    with pytest.raises(DiskTooSmall, match=f"{tail[1]} bytes of its data"):
        plan(disk, 90 * MIB, Wish(shrink=True))
    placement = plan(disk, 90 * MIB, Wish(shrink=True), spill_limit=tail[1])
    assert [piece.target >= 90 * MIB for piece in placement.pieces(*tail)] == [True]
    assert sum(length for _, length in placement.placed(disk.runs)) == 8 * MIB


def test_single_partitions_go_where_the_target_has_them() -> None:
    there = [
        replace(p, start=p.start + 7 * MIB, size=p.size + 5 * MIB * (p.number == 4))
        for p in small().partitions
    ]
    placement = plan(small(), 400 * MIB, Wish(partitions=(2, 4)), present=there)
    assert placement.only == (2, 4)
    assert not placement.is_identity
    assert list(placement.pieces(10 * MIB, 2 * MIB)) == [(11 * MIB, MIB, 18 * MIB)]  # partition 1 is not ours
    assert list(placement.pieces(72 * MIB, MIB)) == []
    assert placement.grown == (4,)
    assert [p.start for p in placement.partitions] == [p.start for p in there]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"size": 59 * MIB}, f"{59 * MIB} bytes from {11 * MIB}.*{60 * MIB} bytes from {11 * MIB}"),
        ({"type_guid": GUID.replace("0", "1")}, "type 1fc63daf"),
        ({"number": 7}, "has no partition 2; it has 1, 7, 3, 4, 5"),
        ({"start": 190 * MIB}, "repair the partition table"),
    ],
)
def test_single_partitions_are_refused_when_the_target_has_others(change: dict, sentence: str) -> None:  # type: ignore[type-arg]
    there = [replace(p, **change) if p.number == 2 else p for p in small().partitions]
    with pytest.raises(TableDiffers, match=sentence):
        plan(small(), 200 * MIB, Wish(partitions=(2,)), present=there)


@pytest.mark.parametrize("numbers", [(6,), ()])
def test_a_partition_the_image_lacks_is_refused(numbers: tuple[int, ...]) -> None:
    with pytest.raises(PlacementRefused):
        plan(small(), 200 * MIB, Wish(partitions=numbers), present=small().partitions)


@st.composite
def disks(draw: st.DrawFn) -> DiskImage:
    """Any image: partitions on sectors, gaps between them with used bytes too, in any order of numbers."""
    cursor = draw(st.integers(40, 4000))
    parts, runs = [], []
    count = draw(st.integers(1, 6))
    numbers = draw(st.permutations(range(1, count + 1)))
    for number in numbers:
        gap = draw(st.sampled_from([0, 0, 63, 2048, 3000]))
        if gap and draw(st.booleans()):
            runs.append((cursor * 512, 512))
        start = cursor + gap
        size = draw(st.integers(16, 60_000))
        filesystem = draw(st.sampled_from(["ext4", "ntfs", "btrfs", "xfs", "fat", "unknown"]))
        used = 0
        for at in sorted(draw(st.lists(st.integers(0, size - 8), max_size=4, unique=True))):
            runs.append(((start + at) * 512, 4096))
            used += 4096
        parts.append(part(number, start * 512, size * 512, filesystem, min(used, size * 512)))
        cursor = start + size
    size = (cursor + draw(st.integers(33, 5000))) * 512
    return image(size, *sorted(parts, key=lambda p: p.number), runs=runs)


wishes = st.builds(
    Wish, grow=st.one_of(st.sampled_from(["none", "last"]), st.just((1,))), shrink=st.booleans()
)


def planned(
    disk: DiskImage, target: int, wish: Wish, limit: int
) -> Placement | DiskTooSmall | PlacementRefused:
    try:
        return plan(disk, target, wish, spill_limit=limit)
    except (DiskTooSmall, PlacementRefused) as refused:
        return refused


@given(disks(), st.integers(-80, 300), wishes, st.sampled_from([0, 4096, 1 << 40]))
def test_whatever_is_planned_fits_keeps_order_and_alignment_and_loses_nothing(
    disk: DiskImage, more: int, wish: Wish, limit: int
) -> None:
    target = disk.size + more * 300_032
    assume(target > 0)
    placement = planned(disk, target, wish, limit)
    if isinstance(placement, DiskTooSmall):
        assert target < disk.minimum_size
        assert placement.needed > target or "lie behind" in str(placement)
        return
    if isinstance(placement, PlacementRefused):
        assert wish.grow == (1,)
        return
    assert placement.size == target
    was = {p.number: p for p in disk.partitions}
    end = disk.head_size
    for p in sorted(placement.partitions, key=lambda p: p.start):
        assert p.start >= end  # nothing overlaps
        end = p.start + p.size
        assert (p.start - was[p.number].start) % ALIGN == 0
        assert (p.size == was[p.number].size) or p.number in placement.grown or placement.cut
        assert p.number not in placement.grown or p.size > was[p.number].size
    assert end <= target - disk.tail_size
    if placement.cut:
        assert placement.cut.size >= floor(was[placement.cut.number])
    # Every used byte has one place, inside the partition it was in, or in the spill.
    taken: list[tuple[int, int]] = []
    for start, length in disk.runs:
        pieces = list(placement.pieces(start, length))
        assert sum(piece.length for piece in pieces) == length
        assert pieces[0].source == start
        taken += [(piece.target, piece.length) for piece in pieces]
    taken.sort()
    assert all(a + b <= c for (a, b), (c, _) in itertools.pairwise(taken))
    spilled = sum(length for at, length in taken if at >= target)
    assert spilled <= limit
    assert sum(length for _, length in placement.placed(disk.runs)) == disk.used - spilled
    for p in placement.partitions:
        source = was[p.number]
        inside = list(placement.pieces(source.start, source.size))
        assert inside[0].target == p.start
        assert all(
            p.start <= piece.target and piece.target + piece.length <= p.start + p.size
            for piece in inside
            if piece.target < target
        )


@given(disks(), st.integers(0, 1 << 28), st.integers(1, 1 << 22))
def test_pieces_of_the_identity_are_the_ranges_themselves(disk: DiskImage, offset: int, length: int) -> None:
    assume(offset + length <= disk.size)
    assert list(Placement.identity(disk).pieces(offset, length)) == [(offset, length, offset)]
