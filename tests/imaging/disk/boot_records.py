"""MBR tables for the tests, made by hand: small, so that each byte of them can be explained."""

from collections.abc import Sequence

from imaging.disk import mbr
from imaging.tables import Partition

MIB = 1 << 20
SECTORS = MIB // 512
NO_CHS = b"\xfe\xff\xff"


def a_record(kind: int, start: int, size: int, *, active: bool = False) -> bytes:
    """16 bytes; start and size in sectors."""
    return mbr.RECORD.pack(0x80 if active else 0, NO_CHS, kind, NO_CHS, start, size)


def a_sector(*records: bytes, code: bytes = b"", signature: int = 0) -> bytes:
    head = code.ljust(440, b"\0") + signature.to_bytes(4, "little") + bytes(2)
    return head + b"".join(records).ljust(64, b"\0") + b"\x55\xaa"


def a_disk(size: int, sectors: dict[int, bytes], sector_size: int = 512) -> bytearray:
    data = bytearray(size)
    for lba, sector in sectors.items():
        data[lba * sector_size : lba * sector_size + len(sector)] = sector
    return data


def reader(data: bytes | bytearray) -> mbr.ReadAt:
    def read_at(offset: int, length: int) -> bytes:
        piece = bytes(data[offset : offset + length])
        assert len(piece) == length, "read outside the disk"
        return piece

    return read_at


def chained(sector_size: int = 512) -> dict[int, bytes]:
    """One primary (1 MiB, 4 MiB long), an extended partition from 5 to 15 MiB with two logical ones."""
    unit = MIB // sector_size
    return {
        0: a_sector(
            a_record(0x07, unit, 4 * unit, active=True),
            a_record(0x0F, 5 * unit, 10 * unit),
            code=b"\xeb\x63boot",
            signature=0x1234ABCD,
        ),
        5 * unit: a_sector(a_record(0x83, unit, 3 * unit), a_record(0x05, 4 * unit, 5 * unit)),
        9 * unit: a_sector(a_record(0x82, unit, 4 * unit), code=b"words of an old boot manager"),
    }


def told(partitions: Sequence[Partition]) -> list[tuple[int, int, int, int, bool, bool]]:
    """(number, start in MiB, size in MiB, type, active, logical) of each."""
    return [(p.number, p.start // MIB, p.size // MIB, p.type_byte, p.active, p.logical) for p in partitions]
