"""A DHCP message as text, one fact per line: for logs, `explain` and the golden files of the tests."""

from __future__ import annotations

from dhcp import options as opt
from dhcp.packet import ANY, MessageType, Packet, printable

_ADDRESSES = {1, 3, 6, 28, 42, 50, 54, 118}
_SECONDS = {51, 58, 59}
_TEXT = {12, 15, 17, 56, 60, 66, 67}


def describe(packet: Packet) -> str:
    """Header fields that are set, then the options in the order they were read; ends with a newline."""
    kind = packet.message_type
    lines = [f"{'request' if packet.op == 1 else 'reply'} {_message_type(kind)} xid={packet.xid:08x}"]
    lines.append(f"hardware type {packet.htype} address {packet.chaddr.hex(':') or '-'}")
    for label in ("hops", "secs", "flags"):
        if value := getattr(packet, label):
            lines.append(f"{label} {value:#x}" if label == "flags" else f"{label} {value}")
    for label in ("ciaddr", "yiaddr", "siaddr", "giaddr"):
        if getattr(packet, label) != ANY:
            lines.append(f"{label} {getattr(packet, label)}")
    for label in ("sname", "file"):
        if getattr(packet, label):
            lines.append(f"{label} {printable(getattr(packet, label))}")
    lines.extend(f"option {opt.name(code)}: {_value(code, value)}" for code, value in packet.options.items())
    return "\n".join(lines) + "\n"


def _message_type(kind: int) -> str:
    try:
        return MessageType(kind).name
    except ValueError:
        return f"type-{kind}"


def _value(code: int, value: bytes) -> str:
    if code == opt.MESSAGE_TYPE and len(value) == 1:
        return _message_type(value[0])
    if code in _ADDRESSES and value and len(value) % 4 == 0:
        return " ".join(".".join(map(str, value[i : i + 4])) for i in range(0, len(value), 4))
    if code in _SECONDS and len(value) == 4:
        return f"{int.from_bytes(value, 'big')} s"
    if code == opt.PARAMETER_LIST:
        return " ".join(map(str, value))
    if code in _TEXT:
        return repr(printable(value))
    return value.hex() or "(empty)"
