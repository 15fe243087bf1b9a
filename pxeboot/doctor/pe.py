"""A UEFI program's signatures and its SBAT, read from the file (PE/COFF, Microsoft's Authenticode format).

Nothing here trusts a length or offset of the file: any bytes become a `Program` or a `PeError`.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

_CERTIFICATE_ENTRY: Final = 4  # index in the data directory
_PKCS_SIGNED_DATA: Final = 2
_MOST_SECTIONS: Final = 96  # the format's own limit
_MOST_SIGNATURES: Final = 16


class PeError(Exception):
    """The bytes are no PE program, or one that is cut off."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the program: its bytes on disk lie at `offset`, `size` of them."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Program:
    """What concerns Secure Boot.

    `signatures`: the PKCS #7 blobs, in the file's order. `digest`: SHA-256 of the signed part. `sbat`:
    (component, generation) pairs. `vendor`: certificates that a shim carries, DER. `revoked`: the newest
    SBAT level a shim enforces.
    """

    machine: int
    signatures: tuple[bytes, ...]
    digest: bytes
    sbat: tuple[tuple[str, int], ...]
    vendor: tuple[bytes, ...]
    revoked: tuple[tuple[str, int], ...]


def parse(data: bytes) -> Program:
    """Read a program. Raises PeError, and nothing else."""
    try:
        return _parse(data)
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise PeError(f"not a whole PE program: {error}") from error


def _parse(data: bytes) -> Program:
    if data[:2] != b"MZ":
        raise PeError("it does not begin with MZ")
    (start,) = struct.unpack_from("<I", data, 0x3C)
    if data[start : start + 4] != b"PE\0\0":
        raise PeError("it has no PE header")
    machine, count = struct.unpack_from("<HH", data, start + 4)
    (optional_size,) = struct.unpack_from("<H", data, start + 20)
    optional = start + 24
    (magic,) = struct.unpack_from("<H", data, optional)
    if magic not in (0x10B, 0x20B):
        raise PeError(f"its optional header has the unknown kind {magic:#x}")
    directory = optional + (96 if magic == 0x10B else 112)
    (headers,) = struct.unpack_from("<I", data, optional + 60)
    (entries,) = struct.unpack_from("<I", data, directory - 4)
    table = certificates = 0
    if entries > _CERTIFICATE_ENTRY:
        table, certificates = struct.unpack_from("<II", data, directory + 8 * _CERTIFICATE_ENTRY)
    if table + certificates > len(data):
        raise PeError("its certificates lie beyond its end: the file is cut off")
    if count > _MOST_SECTIONS:
        raise PeError(f"it claims to have {count} sections")
    sections = list(_sections(data, optional + optional_size, count))
    parts = {section.name: data[section.offset : section.offset + section.size] for section in sections}
    signed_entry = directory + 8 * _CERTIFICATE_ENTRY if entries > _CERTIFICATE_ENTRY else 0
    return Program(
        machine=machine,
        signatures=tuple(_signatures(data[table : table + certificates] if table else b"")),
        digest=_digest(data, optional + 64, signed_entry, headers, sections, certificates),
        sbat=sbat_in(parts.get(".sbat", b"")),
        vendor=tuple(_vendor(parts.get(".vendor_cert", b""))),
        revoked=_level(parts.get(".sbatlevel", b"")),
    )


def _sections(data: bytes, at: int, count: int) -> list[Section]:
    found = []
    for number in range(count):
        name, _, _, size, offset = struct.unpack_from("<8sIIII", data, at + 40 * number)
        if size and offset + size > len(data):
            raise PeError("a section lies beyond its end: the file is cut off")
        text = name.rstrip(b"\0").decode("ascii", "replace")
        if text.startswith("/") and text[1:].isdigit():  # a long name, in the string table (GNU)
            text = _long_name(data, int(text[1:]))
        found.append(Section(text, offset, size))
    return found


def _long_name(data: bytes, at: int) -> str:
    (start,) = struct.unpack_from("<I", data, 0x3C)
    symbols, count = struct.unpack_from("<II", data, start + 12)
    text = data[symbols + 18 * count + at :][:64]
    return text.partition(b"\0")[0].decode("ascii", "replace") if symbols else ""


def _signatures(table: bytes) -> list[bytes]:
    """WIN_CERTIFICATE entries, each a multiple of 8 long."""
    found: list[bytes] = []
    at = 0
    while at + 8 <= len(table) and len(found) < _MOST_SIGNATURES:
        length, _, kind = struct.unpack_from("<IHH", table, at)
        if length < 8 or at + length > len(table):
            raise PeError("its certificate table is damaged")
        if kind == _PKCS_SIGNED_DATA:
            found.append(table[at + 8 : at + length])
        at += (length + 7) & ~7
    return found


def _digest(
    data: bytes, checksum: int, entry: int, headers: int, sections: list[Section], certificates: int
) -> bytes:
    """Authenticode's hash: headers without checksum and certificate entry, sections by offset, the rest."""
    hashed = hashlib.sha256(data[:checksum])
    if entry:
        hashed.update(data[checksum + 4 : entry])
        hashed.update(data[entry + 8 : headers])
    else:
        hashed.update(data[checksum + 4 : headers])
    done = headers
    for section in sorted(sections, key=lambda section: section.offset):
        if section.size:
            hashed.update(data[section.offset : section.offset + section.size])
            done += section.size
    if len(data) > done + certificates:
        hashed.update(data[done : len(data) - certificates])
    return hashed.digest()


def sbat_in(section: bytes) -> tuple[tuple[str, int], ...]:
    """Component and generation of each line (SBAT is comma separated text, ended by NUL)."""
    found = []
    for line in section.partition(b"\0")[0].decode("utf-8", "replace").splitlines()[:64]:
        fields = line.split(",")
        if len(fields) >= 2 and fields[1].isdigit() and len(fields[1]) < 10:
            found.append((fields[0], int(fields[1])))
    return tuple(found)


def _vendor(section: bytes) -> list[bytes]:
    """shim's own certificate (struct cert_table: sizes and offsets of the allowed and the denied ones)."""
    if len(section) < 16:
        return []
    size, _, offset, _ = struct.unpack_from("<IIII", section)
    blob = section[offset : offset + size]
    return [blob] if blob[:1] == b"\x30" else []


def _level(section: bytes) -> tuple[tuple[str, int], ...]:
    """The newest of the revocation levels a shim brings: the text that begins last with `sbat,1,`."""
    at = section.rfind(b"sbat,1,")
    return sbat_in(section[at:]) if at >= 0 else ()
