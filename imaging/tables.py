"""What an image keeps of a partition table, enough to write it on a disk of any size, and its partitions.

A GUID partition table is kept as its fields and made anew. An MBR and its chain of extended boot records are
kept as the sectors they are: while the partitions stay where they were they go back byte for byte, and where
they moved, :mod:`imaging.disk.mbr` makes them anew.
"""

from dataclasses import dataclass

GPT_ENTRY_SIZE = 128


@dataclass(frozen=True, slots=True)
class GptTable:
    """What is needed to write a GUID partition table (UEFI 2.10 §5.3) on a disk of any size."""

    guid: str
    """Disk GUID, lower case."""
    mbr: bytes
    """The 512 bytes of LBA 0 (boot code, protective record; a hybrid MBR has more records)."""
    entries: int
    """Number of 128-byte entries in the array (usually 128)."""
    first_usable: int
    """First LBA a partition may use."""

    def head_size(self, sector_size: int) -> int:
        """Bytes at the start of the disk that the table occupies: LBA 0, header, entries."""
        return (2 + self.entry_sectors(sector_size)) * sector_size

    def tail_size(self, sector_size: int) -> int:
        """Bytes at the end of the disk that the backup occupies: entries, header."""
        return (1 + self.entry_sectors(sector_size)) * sector_size

    def entry_sectors(self, sector_size: int) -> int:
        return -(-self.entries * GPT_ENTRY_SIZE // sector_size)


@dataclass(frozen=True, slots=True)
class Ebr:
    """An extended boot record: the sector that describes one logical partition and names the next record."""

    start: int
    """Where it lies, in bytes from the disk's start."""
    sector: bytes
    """Its first 512 bytes."""


@dataclass(frozen=True, slots=True)
class MbrTable:
    """A master boot record and the chain of extended boot records behind it."""

    mbr: bytes
    """The 512 bytes of LBA 0: 440 of boot code, the disk's signature, four records, 55 AA."""
    chain: tuple[Ebr, ...] = ()
    """In the order of the links, which is the order of the logical partitions' numbers."""

    @property
    def signature(self) -> int:
        """The number by which Windows and ``PARTUUID=`` know the disk; 0 when it has none."""
        return int.from_bytes(self.mbr[440:444], "little")

    def head_size(self, sector_size: int) -> int:
        """Bytes at the start of the disk that the table occupies: LBA 0."""
        return sector_size

    def tail_size(self, sector_size: int) -> int:
        """An MBR has no backup."""
        return 0


Table = GptTable | MbrTable


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition; start and sizes in bytes. An extended partition is not one: it is part of the table."""

    number: int
    """As Linux counts: GPT and primary by place in the table, logical ones from 5 along the chain."""
    type_guid: str
    """GPT's type; ``""`` on an MBR disk, like ``unique_guid`` and ``name``."""
    unique_guid: str
    name: str
    attributes: int
    start: int
    size: int
    filesystem: str
    """``ext2 ext3 ext4 fat ntfs swap luks bitlocker … unknown`` (imaging.disk.probe)."""
    label: str
    uuid: str
    used: int
    """Bytes of this partition that are in the image (before merging of near runs)."""
    capture: str
    """``used`` = the file system's used blocks, ``whole`` = all bytes, ``header`` = the first page (swap),
    ``none`` = it was not chosen."""
    type_byte: int = 0
    """MBR's type (0x07, 0x83 …); 0 on a GPT disk."""
    active: bool = False
    """MBR's flag for the partition to boot from."""
    logical: bool = False
    """Whether it lies in an MBR's extended partition."""
