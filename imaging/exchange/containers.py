"""What a virtual disk's own header says, before any other program opens it: kind, and what it refers to.

A file that somebody uploads may name other files of this machine as its backing, data or extent file; a
program that follows such a name would put them into an image. So the name's ending says what a file should
be (never its content: the first bytes of a raw disk belong to whoever used it), the header must agree, and
whatever refers to another file is refused.

Formats: QEMU docs/interop/qcow2.txt; VMware Virtual Disk Format 5.0; Microsoft VHD and VHDX specifications;
VirtualBox VDICore.h.
"""

import re
import struct
from collections.abc import Callable

from imaging.exchange.errors import ContainerRefused

ReadAt = Callable[[int, int], bytes]
"""(offset, length) -> at most length bytes."""

#: Kind to the name of QEMU's driver.
DRIVERS = {"raw": "raw", "qcow2": "qcow2", "vmdk": "vmdk", "vdi": "vdi", "vhd": "vpc", "vhdx": "vhdx"}
_ENDINGS = {
    "raw": "raw",
    "img": "raw",
    "dd": "raw",
    "bin": "raw",
    "qcow2": "qcow2",
    "qcow": "qcow2",
    "vmdk": "vmdk",
    "vdi": "vdi",
    "vhd": "vhd",
    "vpc": "vhd",
    "vhdx": "vhdx",
}
_MAX_DESCRIPTOR = 1 << 20


def kind_of_name(name: str) -> str:
    """What a file should be by the ending of its name; raises ContainerRefused when that says nothing."""
    ending = name.rpartition(".")[2].lower()
    if ending not in _ENDINGS:
        raise ContainerRefused(
            f"The name {name[:200]!r} does not say what kind of disk it is: say it with --format "
            f"({', '.join(DRIVERS)})."
        )
    return _ENDINGS[ending]


def examine(kind: str, read_at: ReadAt, size: int) -> None:
    """Check the header of a file of ``size`` bytes that should be of ``kind`` (a key of ``DRIVERS``).

    Raises ContainerRefused when it is not, or refers to other files, or is encrypted or damaged.
    """
    if kind != "raw":
        _CHECKS[kind](read_at, size)


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise ContainerRefused(sentence)


def _not(kind: str) -> str:
    return f"The file is not a {kind} disk, or its header is damaged: say what it is with --format."


_OTHERS = "convert it into one whole file with the program that made it (qemu-img convert), then try again"


def _qcow2(read_at: ReadAt, size: int) -> None:
    head = read_at(0, 104).ljust(104, b"\0")
    magic, version, backing = struct.unpack_from(">4sIQ", head)
    _require(magic == b"QFI\xfb", _not("qcow2"))
    _require(version in (2, 3), f"QCOW version {version} is not known: {_OTHERS}.")
    _require(backing == 0, f"The disk is only the difference to another file: {_OTHERS}.")
    _require(struct.unpack_from(">I", head, 32)[0] == 0, f"The disk is encrypted: {_OTHERS}.")
    features = struct.unpack_from(">Q", head, 72)[0] if version == 3 else 0
    _require(not features & 0x4, f"The disk keeps its content in another file: {_OTHERS}.")
    _require(not features & 0x2, "The disk is marked as damaged: repair it with qemu-img check -r all.")


def _vmdk(read_at: ReadAt, size: int) -> None:
    head = read_at(0, 512).ljust(512, b"\0")
    if head[:21] == b"# Disk DescriptorFile" or head[:4] == b"COWD":
        raise ContainerRefused(f"The file only describes a disk whose content is in other files: {_OTHERS}.")
    _require(head[:4] == b"KDMV", _not("vmdk"))
    _, _, capacity, _, place, length = struct.unpack_from("<IIQQQQ", head, 4)
    _require(0 < capacity < 1 << 53, f"The disk's content is in other files: {_OTHERS}.")
    _require(
        0 < length * 512 <= _MAX_DESCRIPTOR and 0 < place * 512 < size, "The disk's description is damaged."
    )
    text = read_at(place * 512, length * 512).split(b"\0")[0].decode("utf-8", "replace")
    fields = dict(re.findall(r'^\s*(\w+)\s*=\s*"?([^"\r\n]*)"?', text, re.MULTILINE))
    made = fields.get("createType", "")
    _require(
        made in ("monolithicSparse", "streamOptimized"),
        f"A VMDK of type {made[:40]!r} is not read here, only whole files: {_OTHERS}.",
    )
    whole = fields.get("parentCID", "ffffffff").lower() == "ffffffff" and "parentFileNameHint" not in fields
    _require(whole, f"The disk is only the difference to another file: {_OTHERS}.")
    extents = re.findall(r"^\s*(?:RW|RDONLY|NOACCESS)\s+\d+\s+(\w+)", text, re.MULTILINE)
    _require(extents == ["SPARSE"], f"The disk's content is in other files: {_OTHERS}.")


def _vdi(read_at: ReadAt, size: int) -> None:
    head = read_at(0, 512).ljust(512, b"\0")
    _require(head[64:68] == b"\x7f\x10\xda\xbe", _not("vdi"))
    kind = struct.unpack_from("<I", head, 76)[0]
    _require(kind in (1, 2), f"The disk is only the difference to another file (type {kind}): {_OTHERS}.")


def _vhd(read_at: ReadAt, size: int) -> None:
    footer = read_at(0, 512)
    if footer[:8] != b"conectix" and size >= 512:
        footer = read_at(size - 512, 512)
    _require(len(footer) == 512 and footer[:8] == b"conectix", _not("vhd"))
    kind = struct.unpack_from(">I", footer, 60)[0]
    _require(kind in (2, 3), f"The disk is only the difference to another file (type {kind}): {_OTHERS}.")


def _vhdx(read_at: ReadAt, size: int) -> None:
    # Its metadata say whether there is a parent; QEMU refuses such files itself.
    _require(read_at(0, 8) == b"vhdxfile", _not("vhdx"))


_CHECKS: dict[str, Callable[[ReadAt, int], None]] = {
    "qcow2": _qcow2,
    "vmdk": _vmdk,
    "vdi": _vdi,
    "vhd": _vhd,
    "vhdx": _vhdx,
}
