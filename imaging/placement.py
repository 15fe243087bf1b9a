"""Where each byte of an image disk goes on a target disk of another size, or into one partition of it.

The chunks and their hashes stay those of the source's grid; a placement only says that a byte range of the
source lies elsewhere on the target. A partition that grows moves the later ones up, one that is cut moves
them down, always by whole MiB. What a cut partition holds behind its new end goes to a **spill**: addresses
from the target's size upward, which are no disk but a temporary file, until the file system was shrunk
(docs/image-format.md §4). Pure: it decides from numbers, reads and writes nothing.
"""

import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from imaging.disk.table import usable
from imaging.errors import DiskTooSmall, PlacementRefused, TableDiffers
from imaging.manifest import DiskImage, Partition
from imaging.resize.estimate import smallest
from imaging.runs import Runs, merge_runs

#: Partitions move by multiples of this, so that their alignment on the target is that of the source.
ALIGN = 1 << 20
#: File systems that can be made larger afterwards, and smaller (imaging.resize).
GROWS = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "ntfs", "f2fs"})
SHRINKS = frozenset({"ext2", "ext3", "ext4", "btrfs", "ntfs"})


class Wishes(Protocol):
    """What :func:`plan` reads of the deploy options (imaging.options.DeployOptions)."""

    @property
    def partitions(self) -> Sequence[int] | None: ...
    @property
    def grow(self) -> str | tuple[int, ...]: ...
    @property
    def shrink(self) -> bool: ...


class Piece(NamedTuple):
    """``length`` bytes at ``source`` of the image's disk belong at ``target``; all in bytes."""

    source: int
    length: int
    target: int


class Segment(NamedTuple):
    """Bytes ``start`` up to ``end`` of the image's disk lie ``shift`` bytes further on the target."""

    start: int
    end: int
    shift: int


class Cut(NamedTuple):
    """Partition ``number`` was ``full`` bytes long and becomes ``size``; the rest of it is the spill."""

    number: int
    size: int
    full: int

    @property
    def spill(self) -> int:
        """Bytes of the temporary file that stands in for the missing end."""
        return self.full - self.size


@dataclass(frozen=True, slots=True)
class Placement:
    """One image disk on one target of ``size`` bytes. Made by :meth:`identity` or :func:`plan`."""

    size: int
    partitions: tuple[Partition, ...]
    """As they will be on the target: places and sizes there, everything else from the image."""
    segments: tuple[Segment, ...]
    """Ascending and disjoint by source; what lies in none is not written."""
    only: tuple[int, ...] | None = None
    """Numbers of the partitions that are written; ``None`` = the whole disk, and its partition table."""
    grown: tuple[int, ...] = ()
    """Numbers of partitions that are larger than their file system, which is to be grown."""
    cut: Cut | None = None

    @classmethod
    def identity(cls, image: DiskImage, size: int = 0) -> "Placement":
        """Everything where it was, on a disk of ``size`` bytes (0 = as large as the source)."""
        return cls(size or image.size, image.partitions, (Segment(0, image.size, 0),))

    @property
    def is_identity(self) -> bool:
        """Does every byte stay where it was?"""
        return self.only is None and all(segment.shift == 0 for segment in self.segments)

    def written(self, number: int) -> bool:
        """Is partition ``number`` written?"""
        return self.only is None or number in self.only

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """Where the source's bytes from ``offset`` on belong, ascending; what is not written is left out.

        Targets of :attr:`size` and more are in the spill.
        """
        end = offset + length
        # Segments are disjoint, so their ends ascend as well.
        at = bisect.bisect_right(self.segments, offset, key=lambda segment: segment.end)
        for segment in self.segments[at:]:
            if segment.start >= end:
                break
            begin, stop = max(offset, segment.start), min(end, segment.end)
            yield Piece(begin, stop - begin, begin + segment.shift)

    def placed(self, runs: Iterable[tuple[int, int]]) -> Runs:
        """Used runs of the source as used runs of the target, ascending and joined; without the spill."""
        return merge_runs(
            (
                (piece.target, piece.length)
                for start, length in runs
                for piece in self.pieces(start, length)
                if piece.target < self.size
            ),
            gap=1,
        )


def plan(
    image: DiskImage,
    target_size: int,
    options: Wishes,
    *,
    present: Sequence[Partition] | None = None,
    spill_limit: int = 0,
    path: str = "chosen",
) -> Placement:
    """Place ``image`` on a disk of ``target_size`` bytes.

    ``present`` are the target's own partitions now: needed when ``options.partitions`` names some.
    ``spill_limit`` is how many used bytes of a partition that is cut may lie behind its new end. ``path``
    names the disk in errors.

    Raises DiskTooSmall and TableDiffers with the numbers, PlacementRefused for what cannot be done at all.
    """
    if options.partitions is not None:
        return _into_present(image, target_size, options, present or (), path)
    spare = _usable_end(image, target_size) - _layout_end(image)
    if spare < 0:
        return _cut(image, target_size, -spare, options, spill_limit, path)
    chosen = _growing(image.partitions, options)
    extra = _shares(chosen, spare)
    if not extra:
        return Placement.identity(image, target_size)
    return _moved(image, target_size, extra)


def _layout_end(image: DiskImage) -> int:
    return image.minimum_size - image.tail_size


def _usable_end(image: DiskImage, target_size: int) -> int:
    return usable(image.table, target_size, image.sector_size)[1]


def _growing(partitions: Sequence[Partition], options: Wishes) -> list[Partition]:
    """Partitions the options want grown, in order of place; raises PlacementRefused."""
    by_place = sorted(partitions, key=lambda p: p.start)
    if options.grow == "none":
        return []
    if isinstance(options.grow, str):
        return [p for p in by_place if p.filesystem in GROWS and p.used][-1:]
    numbers = set(options.grow)
    for number in sorted(numbers):
        found = next((p for p in by_place if p.number == number), None)
        if found is None:
            raise PlacementRefused(
                f"The image has no partition {number} to grow; it has {_numbers(by_place)}: "
                "choose one of those."
            )
        if found.filesystem not in GROWS:
            raise PlacementRefused(
                f"Partition {number} holds {found.filesystem}, which cannot be grown "
                f"(only {', '.join(sorted(GROWS))}): choose another one, or grow nothing."
            )
    return [p for p in by_place if p.number in numbers]


def _shares(chosen: Sequence[Partition], spare: int) -> dict[int, int]:
    """Bytes each chosen partition gains: whole MiB, in proportion to their sizes, the last takes the rest."""
    if not chosen or spare < ALIGN:
        return {}
    total = sum(p.size for p in chosen)
    shares = {p.number: spare * p.size // total // ALIGN * ALIGN for p in chosen}
    shares[chosen[-1].number] += (spare - sum(shares.values())) // ALIGN * ALIGN
    return {number: extra for number, extra in shares.items() if extra}


def _moved(image: DiskImage, target_size: int, extra: dict[int, int]) -> Placement:
    segments, placed = [], {}
    cursor = shift = 0
    for p in sorted(image.partitions, key=lambda p: p.start):
        gain = extra.get(p.number, 0)
        placed[p.number] = replace(p, start=p.start + shift, size=p.size + gain)
        if gain:
            # Gaps (boot code, logical partitions' own records) go with the partition behind them.
            segments.append(Segment(cursor, p.start + p.size, shift))
            cursor = p.start + p.size
            shift += gain
    if cursor < image.size:
        segments.append(Segment(cursor, image.size, shift))
    return Placement(
        target_size,
        tuple(placed[p.number] for p in image.partitions),
        tuple(segments),
        grown=tuple(sorted(extra)),
    )


def floor(p: Partition) -> int:
    """The smallest size, in bytes, that a partition is cut to: what its tool surely manages, whole MiB."""
    return -(-smallest(p.filesystem, p.used, p.size) // ALIGN) * ALIGN


def _cut(
    image: DiskImage, target_size: int, lacking: int, options: Wishes, spill_limit: int, path: str
) -> Placement:
    less = -(-lacking // ALIGN) * ALIGN
    candidates = [p for p in image.partitions if p.filesystem in SHRINKS and p.capture == "used"]
    if not options.shrink or not candidates:
        raise DiskTooSmall(path, image.minimum_size, target_size)
    by_place = sorted(candidates, key=lambda p: p.start, reverse=True)
    fitting = [p for p in by_place if p.size - less >= floor(p)]
    if not fitting:
        gains = max(max(0, p.size - floor(p)) // ALIGN * ALIGN for p in by_place)
        raise DiskTooSmall(path, image.minimum_size - gains, target_size)
    spills = {p.number: _used_between(image.runs, p.start + p.size - less, p.start + p.size) for p in fitting}
    for p in fitting:
        if spills[p.number] <= spill_limit:
            return _shortened(image, target_size, p, less)
    p = fitting[0]
    raise DiskTooSmall(
        path,
        image.minimum_size,
        target_size,
        f"Partition {p.number} could be made {less} bytes smaller, but {spills[p.number]} bytes of its data "
        f"lie behind its new end and this machine can hold {spill_limit} of them meanwhile: choose a "
        "larger disk, or shrink the file system on the source and capture it again.",
    )


def _used_between(runs: Runs, begin: int, end: int) -> int:
    return sum(max(0, min(start + length, end) - max(start, begin)) for start, length in runs)


def _shortened(image: DiskImage, target_size: int, cut: Partition, less: int) -> Placement:
    end = cut.start + cut.size
    segments = [Segment(0, end - less, 0), Segment(end - less, end, target_size - (end - less))]
    if end < image.size:
        segments.append(Segment(end, image.size, -less))
    partitions = tuple(
        replace(p, size=p.size - less)
        if p.number == cut.number
        else replace(p, start=p.start - less)
        if p.start >= end
        else p
        for p in image.partitions
    )
    return Placement(target_size, partitions, tuple(segments), cut=Cut(cut.number, cut.size - less, cut.size))


def _into_present(
    image: DiskImage, target_size: int, options: Wishes, present: Sequence[Partition], path: str
) -> Placement:
    """Only some partitions, into those of the same number that the target has already."""
    wanted = sorted(set(options.partitions or ()))
    ours, theirs = {p.number: p for p in image.partitions}, {p.number: p for p in present}
    if not wanted:
        raise PlacementRefused("No partition is named to be written: name one, or write the whole disk.")
    segments, grown = [], []
    for number in wanted:
        source, target = ours.get(number), theirs.get(number)
        if source is None:
            raise PlacementRefused(
                f"The image has no partition {number}; it has {_numbers(image.partitions)}: "
                "choose one of those."
            )
        if target is None:
            raise TableDiffers(
                f"The disk {path} has no partition {number}; it has {_numbers(present)}: "
                "deploy the whole image once, then single partitions."
            )
        if (
            target.size < source.size
            or _kind(target) != _kind(source)
            or target.start + target.size > target_size
        ):
            raise TableDiffers(
                f"Partition {number} of the disk {path} ({target.size} bytes from {target.start}, type "
                f"{_kind(target)}) is not that of the image ({source.size} bytes from {source.start}, type "
                f"{_kind(source)}): deploy the whole image, or repair the partition table."
            )
        segments.append(Segment(source.start, source.start + source.size, target.start - source.start))
        # It was grown when the whole disk was deployed: the file system is to fill it again.
        if target.size > source.size and source.filesystem in GROWS:
            grown.append(number)
    partitions = tuple(
        replace(ours[p.number], start=p.start, size=p.size) if p.number in wanted else p for p in present
    )
    return Placement(target_size, partitions, tuple(sorted(segments)), only=tuple(wanted), grown=tuple(grown))


def _kind(p: Partition) -> str:
    return p.type_guid or f"{p.type_byte:#04x}"


def _numbers(partitions: Sequence[Partition]) -> str:
    return ", ".join(str(p.number) for p in partitions) or "none"
