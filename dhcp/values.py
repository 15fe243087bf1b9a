"""How option values are typed: each type turns what people write into bytes, and bytes into that again.

RFC 2132 §2 (the basic types), RFC 1035 §4.1.4 and RFC 3397 (compressed domain lists), RFC 3442 (classless
routes), RFC 3004 (user classes). Encoders raise ValueError with what is wrong; decoders return None for bytes
that do not fit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Final

# A reply of one Ethernet frame has 1231 bytes for options; this leaves room for all that we add ourselves.
LONGEST: Final = 1000
_LABEL: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\Z")


@dataclass(frozen=True, slots=True)
class ValueType:
    """`wants` completes "must be …"; `encode` raises ValueError; `decode` gives None for impossible bytes."""

    wants: str
    encode: Callable[[object], bytes]
    decode: Callable[[bytes], object | None]


def from_hex(text: str) -> bytes:
    """`hex:01:02`, `hex:0102` or `hex:01 02` as bytes. Raises ValueError with the remedy."""
    digits = re.sub(r"[\s:.-]", "", text.strip()[4:])
    try:
        return bytes.fromhex(digits)
    except ValueError as error:
        raise ValueError('write bytes as pairs of hexadecimal digits, such as "hex:01:02:ff"') from error


def as_hex(data: bytes) -> str:
    """Bytes as `hex:01:02`."""
    return f"hex:{data.hex(':')}"


# --- text


def _text(value: object) -> bytes:
    if not isinstance(value, str):
        raise ValueError("give it in quotes")
    if not value:
        raise ValueError("it is empty; leave the option out instead")
    if not value.isprintable():
        raise ValueError('it holds control characters; bytes are written as "hex:01:02"')
    if value.strip().lower().startswith("hex:"):
        raise ValueError("hex: stands for bytes")
    return value.encode("utf-8")


def _text_of(data: bytes) -> str | None:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    usable = text.isprintable() and text and not text.strip().lower().startswith("hex:")
    return text if usable else None


def _name(value: object) -> bytes:
    data = _text(value)
    text = data.decode("utf-8").rstrip(".")
    if not all(_LABEL.match(label) for label in text.split(".")) or len(text) > 253:
        raise ValueError("letters, digits and hyphens, in labels of at most 63, with dots (IDNA as xn--…)")
    return text.encode("ascii")


def _name_of(data: bytes) -> str | None:
    try:
        return _name(data.decode("ascii")).decode("ascii") if not data.endswith(b".") else None
    except ValueError:
        return None


def _bytes(value: object) -> bytes:
    raise ValueError("")  # `hex:` was taken before


def _unknown(value: object) -> bytes:
    if not isinstance(value, str):
        raise ValueError("")
    return _text(value)


# --- numbers


def _number(value: object, low: int, high: int) -> int:
    if isinstance(value, str):
        try:
            value = int(value.strip(), 0)
        except ValueError as error:
            raise ValueError("") from error
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError("")
    return value


def _integer(size: int, signed: bool = False) -> ValueType:
    low, high = (-(1 << 8 * size - 1), (1 << 8 * size - 1) - 1) if signed else (0, (1 << 8 * size) - 1)

    def encode(value: object) -> bytes:
        return _number(value, low, high).to_bytes(size, "big", signed=signed)

    def decode(data: bytes) -> object | None:
        return int.from_bytes(data, "big", signed=signed) if len(data) == size else None

    return ValueType(f"a whole number from {low} to {high}", encode, decode)


def _integers(size: int) -> ValueType:
    high = (1 << 8 * size) - 1

    def encode(value: object) -> bytes:
        return b"".join(_number(item, 0, high).to_bytes(size, "big") for item in _items(value))

    def decode(data: bytes) -> object | None:
        if not data or len(data) % size:
            return None
        return [int.from_bytes(data[i : i + size], "big") for i in range(0, len(data), size)]

    return ValueType(f"a list of whole numbers from 0 to {high}", encode, decode)


_WORDS: Final = {"true": True, "yes": True, "on": True, "1": True,
                 "false": False, "no": False, "off": False, "0": False}  # fmt: skip


def _bool(value: object) -> bytes:
    truth = _WORDS.get(value.strip().lower()) if isinstance(value, str) else value
    if truth is not True and truth is not False and truth not in (0, 1):
        raise ValueError("")
    return b"\1" if truth else b"\0"


def _bool_of(data: bytes) -> bool | None:
    return {b"\0": False, b"\1": True}.get(data)


# --- addresses and routes


def _items(value: object) -> list[object]:
    """A list as it is, a text at its commas and blanks, anything else as one."""
    if isinstance(value, str):
        found: list[object] = list(re.split(r"[,\s]+", value.strip())) if value.strip() else []
    elif isinstance(value, list | tuple):
        found = list(value)
    else:
        found = [value]
    if not found:
        raise ValueError("it is empty; leave the option out instead")
    return found


def _address(value: object) -> bytes:
    if not isinstance(value, str):
        raise ValueError("")
    try:
        return IPv4Address(value.strip()).packed
    except ValueError as error:
        raise ValueError(f"{value!r} is none") from error


def _address_of(data: bytes) -> str | None:
    return str(IPv4Address(data)) if len(data) == 4 else None


def _addresses(value: object) -> bytes:
    return b"".join(_address(item) for item in _items(value))


def _addresses_of(data: bytes) -> list[str] | None:
    if not data or len(data) % 4:
        return None
    return [str(IPv4Address(data[i : i + 4])) for i in range(0, len(data), 4)]


def _addresses_or_none(value: object) -> bytes:
    return b"" if value in ([], (), "") else _addresses(value)


def _addresses_or_none_of(data: bytes) -> list[str] | None:
    return _addresses_of(data) if data else []


def _pairs(value: object) -> bytes:
    items = [value] if isinstance(value, str) else _items(value)
    pairs = [re.split(r"[\s,/]+|\s+via\s+", item.strip()) if isinstance(item, str) else [] for item in items]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("")
    return b"".join(_address(one) for pair in pairs for one in pair)


def _pairs_of(data: bytes) -> list[str] | None:
    if not data or len(data) % 8:
        return None
    found = _addresses_of(data) or []
    return [f"{left} {right}" for left, right in zip(found[::2], found[1::2], strict=True)]


def _routes(value: object) -> bytes:
    # One route in a text holds blanks; several in one text are told apart by commas.
    items = [part for part in value.split(",") if part.strip()] if isinstance(value, str) else _items(value)
    if not items:
        raise ValueError("it is empty; leave the option out instead")
    return b"".join(map(_route, items))


def _route(item: object) -> bytes:
    match = re.fullmatch(r"\s*(\S+)\s+via\s+(\S+)\s*", item) if isinstance(item, str) else None
    if match is None:
        raise ValueError(f"{item!r} is none")
    target, gateway = match.groups()
    try:
        network = IPv4Network("0.0.0.0/0" if target == "default" else target)
    except ValueError as error:
        raise ValueError(f"{target}: {error}") from error
    significant = (network.prefixlen + 7) // 8  # RFC 3442: the network's bytes that matter
    return bytes((network.prefixlen,)) + network.network_address.packed[:significant] + _address(gateway)


def _routes_of(data: bytes) -> list[str] | None:
    found: list[str] = []
    at = 0
    while at < len(data):
        prefix = data[at]
        significant = (prefix + 7) // 8
        end = at + 1 + significant + 4
        if prefix > 32 or end > len(data):
            return None
        network = data[at + 1 : at + 1 + significant].ljust(4, b"\0")
        try:
            target = IPv4Network((network, prefix))
        except ValueError:
            return None
        found.append(f"{target} via {IPv4Address(data[end - 4 : end])}")
        at = end
    return found or None


# --- names in DNS's own form, compressed


def _domains(value: object) -> bytes:
    out = bytearray()
    known: dict[tuple[str, ...], int] = {}
    for item in _items(value):
        if not isinstance(item, str):
            raise ValueError("")
        labels = tuple(_name(item).decode("ascii").split("."))
        while labels:
            key = tuple(label.lower() for label in labels)
            if key in known:
                out += (0xC000 | known[key]).to_bytes(2, "big")
                break
            if len(out) < 0x4000:
                known[key] = len(out)
            out += bytes((len(labels[0]),)) + labels[0].encode("ascii")
            labels = labels[1:]
        else:
            out.append(0)
    return bytes(out)


def _domains_of(data: bytes) -> list[str] | None:
    names: list[str] = []
    at = 0
    while at < len(data):
        found = _domain_at(data, at)
        if found is None:
            return None
        name, at = found
        names.append(name)
    return names or None


def _domain_at(data: bytes, at: int) -> tuple[str, int] | None:
    """The name that starts at `at`, and where the next one does."""
    labels: list[str] = []
    after: int | None = None
    lowest = at
    while at < len(data):
        size = data[at]
        if size == 0:
            name = ".".join(labels)
            return (name, after or at + 1) if name and len(name) <= 253 else None
        if size >= 0xC0:
            if at + 2 > len(data):
                return None
            target = int.from_bytes(data[at : at + 2], "big") & 0x3FFF
            after = after or at + 2
            if target >= lowest:  # pointers lead back, always further: no loop
                return None
            at = lowest = target
            continue
        label = data[at + 1 : at + 1 + size].decode("ascii", "replace")
        if size > 63 or at + 1 + size > len(data) or not _LABEL.match(label):
            return None
        labels.append(label)
        at += 1 + size
    return None


def _classes(value: object) -> bytes:
    texts = [_text(item) for item in (_items(value) if not isinstance(value, str) else [value])]
    if any(len(text) > 255 for text in texts):
        raise ValueError("")
    return b"".join(bytes((len(text),)) + text for text in texts)


def _classes_of(data: bytes) -> list[str] | str | None:
    """RFC 3004's list, or the bare text that iPXE and Windows send."""
    found: list[str] = []
    at = 0
    while at < len(data) and data[at] and at + 1 + data[at] <= len(data):
        text = _text_of(data[at + 1 : at + 1 + data[at]])
        if text is None:
            break
        found.append(text)
        at += 1 + data[at]
    return found if found and at == len(data) else _text_of(data)


_BYTES: Final = 'bytes, written as "hex:01:02:ff"'


def _unknown_of(data: bytes) -> str:
    return _text_of(data) or as_hex(data)


TYPES: Final[dict[str, ValueType]] = {
    "text": ValueType("a text", _text, _text_of),
    "name": ValueType("a name such as pc-1.example.org", _name, _name_of),
    "bytes": ValueType(_BYTES, _bytes, as_hex),
    "unknown": ValueType(f"a text, or {_BYTES}", _unknown, _unknown_of),
    "u8": _integer(1),
    "u16": _integer(2),
    "u32": _integer(4),
    "i32": _integer(4, signed=True),
    "u8s": _integers(1),
    "u16s": _integers(2),
    "bool": ValueType("true or false", _bool, _bool_of),
    "address": ValueType("an IPv4 address such as 10.20.0.1", _address, _address_of),
    "addresses": ValueType("a list of IPv4 addresses such as 10.20.0.1", _addresses, _addresses_of),
    "addresses0": ValueType("a list of IPv4 addresses, or []", _addresses_or_none, _addresses_or_none_of),
    "pairs": ValueType('a list of pairs of addresses such as "10.9.0.0 10.20.0.1"', _pairs, _pairs_of),
    "routes": ValueType('a list of routes such as "10.0.0.0/8 via 10.20.0.1"', _routes, _routes_of),
    "domains": ValueType("a list of domain names such as example.org", _domains, _domains_of),
    "classes": ValueType("a list of texts", _classes, _classes_of),
}
