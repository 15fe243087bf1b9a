"""A manifest's JSON header: which fields a disk, a table and a partition have there, written and read.

Canonical JSON, described field by field in docs/image-format.md §3. A GPT's fields are those of the first
images; new ones are only there when they say something, so that old images keep their bytes.
"""

import json
from typing import Any, NamedTuple

from imaging.diskimage import DiskImage
from imaging.errors import ManifestError
from imaging.rules import MAX_SIZE, require
from imaging.runs import CHUNK_SIZE
from imaging.tables import Ebr, GptTable, MbrTable, Partition, Table

_HASH = "blake3-256"
_TOP_KEYS = {"chunk_size", "disks", "hash"}
_DISK_KEYS = {"chunks", "partitions", "runs", "sector_size", "size", "table"}
_GPT_KEYS: dict[str, type] = {"entries": int, "first_usable": int, "guid": str, "kind": str, "mbr": str}
_MBR_KEYS: dict[str, type] = {"chain": list, "kind": str, "mbr": str}
_EBR_KEYS: dict[str, type] = {"sector": str, "start": int}
#: Fields of every partition, then those of each kind of table.
_COMMON: dict[str, type] = {
    "capture": str,
    "filesystem": str,
    "label": str,
    "number": int,
    "size": int,
    "start": int,
    "used": int,
    "uuid": str,
}
_GPT_PARTITION = {**_COMMON, "attributes": int, "name": str, "type_guid": str, "unique_guid": str}
_MBR_PARTITION = {**_COMMON, "active": bool, "logical": bool, "type_byte": int}
_NO_GPT: dict[str, Any] = {"attributes": 0, "name": "", "type_guid": "", "unique_guid": ""}


class Described(NamedTuple):
    """A disk as the header has it: what is needed to make a DiskImage once runs and hashes are read."""

    fields: dict[str, Any]
    runs: int
    chunks: int


def encode(disks: tuple[DiskImage, ...]) -> bytes:
    """The header's bytes; raises ManifestError when a text in it is not valid Unicode."""
    header = {"chunk_size": CHUNK_SIZE, "hash": _HASH, "disks": [_disk(disk) for disk in disks]}
    try:
        return json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ManifestError("A name or label in the manifest is not valid Unicode.") from None


def _disk(disk: DiskImage) -> dict[str, Any]:
    keys = _MBR_PARTITION if isinstance(disk.table, MbrTable) else _GPT_PARTITION
    item = {
        "size": disk.size,
        "sector_size": disk.sector_size,
        "table": _table(disk.table),
        "partitions": [{key: getattr(p, key) for key in keys} for p in disk.partitions],
        "runs": len(disk.runs),
        "chunks": len(disk.grid),
    }
    if disk.physical_sector_size:
        item["physical_sector_size"] = disk.physical_sector_size
    return item


def _table(table: Table | None) -> dict[str, Any] | None:
    if isinstance(table, MbrTable):
        chain = [{"start": ebr.start, "sector": ebr.sector.hex()} for ebr in table.chain]
        return {"kind": "mbr", "mbr": table.mbr.hex(), "chain": chain}
    if isinstance(table, GptTable):
        return {
            "kind": "gpt",
            "guid": table.guid,
            "mbr": table.mbr.hex(),
            "entries": table.entries,
            "first_usable": table.first_usable,
        }
    return None


def decode(data: bytes) -> list[Described]:
    """Read untrusted bytes; raises ManifestError for unknown fields and wrong types.

    What JSON forgives (spaces, order, duplicate keys) is not found here, but by encoding again.
    """
    try:
        header = json.loads(data.decode())
    except (ValueError, RecursionError):
        raise ManifestError("The manifest's header is not JSON.") from None
    _fields(header, _TOP_KEYS, "The header")
    require(header["chunk_size"] == CHUNK_SIZE, f"Chunk size {header['chunk_size']!r} is not known.")
    require(header["hash"] == _HASH, f"Hash {header['hash']!r} is not known.")
    require(isinstance(header["disks"], list), "The header's disks are not a list.")
    return [_described(item) for item in header["disks"]]


def _described(item: object) -> Described:
    optional = {"physical_sector_size"} & set(item) if isinstance(item, dict) else set()
    _fields(item, _DISK_KEYS | optional, "A disk")
    assert isinstance(item, dict)
    numbers = {"size", "sector_size", "runs", "chunks"} | optional
    for key in sorted(numbers):
        # type(), not isinstance(): JSON's true must not pass for 1.
        require(type(item[key]) is int and 0 <= item[key] <= MAX_SIZE, f"A disk's {key} is out of range.")
    require(isinstance(item["partitions"], list), "A disk's partitions are not a list.")
    table = _read_table(item["table"])
    return Described(
        {
            "size": item["size"],
            "sector_size": item["sector_size"],
            "physical_sector_size": item.get("physical_sector_size", 0),
            "table": table,
            "partitions": tuple(_partition(p, table) for p in item["partitions"]),
        },
        item["runs"],
        item["chunks"],
    )


def _partition(item: object, table: Table | None) -> Partition:
    if isinstance(table, MbrTable):
        return Partition(**_typed(item, _MBR_PARTITION, "A partition"), **_NO_GPT)
    return Partition(**_typed(item, _GPT_PARTITION, "A partition"))


def _read_table(item: object) -> Table | None:
    if item is None:
        return None
    kind = item.get("kind") if isinstance(item, dict) else None
    if kind == "mbr":
        fields = _typed(item, _MBR_KEYS, "The partition table")
        chain = [_typed(ebr, _EBR_KEYS, "A boot record") for ebr in fields["chain"]]
        return MbrTable(_hex(fields["mbr"]), tuple(Ebr(ebr["start"], _hex(ebr["sector"])) for ebr in chain))
    fields = _typed(item, _GPT_KEYS, "The partition table") if kind == "gpt" else {}
    require(bool(fields), f"Partition table kind {str(kind)[:40]!r} is not known here: update this program.")
    return GptTable(
        guid=fields["guid"],
        mbr=_hex(fields["mbr"]),
        entries=fields["entries"],
        first_usable=fields["first_usable"],
    )


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ManifestError("A boot record is not hexadecimal.") from None


def _fields(item: object, keys: set[str], what: str) -> None:
    require(isinstance(item, dict), f"{what} is not an object.")
    assert isinstance(item, dict)
    require(
        set(item) == keys,
        f"{what} has unknown or missing fields ({', '.join(sorted(set(item) ^ keys))[:200]}).",
    )


def _typed(item: object, keys: dict[str, type], what: str) -> dict[str, Any]:
    _fields(item, set(keys), what)
    assert isinstance(item, dict)
    for key, kind in keys.items():
        require(type(item[key]) is kind, f"{what}'s {key} has the wrong type.")
        require(kind is not int or 0 <= item[key] < 1 << 64, f"{what}'s {key} is out of range.")
    return item
