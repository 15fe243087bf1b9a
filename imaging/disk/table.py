"""One door to both kinds of partition table: reading a disk's, writing an image's, proving what was written.

Whatever the kind, a table is some pieces of bytes for a disk of a given size (:func:`table_bytes`); writing
puts them down in their order, and proving reads them back.
"""

from collections.abc import Sequence

from imaging.chunks import write_exactly
from imaging.disk import gpt, mbr, mbr_render
from imaging.disk.device import Disk
from imaging.errors import UnsupportedDisk
from imaging.tables import GptTable, MbrTable, Partition, Table

#: Boot code before the first partition is looked for this far: BIOS loaders use the first track or MiB.
GAP_LIMIT = 16 << 20
_STEP = 1 << 20
_SECTOR_SIZES = (512, 4096)


def read_table(disk: Disk) -> tuple[Table | None, tuple[Partition, ...]]:
    """The table of a disk and its partitions (file systems still ``unknown``); (None, ()) without a table.

    Raises TableInvalid when it is damaged, UnsupportedDisk for what cannot be captured (dynamic disks, a GPT
    that its MBR does not announce, a table for sectors of another size), DiskError.
    """
    found = mbr.kind(disk.read_at(0, 512)) if disk.size >= 512 else "none"
    if found == "gpt":
        _refuse_other_sectors(disk)
        return gpt.read(disk.read_at, disk.size, disk.sector_size)
    _refuse_hidden_gpt(disk, found)
    if found == "none":
        return None, ()
    layout = mbr.read(disk.read_at, disk.size, disk.sector_size)
    return layout.table, layout.partitions


def _has_header(disk: Disk, at: int) -> bool:
    return disk.size >= at + 512 and disk.read_at(at, 8) == b"EFI PART"


def _refuse_other_sectors(disk: Disk) -> None:
    """A GPT's header is in LBA 1: elsewhere, when the disk was cloned to one with other sectors."""
    if _has_header(disk, disk.sector_size):
        return
    for size in _SECTOR_SIZES:
        if size != disk.sector_size and _has_header(disk, size):
            raise UnsupportedDisk(
                f"The disk {disk.path} has {disk.sector_size}-byte sectors, but its partition table was "
                f"made for {size}: attach it as it was when its system was installed, or partition it anew."
            )


def _refuse_hidden_gpt(disk: Disk, found: str) -> None:
    """A whole GPT behind an MBR that does not announce it: which one holds is anybody's guess."""
    if not gpt.announced(disk.read_at, disk.size, disk.sector_size):
        return
    if found == "mbr":
        raise UnsupportedDisk(
            f"The disk {disk.path} has two partition tables, an MBR and a GPT: remove the one its "
            "system does not use (the GPT: sgdisk --zap; the MBR: gdisk, command w), then try again."
        )
    raise UnsupportedDisk(
        f"The disk {disk.path} has a GPT without its protective MBR, so most systems see no partitions: "
        "let gdisk write it anew (command w), or remove the GPT (sgdisk --zap), then try again."
    )


def boot_area(
    table: Table | None, partitions: Sequence[Partition], size: int, sector_size: int
) -> tuple[int, int]:
    """(begin, end) in bytes of what lies between the table's head and the first partition.

    At most ``GAP_LIMIT`` from the disk's start. A deploy zeroes there what the image does not use: boot code
    and signatures of earlier times, which the next capture would take for its own. Empty without a table.
    """
    if table is None:
        return 0, 0
    begin = table.head_size(sector_size)
    starts = [p.start for p in partitions]
    if isinstance(table, MbrTable):
        starts += [start for start, _ in extended_area(table, sector_size)]
    end = min([*starts, size - table.tail_size(sector_size), GAP_LIMIT])
    return begin, max(begin, end)


def boot_gap(disk: Disk, table: Table | None, partitions: Sequence[Partition]) -> list[tuple[int, int]]:
    """The run (start, length in bytes) of boot code between an MBR and the first partition.

    GRUB's core.img lies there on BIOS machines. It ends with the last sector that is not zero, and always
    has LBA 1, so that a GPT of earlier times on the target does not outlive it. Empty for a GPT, which has
    partitions for that. Raises DiskError.
    """
    if not isinstance(table, MbrTable):
        return []
    begin, first = boot_area(table, partitions, disk.size, disk.sector_size)
    end = begin
    for at in range(begin, first, _STEP):
        data = disk.read_at(at, min(_STEP, first - at)).rstrip(b"\0")
        if data:
            end = at + -(-len(data) // disk.sector_size) * disk.sector_size
    end = max(end, min(first, begin + disk.sector_size))
    return [(begin, end - begin)] if end > begin else []


def extended_area(table: Table | None, sector_size: int) -> list[tuple[int, int]]:
    """(start, size) in bytes of the extended partition, if there is one."""
    if not isinstance(table, MbrTable):
        return []
    extended = mbr.parse(table, sector_size).extended
    return [(extended.start * sector_size, extended.record.size * sector_size)] if extended else []


def without_chain(
    runs: Sequence[tuple[int, int]], table: Table | None, sector_size: int
) -> list[tuple[int, int]]:
    """Ascending ``runs`` with extended boot records cut out: they belong to the table, which is written anew.

    Only closing a near gap (imaging.runs.merge_runs) puts one into a run.
    """
    if not isinstance(table, MbrTable) or not table.chain:
        return list(runs)
    holes = sorted(ebr.start for ebr in table.chain)
    cut = []
    at = 0
    for start, length in runs:
        end = start + length
        while at < len(holes) and holes[at] < start:
            at += 1
        while at < len(holes) and holes[at] < end:
            if holes[at] > start:
                cut.append((start, holes[at] - start))
            start = holes[at] + sector_size
            at += 1
        if end > start:
            cut.append((start, end - start))
    return cut


def usable(table: Table | None, size: int, sector_size: int) -> tuple[int, int]:
    """First byte, and the one behind the last, that partitions may use on a disk of ``size`` bytes."""
    if isinstance(table, GptTable):
        return table.first_usable * sector_size, size - table.tail_size(sector_size)
    if table is None:
        return 0, size
    return sector_size, min(size, mbr.LIMIT * sector_size)


def room_before(table: Table | None, partition: Partition, sector_size: int) -> int:
    """Bytes that must stay free before ``partition`` when it is moved (a logical one's EBR); else 0."""
    return mbr_render.room_before(table, partition, sector_size) if isinstance(table, MbrTable) else 0


def table_bytes(
    table: Table | None,
    partitions: Sequence[Partition],
    size: int,
    sector_size: int,
    source: Sequence[Partition] = (),
) -> tuple[tuple[int, bytes], ...]:
    """The pieces (offset, bytes) of ``table`` for a disk of ``size`` bytes, in the order to write them.

    ``partitions`` are where they are on that disk; ``source`` where the image has them, which a hybrid MBR
    needs to follow them (empty: nothing moved). Raises UnsupportedDisk when the table cannot describe them.
    """
    if isinstance(table, MbrTable):
        return mbr_render.render(table, partitions, size, sector_size)
    if isinstance(table, GptTable):
        # The backup first, as UEFI 2.10 §5.3.2 wants it: if power fails between, one copy is valid.
        primary, backup = gpt.render(table, partitions, size, sector_size, source)
        return backup, primary
    return ()


def write_table(
    disk: Disk,
    table: Table | None,
    partitions: Sequence[Partition],
    size: int = 0,
    source: Sequence[Partition] = (),
) -> None:
    """Write ``table`` with ``partitions`` on a disk (``size`` 0 = the disk's own), each piece durably.

    The kernel is asked to look at it anew. Raises UnsupportedDisk (before anything is written), DiskError.
    """
    pieces = table_bytes(table, partitions, size or disk.size, disk.sector_size, source)
    for offset, data in pieces:
        write_exactly(disk.fd, memoryview(data), offset)
        disk.sync()
    if pieces:
        disk.reread_table()


def table_right(
    disk: Disk, table: Table | None, partitions: Sequence[Partition], source: Sequence[Partition] = ()
) -> bool:
    """Whether the disk has every byte of the table that :func:`write_table` writes. Raises DiskError."""
    return all(
        disk.read_at(offset, len(data)) == data
        for offset, data in table_bytes(table, partitions, disk.size, disk.sector_size, source)
    )
