"""A small read-only NTFS: enough to find a few files of the root directory and to tell how Windows left it.

Structures and offsets are those of the Linux-NTFS documentation (flatcap.github.io/linux-ntfs) and of
ntfs-3g's layout.h. All bytes are foreign: whatever does not fit raises NtfsError, and every loop ends.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from imaging.disk.gpt import ReadAt
from imaging.errors import DiskError

Run = tuple[int, int]
"""(start, length) in bytes from the volume's start; start -1 = a hole."""

DIRTY = 0x1
_LOGFILE, _VOLUME, _ROOT, _BITMAP_FILE = 2, 3, 5, 6
_ATTRIBUTE_LIST, _FILE_NAME, _VOLUME_INFORMATION = 0x20, 0x30, 0x70
_DATA, _INDEX_ROOT, _INDEX_ALLOCATION = 0x80, 0x90, 0xA0
_END = 0xFFFFFFFF
_I30 = "$I30"
_PACKED = 0x00FF | 0x4000 | 0x8000  # compressed, encrypted, sparse
_MAX_INDEX = 64 << 20  # a root directory with 600,000 files
_MAX_LIST = 256 << 10
_MAX_BITMAP = 1 << 30
_PIECE = 8 << 20


class NtfsError(DiskError):
    """The bytes are not an NTFS that we understand; ``str()`` is half a sentence."""

    code = "filesystem-dirty"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a record. ``value`` when resident; else ``runs`` of its clusters from ``vcn`` on."""

    kind: int
    name: str
    flags: int
    value: bytes | None
    runs: tuple[Run, ...]
    vcn: int
    size: int
    """Length of the data in bytes (of a first part; others say 0)."""


class Volume:
    """An NTFS, read through ``read_at``. Everything here raises NtfsError; DiskError when reading fails."""

    def __init__(self, read_at: ReadAt) -> None:
        self._read = read_at
        boot = read_at(0, 512)
        if boot[3:11] != b"NTFS    ":
            raise NtfsError("no NTFS boot sector")
        sector, per_cluster = struct.unpack_from("<HB", boot, 11)
        # More than 128 sectors per cluster are written as a negative power of two.
        factor = per_cluster if per_cluster <= 0x80 else 1 << (256 - per_cluster)
        self.cluster = sector * factor
        if sector not in (256, 512, 1024, 2048, 4096) or factor & (factor - 1) or not 0 < factor <= 1 << 13:
            raise NtfsError(f"clusters of {factor} sectors of {sector} bytes")
        self.size = struct.unpack_from("<Q", boot, 40)[0] * sector
        self.record_size = self._size(boot, 64)
        mft = struct.unpack_from("<Q", boot, 48)[0] * self.cluster
        first = self._unfix(read_at(mft, self.record_size), b"FILE")
        # A record of the MFT is found through the MFT's own runs; its first record tells them, perhaps with
        # the help of others that lie in what it told already.
        self._mft: list[Run] = [(mft, self.record_size)]
        self._mft = list(_own(first, self, _DATA).runs)
        self._mft = list(self._whole(0, first, _DATA).runs)

    def _size(self, boot: bytes, at: int) -> int:
        per: int = struct.unpack_from("<b", boot, at)[0]
        size = per * self.cluster if per > 0 else 1 << min(-per, 31)
        if not 512 <= size <= 65536 or size % 512:
            raise NtfsError(f"records of {size} bytes")
        return size

    # --- what capture wants to know ---

    @functools.cached_property
    def flags(self) -> int:
        """VOLUME_INFORMATION's flags; ``DIRTY`` = chkdsk is due."""
        value = self._attribute(_VOLUME, _VOLUME_INFORMATION).value
        if value is None or len(value) < 12:
            raise NtfsError("no volume information")
        number: int = struct.unpack_from("<H", value, 10)[0]
        return number

    @functools.cached_property
    def hibernated(self) -> bool:
        """Whether hiberfil.sys holds a system that will wake up from it."""
        file = self.files.get("hiberfil.sys")
        if file is None or file.size < 4096 or not file.runs or file.runs[0][0] < 0:
            return False
        # After waking up it says "wake", or nothing; while it is being read, "rstr".
        return self._read(file.runs[0][0], 4).lower() in (b"hibr", b"rstr")

    @functools.cached_property
    def log_is_clean(self) -> bool:
        """Whether $LogFile says that the volume was dismounted, or was emptied."""
        log = self._attribute(_LOGFILE, _DATA)
        data = self._content(log.runs, min(log.size, 128 << 10))
        if data.count(0xFF) == len(data):
            return True
        verdicts: list[tuple[int, bool]] = []
        size = struct.unpack_from("<I", data, 16)[0] if data[:4] in (b"RSTR", b"CHKD") else 4096
        for at in (0, size if 512 <= size <= 65536 else 4096):
            page = data[at : at + size]
            if page[:4] not in (b"RSTR", b"CHKD") or len(page) < 512:
                continue
            area = struct.unpack_from("<H", page, 24)[0]
            if 24 <= area <= 510 - 16:
                lsn, _, _, in_use, flags = struct.unpack_from("<QHHHH", page, area)
                verdicts.append((lsn, in_use == 0xFFFF or bool(flags & 0x2)))
        return bool(max(verdicts, default=(0, False))[1])

    @functools.cached_property
    def used_bytes(self) -> int:
        """Bytes in clusters that $Bitmap calls used."""
        bitmap = self._attribute(_BITMAP_FILE, _DATA)
        clusters = self.size // self.cluster
        if clusters // 8 > _MAX_BITMAP or bitmap.size < -(-clusters // 8):
            raise NtfsError("a bitmap of another size")
        used, left = 0, clusters
        for start, length in bitmap.runs:
            for at in range(0, length, _PIECE):
                data = self._read(start + at, min(_PIECE, length - at))
                number = int.from_bytes(data, "little") & ((1 << min(left, len(data) * 8)) - 1)
                used += number.bit_count()
                left -= min(left, len(data) * 8)
                if not left:
                    break
        return used * int(self.cluster)

    @functools.cached_property
    def files(self) -> dict[str, Attribute]:
        """The data of the files in the root directory that are Windows' own memory, by name."""
        found = {}
        for name, reference in self._root_entries():
            if name.lower() in WINDOWS_FILES and (data := self._file(name, reference)) is not None:
                found[name.lower()] = data
        return found

    # --- files and records ---

    def _file(self, name: str, reference: int) -> Attribute | None:
        """The data of a file; None when the entry is a left-over or the content is not plain clusters."""
        number, sequence = reference & 0xFFFFFFFFFFFF, reference >> 48
        record = self._record(number)
        if struct.unpack_from("<H", record, 16)[0] != sequence or not record[22] & 1 or record[22] & 2:
            return None
        names = [a.value for a in _attributes(record, self) if a.kind == _FILE_NAME and a.value]
        if not any(_name(value) == name and _parent(value) == _ROOT for value in names):
            return None
        data = self._whole(number, record, _DATA)
        return None if data.value is not None or data.flags & _PACKED else data

    def _root_entries(self) -> Iterator[tuple[str, int]]:
        """(name, reference) of every entry of the root directory."""
        record = self._record(_ROOT)
        root = self._whole(_ROOT, record, _INDEX_ROOT, _I30).value
        if root is None or len(root) < 32:
            raise NtfsError("no root directory")
        yield from _entries(root, 16)
        size = struct.unpack_from("<I", root, 8)[0]
        if not 512 <= size <= 65536 or size % 512:
            raise NtfsError(f"index blocks of {size} bytes")
        try:
            blocks = self._whole(_ROOT, record, _INDEX_ALLOCATION, _I30)
        except NtfsError:
            return  # a small directory is all in its record
        length = min(blocks.size, sum(length for _, length in blocks.runs), _MAX_INDEX)
        for at in range(0, length - size + 1, size):
            block = self._content(blocks.runs, size, at)
            if block[:4] == b"INDX":
                yield from _entries(self._unfix(block, b"INDX"), 24)

    def _record(self, number: int) -> bytes:
        return self._unfix(self._content(self._mft, self.record_size, number * self.record_size), b"FILE")

    def _attribute(self, number: int, kind: int) -> Attribute:
        return self._whole(number, self._record(number), kind)

    def _whole(self, number: int, record: bytes, kind: int, name: str = "") -> Attribute:
        """An attribute with all its runs, also those that other records hold."""
        listed = [a for a in _attributes(record, self) if a.kind == _ATTRIBUTE_LIST]
        if not listed:
            return _own(record, self, kind, name)
        value = listed[0].value
        if value is None:
            value = self._content(listed[0].runs, min(listed[0].size, _MAX_LIST))
        parts: dict[int, Attribute] = {}
        for other in dict.fromkeys(_listed(value, kind)):
            held = record if other == number else self._record(other)
            for attribute in _attributes(held, self):
                if (attribute.kind, attribute.name) == (kind, name):
                    parts.setdefault(attribute.vcn, attribute)
        if 0 not in parts:
            raise NtfsError(f"record {number} lacks what it lists")
        runs: list[Run] = []
        expected = 0
        for vcn, part in sorted(parts.items()):
            if part.value is None and vcn != expected:
                raise NtfsError(f"record {number} has parts missing")
            runs += part.runs
            expected = vcn + sum(length for _, length in part.runs) // self.cluster
        first = parts[0]
        return Attribute(kind, name, first.flags, first.value, tuple(runs), 0, first.size)

    def _content(self, runs: Sequence[Run], length: int, offset: int = 0) -> bytes:
        """``length`` bytes of an attribute from ``offset`` on."""
        parts = []
        for start, size in runs:
            if offset >= size:
                offset -= size
                continue
            take = min(size - offset, length)
            parts.append(bytes(take) if start < 0 else self._read(start + offset, take))
            length -= take
            offset = 0
            if not length:
                return b"".join(parts)
        raise NtfsError("a file shorter than it says")

    def _unfix(self, data: bytes, magic: bytes) -> bytes:
        """Put back the last two bytes of each 512, which hold a check number on the disk."""
        at, count = struct.unpack_from("<HH", data, 4)
        if (
            data[:4] != magic
            or at < 6
            or at % 2
            or count != len(data) // 512 + 1
            or at + 2 * count > len(data)
        ):
            raise NtfsError(f"a record without {magic.decode()}")
        fixed = bytearray(data)
        for number in range(1, count):
            end = number * 512
            if data[end - 2 : end] != data[at : at + 2]:
                raise NtfsError("a record that was written in part")
            fixed[end - 2 : end] = data[at + 2 * number : at + 2 * number + 2]
        return bytes(fixed)


#: What Windows keeps its memory in; of no worth to another machine.
WINDOWS_FILES = ("pagefile.sys", "swapfile.sys", "hiberfil.sys")


def _attributes(record: bytes, volume: Volume) -> Iterator[Attribute]:
    at = struct.unpack_from("<H", record, 20)[0]
    while at + 24 <= len(record):
        kind, length, resident, name_length, name_at, flags = struct.unpack_from("<IIBBHH", record, at)
        if kind == _END:
            return
        if length < 24 or length % 8 or at + length > len(record):
            raise NtfsError("an attribute outside its record")
        raw = record[at : at + length]
        name = raw[name_at : name_at + 2 * name_length].decode("utf-16-le", "replace") if name_length else ""
        if not resident:
            size, place = struct.unpack_from("<IH", raw, 16)
            if place + size > length:
                raise NtfsError("a value outside its attribute")
            yield Attribute(kind, name, flags, raw[place : place + size], (), 0, size)
        else:
            if length < 64:
                raise NtfsError("an attribute cut short")
            vcn, _, pairs = struct.unpack_from("<QQH", raw, 16)
            size = struct.unpack_from("<Q", raw, 48)[0] if not vcn else 0
            yield Attribute(kind, name, flags, None, tuple(_runs(raw[pairs:], volume)), vcn, size)
        at += length


def _runs(pairs: bytes, volume: Volume) -> Iterator[Run]:
    """Decode mapping pairs: a byte of two lengths, then a count of clusters and a signed step."""
    at = cluster = 0
    while at < len(pairs) and pairs[at]:
        low, high = pairs[at] & 15, pairs[at] >> 4
        if not low or low > 8 or high > 8 or at + 1 + low + high > len(pairs):
            raise NtfsError("a damaged list of clusters")
        count = int.from_bytes(pairs[at + 1 : at + 1 + low], "little", signed=True)
        step = int.from_bytes(pairs[at + 1 + low : at + 1 + low + high], "little", signed=True)
        cluster += step
        start, length = cluster * volume.cluster, count * volume.cluster
        if count <= 0 or (high and not 0 <= start <= volume.size + volume.cluster - length):
            raise NtfsError("clusters outside the volume")
        yield (start if high else -1), length
        at += 1 + low + high


def _own(record: bytes, volume: Volume, kind: int, name: str = "") -> Attribute:
    for attribute in _attributes(record, volume):
        if (attribute.kind, attribute.name) == (kind, name):
            return attribute
    raise NtfsError(f"a record without attribute {kind:#x}")


def _listed(value: bytes, kind: int) -> Iterator[int]:
    """Numbers of the records that an attribute list names for ``kind``."""
    at = 0
    while at + 26 <= len(value):
        found, length = struct.unpack_from("<IH", value, at)
        if length < 26:
            raise NtfsError("a damaged attribute list")
        if found == kind:
            yield struct.unpack_from("<Q", value, at + 16)[0] & 0xFFFFFFFFFFFF
        at += length


def _entries(index: bytes, at: int) -> Iterator[tuple[str, int]]:
    """(name, reference) of the entries of an index whose header lies at ``at``."""
    first, used = struct.unpack_from("<II", index, at)
    place, end = at + first, min(at + used, len(index))
    while place + 16 <= end:
        reference, length, key, flags = struct.unpack_from("<QHHH", index, place)
        if flags & 2:
            return
        if length < 16 or place + length > end:
            raise NtfsError("a damaged directory")
        if key >= 66:
            yield _name(index[place + 16 : place + 16 + key]), reference
        place += length


def _name(value: bytes) -> str:
    return value[66 : 66 + 2 * value[64]].decode("utf-16-le", "replace") if len(value) >= 66 else ""


def _parent(value: bytes) -> int:
    return int(struct.unpack_from("<Q", value)[0] & 0xFFFFFFFFFFFF)
