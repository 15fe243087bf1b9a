"""Reading what ``sfdisk -d`` wrote (its script format, old and new), as FOG and Clonezilla keep it.

The format is described in sfdisk(8), "Input formats"; before util-linux 2.26 types were written ``Id=83`` and
there was no ``label:`` line.
"""

import re
from dataclasses import dataclass

from imaging.exchange.errors import FolderInvalid

_MAX_TEXT = 1 << 20
_MAX_ROWS = 1024
_LIMIT = 1 << 64
_HEADER = re.compile(r"^([a-z-]+):\s*(.*?)\s*$")
_ROW = re.compile(r"^(\S*?)(\d+)\s*:\s*(.+)$")
_FIELD = re.compile(r'\s*([A-Za-z]+)\s*=\s*("[^"]*"|[^,\s]+)|\s*([a-z]+)\s*')


@dataclass(frozen=True, slots=True)
class Row:
    """One partition; ``start`` and ``size`` in sectors. ``type`` is a GUID, or a hexadecimal MBR type."""

    number: int
    device: str
    """What stands before the number: ``/dev/sda``, ``/dev/nvme0n1p``."""
    start: int
    size: int
    type: str
    uuid: str = ""
    name: str = ""
    bootable: bool = False


@dataclass(frozen=True, slots=True)
class Dump:
    """A partition table as text. ``last_lba`` is 0 where it does not stand."""

    label: str
    """``gpt`` or ``dos``."""
    sector_size: int
    last_lba: int
    rows: tuple[Row, ...]

    @property
    def end(self) -> int:
        """Sector behind the last partition."""
        return max((row.start + row.size for row in self.rows), default=0)


def parse(data: bytes, name: str) -> Dump:
    """Read a dump; ``name`` is the file's, for errors. Raises FolderInvalid."""
    if len(data) > _MAX_TEXT:
        raise FolderInvalid(f"{name} is too long for a partition table ({len(data)} bytes).")
    headers: dict[str, str] = {}
    rows = []
    for line in data.decode("utf-8", "replace").splitlines():
        line = line.strip()
        if not line or line.startswith(("#", "Warning")):
            continue
        if found := _ROW.match(line):
            rows.append(_row(found, name))
        elif found := _HEADER.match(line):
            headers[found[1]] = found[2]
    rows = [row for row in rows if row.size]  # old dumps list empty slots, too
    if not rows:
        raise FolderInvalid(f"{name} names no partition: is it the output of sfdisk -d?")
    if len({row.number for row in rows}) != len(rows) or len(rows) > _MAX_ROWS:
        raise FolderInvalid(f"{name} names a partition twice, or more than {_MAX_ROWS}: it is damaged.")
    label = headers.get("label") or ("gpt" if any(len(row.type) == 36 for row in rows) else "dos")
    if label not in ("gpt", "dos"):
        raise FolderInvalid(
            f"{name} is a partition table of kind {label[:40]!r}: only GPT and MBR are known."
        )
    size = _number(headers.get("sector-size", "512"), name)
    if size not in (512, 4096):
        raise FolderInvalid(f"{name} speaks of sectors of {size} bytes: only 512 and 4096 are known.")
    return Dump(label, size, _number(headers.get("last-lba", "0"), name), tuple(rows))


def _row(found: re.Match[str], name: str) -> Row:
    fields: dict[str, str] = {}
    for field in _FIELD.finditer(found[3]):
        if field[1]:
            fields[field[1].lower()] = field[2].strip('"')
        elif field[3]:
            fields[field[3]] = ""
    return Row(
        number=_number(found[2], name),
        device=found[1],
        start=_number(fields.get("start", ""), name),
        size=_number(fields.get("size", ""), name),
        type=(fields.get("type") or fields.get("id") or "").lower(),
        uuid=fields.get("uuid", "").lower(),
        name=fields.get("name", ""),
        bootable="bootable" in fields,
    )


def _number(text: str, name: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 20 or int(text) >= _LIMIT:
        raise FolderInvalid(f"{name} has {text[:40]!r} where a number should be: it is damaged.")
    return int(text)
