"""What an LVM2 physical volume holds, by its own metadata: extents in use, and where whole volumes lie.

On the disk (lvm2's lib/format_text/layout.h): a label in one of the first four sectors, a header that names
metadata areas, each with a small header and a ring of text; the text (lvmtext.py) is the volume group as all
its physical volumes know it. Every extent that any logical volume uses on this one is found through the
``striped`` segments; mirrors, RAID, thin pools and caches consist of hidden volumes that have such.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from imaging.disk.gpt import ReadAt
from imaging.disk.lvmtext import LvmError, parse_text

_SECTOR = 512
_LABEL = 512
_MDA_HEADER = 512
_MAGIC = b" LVM2 x[5A%r0N*>"
_IGNORED = 0x1  # this copy of the metadata is not kept up to date
_MAX_TEXT = 16 << 20
_MAX_AREAS = 16


@dataclass(frozen=True, slots=True)
class Volume:
    """A logical volume, or its part on this physical volume; bytes from the physical volume's start."""

    name: str
    """``group/volume``."""
    extents: tuple[tuple[int, int], ...]
    """(start, length) of all its extents here, in its own order, neighbours joined."""
    plain: bool
    """Whether the only stretch in ``extents`` is, byte for byte, the volume as its user sees it."""


@dataclass(frozen=True, slots=True)
class PhysicalVolume:
    """``fixed``: (start, length) of what is not extents: label, metadata, boot loader area."""

    fixed: tuple[tuple[int, int], ...]
    volumes: tuple[Volume, ...]


def read(read_at: ReadAt, size: int) -> PhysicalVolume:
    """Read a physical volume of ``size`` bytes.

    Raises LvmError when it has no metadata of its own, is damaged, or says something that we do not know:
    then only all of its bytes are surely right. Raises DiskError.
    """
    head = read_at(0, min(size, 4 * _SECTOR))
    identity, areas = _label(head)
    for offset, length in areas:
        text = _metadata(read_at, offset, length, size)
        if text is not None:
            return _understand(parse_text(text), identity, areas, size)
    raise LvmError("it holds no copy of its metadata")


def _crc(data: bytes) -> int:
    # LVM's CRC-32 starts from its own number and is not inverted at the end (lib/misc/crc.c).
    return zlib.crc32(data, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def _label(head: bytes) -> tuple[str, list[tuple[int, int]]]:
    """(UUID without dashes, metadata areas as (offset, size)) of the physical volume's header."""
    for at in range(0, len(head) - _LABEL + 1, _SECTOR):
        sector = head[at : at + _LABEL]
        if sector[:8] == b"LABELONE" and sector[24:32] == b"LVM2 001":
            break
    else:
        raise LvmError("it has no label")
    number, crc, header = struct.unpack_from("<QII", sector, 8)
    if number * _SECTOR != at or _crc(sector[20:]) != crc or not 32 <= header <= _LABEL - 40:
        raise LvmError("its label is damaged")
    lists: list[list[tuple[int, int]]] = [[], []]
    place = header + 40
    for found in lists:  # data areas, then metadata areas, each ended by zeros
        while True:
            if place + 16 > _LABEL or len(found) > _MAX_AREAS:
                raise LvmError("its label is damaged")
            offset, size = struct.unpack_from("<QQ", sector, place)
            place += 16
            if not offset:
                break
            found.append((offset, size))
    return sector[header : header + 32].decode("ascii", "replace"), lists[1]


def _metadata(read_at: ReadAt, start: int, length: int, size: int) -> str | None:
    """The text of one metadata area, None when this copy is not in use or damaged."""
    if length < 2 * _MDA_HEADER or start + length > size:
        return None
    header = read_at(start, _MDA_HEADER)
    crc, magic, version, own, ring = struct.unpack_from("<I16sIQQ", header)
    if crc != _crc(header[4:]) or magic != _MAGIC or version != 1 or own != start or ring != length:
        return None
    offset, count, check, flags = struct.unpack_from("<QQII", header, 40)
    if not count or flags & _IGNORED or count > min(_MAX_TEXT, ring - _MDA_HEADER):
        return None
    if not _MDA_HEADER <= offset < ring:
        return None
    # The text runs to the end of the ring and goes on behind the header.
    first = min(count, ring - offset)
    data = read_at(start + offset, first)
    if first < count:
        data += read_at(start + _MDA_HEADER, count - first)
    return data.rstrip(b"\0").decode("utf-8", "replace") if _crc(data) == check else None


def _understand(
    text: Mapping[str, Any], identity: str, areas: list[tuple[int, int]], size: int
) -> PhysicalVolume:
    group_name, group = next(
        ((key, value) for key, value in text.items() if isinstance(value, dict)), ("", {})
    )
    extent = _number(group, "extent_size") * _SECTOR
    own = [
        (name, pv)
        for name, pv in _sections(group, "physical_volumes")
        if str(pv.get("id", "")).replace("-", "") == identity
    ]
    if len(own) != 1 or not extent:
        raise LvmError("its metadata does not speak of it")
    pv_name, pv = own[0]
    first, count = _number(pv, "pe_start") * _SECTOR, _number(pv, "pe_count")
    end = first + count * extent
    if end > size:
        raise LvmError("it is smaller than its metadata says")
    hidden = set(_mentioned(group))
    volumes = []
    for name, lv in _sections(group, "logical_volumes"):
        stretches: list[tuple[int, int]] = []
        plain, expected = name not in hidden, 0
        for segment in sorted(_segments(lv), key=lambda s: _number(s, "start_extent")):
            length, stripes = _number(segment, "extent_count"), segment.get("stripes")
            plain = (
                plain and segment.get("type") == "striped" and _number(segment, "start_extent") == expected
            )
            expected += length
            if segment.get("type") != "striped":
                plain = False
                if stripes is not None:  # a kind with extents of its own that we do not know
                    raise LvmError(f"its volume {name} is of the kind {segment.get('type')}")
                continue
            pairs = list(_pairs(stripes))
            if not pairs or length % len(pairs):
                raise LvmError(f"its volume {name} has a damaged segment")
            plain = plain and len(pairs) == 1
            for device, begin in pairs:
                if device != pv_name:
                    plain = False
                    continue
                place, bytes_ = first + begin * extent, length // len(pairs) * extent
                if begin < 0 or place + bytes_ > end:
                    raise LvmError(f"its volume {name} lies outside it")
                if stretches and sum(stretches[-1]) == place:
                    stretches[-1] = (stretches[-1][0], stretches[-1][1] + bytes_)
                else:
                    stretches.append((place, bytes_))
        if stretches:
            volumes.append(Volume(f"{group_name}/{name}", tuple(stretches), plain and len(stretches) == 1))
    fixed = [(0, first), *((at, length) for at, length in areas if at >= first)]
    return PhysicalVolume(tuple(fixed), tuple(volumes))


def _number(section: Mapping[str, Any], key: str) -> int:
    value = section.get(key)
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise LvmError(f"its metadata has no sound {key}")
    return value


def _sections(group: Mapping[str, Any], key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    held = group.get(key, {})
    if not isinstance(held, dict):
        raise LvmError(f"its metadata has no sound {key}")
    for name, value in held.items():
        if isinstance(value, dict):
            yield name, value


def _segments(lv: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = [value for key, value in lv.items() if key.startswith("segment") and isinstance(value, dict)]
    if len(found) != _number(lv, "segment_count"):
        raise LvmError("its metadata has segments missing")
    return found


def _pairs(stripes: object) -> Iterator[tuple[str, int]]:
    """``["pv0", 0, "pv1", 0]`` as pairs."""
    if not isinstance(stripes, list) or len(stripes) % 2:
        raise LvmError("its metadata has a damaged segment")
    for device, begin in zip(stripes[::2], stripes[1::2], strict=True):
        if not isinstance(device, str) or type(begin) is not int:
            raise LvmError("its metadata has a damaged segment")
        yield device, begin


def _mentioned(group: Mapping[str, Any]) -> Iterator[str]:
    """Names of volumes that others are made of: origins of snapshots, pools, legs of a mirror …"""
    names = {name for name, _ in _sections(group, "logical_volumes")}
    for _, lv in _sections(group, "logical_volumes"):
        for segment in _segments(lv):
            for value in segment.values():
                for text in value if isinstance(value, list) else [value]:
                    if isinstance(text, str) and text in names:
                        yield text
