"""A DHCP message as text, one fact per line: for logs, `explain` and the golden files of the tests."""

from __future__ import annotations

from dhcp import options as opt
from dhcp.catalog import format_option
from dhcp.packet import ANY, MessageType, Packet, printable

_SECONDS = {opt.LEASE_TIME, opt.RENEWAL_TIME, opt.REBINDING_TIME}


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
    lines.extend(describe_option(code, value) for code, value in packet.options.items())
    return "\n".join(lines) + "\n"


def describe_option(code: int, data: bytes) -> str:
    """`option 54 dhcp-server-identifier: 10.20.0.1`; bytes that make no sense as `hex:…`."""
    name, value = format_option(code, data)
    label = f"option {code}" if name == str(code) else f"option {code} {name}"
    if code == opt.MESSAGE_TYPE and len(data) == 1:
        value = _message_type(data[0])
    elif code in _SECONDS and isinstance(value, int):
        value = f"{value} s"
    elif isinstance(value, list):
        # Routes and pairs have blanks inside.
        value = (", " if any(" " in str(item) for item in value) else " ").join(map(str, value))
    elif isinstance(value, str) and not value.startswith("hex:") and not _is_address(value):
        value = repr(value)
    return f"{label}: {value}"


def _is_address(value: str) -> bool:
    return value.count(".") == 3 and value.replace(".", "").isdigit()


def _message_type(kind: int) -> str:
    try:
        return MessageType(kind).name
    except ValueError:
        return f"type-{kind}"
