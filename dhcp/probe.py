"""Who else answers here: asks for an address and for something to boot, takes neither, and names who replied.

    python -m dhcp.probe INTERFACE [--json] [--seconds 4.5]

Four DISCOVERs leave from one made-up hardware address: as an operating system, as UEFI and as BIOS firmware
(PXE), as UEFI HTTP Boot. No REQUEST for an address ever follows. A server that says `PXEClient` but names no
file is asked for it on port 4011 (PXE 2.1 §2.2.3), as firmware does; that binds nothing. `judge` is the core,
`dhcp.wire` has the frames; `probe` is the shell. Needs CAP_NET_RAW.
"""

from __future__ import annotations

import argparse
import json
import secrets
import select
import socket
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from dhcp import options as opt
from dhcp import wire
from dhcp.packet import ANY, BROADCAST_FLAG, MessageType, Packet, PacketError, printable

# dnsmasq looks for 3 s whether an address is free before it offers one to a newcomer.
SECONDS: Final = 4.5
# A server that looks for a conflict first keeps one question of a machine in mind: the others are repeated.
REPEATS: Final = (1.5, 3.0)
SECOND_ANSWER: Final = 1.5  # what a server gets for its answer on port 4011
MOST_REPLIES: Final = 500
HOST_NAME: Final = b"pxeboot-doctor"  # so that another server's administrator sees in the log who it was

_PXE_WISHES: Final = bytes((1, 3, 6, 12, 15, 43, 54, 60, 66, 67, 97, 128, 129, 130, 131, 132, 133, 134, 135))
_PLAIN_WISHES: Final = bytes((1, 3, 6, 12, 15, 28, 42, 51, 54, 66, 67, 119, 121))
# kind: option 60, option 93, option 94 (UNDI 3.0 on UEFI, 2.1 on BIOS)
KINDS: Final[dict[str, tuple[bytes, int, bytes]]] = {
    "plain": (b"", 0, b""),
    "uefi": (b"PXEClient:Arch:00007:UNDI:003000", 7, b"\x01\x03\x00"),
    "bios": (b"PXEClient:Arch:00000:UNDI:002001", 0, b"\x01\x02\x01"),
    "http": (b"HTTPClient:Arch:00016:UNDI:003000", 16, b"\x01\x03\x00"),
}


class ProbeError(Exception):
    """The interface cannot be asked on; the sentence says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What one datagram offered.

    Attributes:
        kind: which question it answers, a key of `KINDS`.
        source, source_mac, source_port: where it came from; behind a relay, the relay.
        server: option 54, else the source.
        address: the address offered, "" = none (a ProxyDHCP offer).
        next_server: siaddr, else option 66; "" = not said.
        file: option 67 or the header field: a name, or a URL; "" = none.
        vendor_class: option 60 of the reply.
        menu: texts of a PXE boot menu (43.9).
        port_4011: it came from there, as the second answer of a boot server.
    """

    kind: str
    source: str
    source_mac: str
    source_port: int
    server: str
    address: str = ""
    next_server: str = ""
    file: str = ""
    vendor_class: str = ""
    menu: tuple[str, ...] = ()
    port_4011: bool = False

    @property
    def proxy(self) -> bool:
        """It gives no address but speaks PXE."""
        return not self.address and self.vendor_class.startswith(("PXEClient", "HTTPClient"))

    @property
    def asks_for_4011(self) -> bool:
        """Firmware would go to port 4011 for the file's name."""
        return (
            self.kind in ("uefi", "bios")
            and self.vendor_class.startswith("PXEClient")
            and not self.file
            and not self.port_4011
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Everything one server said. `silent_4011`: it sent machines to port 4011 and did not answer there."""

    server: str
    sources: tuple[str, ...]
    macs: tuple[str, ...]
    replies: tuple[Reply, ...]
    silent_4011: tuple[str, ...] = ()

    @property
    def gives_addresses(self) -> bool:
        return any(reply.address for reply in self.replies)

    @property
    def proxy(self) -> bool:
        """It answers PXE without giving addresses."""
        return not self.gives_addresses and any(reply.proxy or reply.port_4011 for reply in self.replies)

    def boot(self, kind: str) -> Reply | None:
        """The reply that names what this kind of machine boots."""
        found = [reply for reply in self.replies if reply.kind == kind and reply.file]
        return found[0] if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What was heard on an interface.

    `own`: our address there, "" = none; `problems`: what was not asked; `ourselves`: whether a server of this
    very machine was asked, too.
    """

    interface: str
    mac: str
    own: str
    seconds: float
    servers: tuple[Server, ...]
    problems: tuple[str, ...] = ()
    ourselves: bool = True

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Probed:
        """What `to_dict` wrote, also after a trip through JSON. Raises ValueError."""
        try:
            servers = []
            for one in values["servers"]:
                replies = tuple(Reply(**{**r, "menu": tuple(r["menu"])}) for r in one["replies"])
                lists = {key: tuple(one[key]) for key in ("sources", "macs", "silent_4011")}
                servers.append(Server(**{**one, **lists, "replies": replies}))
            return cls(**{**values, "servers": tuple(servers), "problems": tuple(values["problems"])})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"this is not the outcome of a probe: {error}") from error


@dataclass(slots=True)
class Judge:
    """The core: what to ask, and what the datagrams that come back mean. Knows neither sockets nor time."""

    mac: bytes
    xid: int
    uuid: bytes
    replies: list[Reply] = field(default_factory=list)
    asked: dict[tuple[str, str], str] = field(default_factory=dict)  # (server, kind) -> where 4011 was asked

    def question(self, kind: str, secs: int = 0) -> Packet:
        """The DISCOVER of one kind of machine. The broadcast bit is set: we own no address to be told at."""
        vendor, architecture, undi = KINDS[kind]
        options: opt.Options = {opt.MESSAGE_TYPE: bytes((MessageType.DISCOVER,))}
        options[opt.PARAMETER_LIST] = _PXE_WISHES if vendor else _PLAIN_WISHES
        options[opt.MAX_MESSAGE_SIZE] = (1472).to_bytes(2, "big")
        options[opt.HOST_NAME] = HOST_NAME
        if vendor:
            options |= self._pxe(vendor, architecture, undi)
        number = list(KINDS).index(kind)
        return Packet(
            xid=(self.xid + number) & 0xFFFFFFFF,
            secs=secs,
            flags=BROADCAST_FLAG,
            chaddr=self.mac,
            options=options,
        )

    def second_question(self, kind: str, own: str) -> Packet:
        """What firmware asks on port 4011 when an offer had no file; `own` is where the answer goes."""
        options: opt.Options = {opt.MESSAGE_TYPE: bytes((MessageType.REQUEST,))}
        options[opt.PARAMETER_LIST] = _PXE_WISHES
        options[opt.MAX_MESSAGE_SIZE] = (1472).to_bytes(2, "big")
        options |= self._pxe(*KINDS[kind])
        first = self.question(kind)
        return replace(first, flags=0, ciaddr=own, options=options)

    def _pxe(self, vendor: bytes, architecture: int, undi: bytes) -> opt.Options:
        return {
            opt.VENDOR_CLASS: vendor,
            opt.CLIENT_ARCHITECTURE: architecture.to_bytes(2, "big"),
            opt.CLIENT_NDI: undi,
            opt.CLIENT_UUID: b"\0" + self.uuid,
        }

    def receive(self, payload: bytes, source: str, source_mac: str, source_port: int) -> Reply | None:
        """Take a datagram; None: not an answer to one of our questions, or the same again."""
        try:
            packet = Packet.parse(payload)
        except PacketError:
            return None
        number = (packet.xid - self.xid) & 0xFFFFFFFF
        if packet.op != 2 or number >= len(KINDS) or packet.chaddr != self.mac:
            return None
        if packet.message_type not in (0, MessageType.OFFER, MessageType.ACK):
            return None
        reply = self._read(packet, list(KINDS)[number], source, source_mac, source_port)
        if reply in self.replies or len(self.replies) >= MOST_REPLIES:
            return None
        self.replies.append(reply)
        return reply

    def _read(self, packet: Packet, kind: str, source: str, source_mac: str, source_port: int) -> Reply:
        options = packet.options
        menu = opt.suboptions(options.get(opt.VENDOR_SPECIFIC, b"")).get(9, b"")
        named = printable(options.get(opt.TFTP_SERVER_NAME, b""))
        return Reply(
            kind=kind,
            source=source,
            source_mac=source_mac,
            source_port=source_port,
            server=packet.server_identifier or source,
            address="" if packet.yiaddr == ANY or packet.message_type == MessageType.ACK else packet.yiaddr,
            next_server=packet.siaddr if packet.siaddr != ANY else named,
            file=printable(options.get(opt.BOOT_FILE_NAME, b"")) or printable(packet.file),
            vendor_class=printable(options.get(opt.VENDOR_CLASS, b"")),
            menu=tuple(_menu(menu)),
            port_4011=source_port == wire.PXE_PORT,
        )

    def servers(self) -> tuple[Server, ...]:
        """The replies by server, in the order of their first word."""
        names = dict.fromkeys(reply.server for reply in self.replies)
        return tuple(self._server(name) for name in names)

    def _server(self, name: str) -> Server:
        said = [reply for reply in self.replies if reply.server == name]
        heard = {reply.kind for reply in said if reply.port_4011}
        silent = [kind for (server, kind) in self.asked if server == name and kind not in heard]
        return Server(
            server=name,
            sources=tuple(dict.fromkeys(reply.source for reply in said)),
            macs=tuple(dict.fromkeys(reply.source_mac for reply in said if reply.source_mac)),
            replies=tuple(said),
            silent_4011=tuple(silent),
        )


def _menu(value: bytes) -> Iterable[str]:
    """Texts of PXE_BOOT_MENU (43.9): type (2 bytes), length (1), text, repeated. A cut one is left out."""
    at = 0
    while at + 3 <= len(value):
        end = at + 3 + value[at + 2]
        if end > len(value):
            return
        yield printable(value[at + 3 : end])
        at = end


def made_up_mac() -> bytes:
    """A random locally administered station address (IEEE 802-2014 §8.2: bit 1 set, bit 0 clear)."""
    return bytes((0x02 | (secrets.randbelow(64) << 2),)) + secrets.token_bytes(5)


def probe(interface: str, seconds: float = SECONDS, *, ourselves: bool = True) -> Probed:
    """Ask on `interface` and listen for `seconds` (at most SECOND_ANSWER more for port 4011).

    Raises ProbeError: no such interface, it is down, or not root.
    """
    judge = Judge(made_up_mac(), secrets.randbits(32), secrets.token_bytes(16))
    own = wire.address_of(interface)
    problems = [] if own else [f"{interface} has no address of its own, so port 4011 was asked nowhere"]
    try:
        with wire.Wire(interface, own, ourselves=ourselves) as line:
            _converse(judge, line, own, seconds)
    except PermissionError as error:
        raise ProbeError(f"asking on {interface} needs root (CAP_NET_RAW)") from error
    except OSError as error:
        raise ProbeError(f"{interface} cannot be asked on: {error.strerror or error}") from error
    return Probed(
        interface=interface,
        mac=judge.mac.hex(":"),
        own=own,
        seconds=seconds,
        servers=judge.servers(),
        problems=tuple(problems),
        ourselves=ourselves,
    )


def _converse(judge: Judge, line: wire.Wire, own: str, seconds: float) -> None:
    began = time.monotonic()
    end, repeats = began + seconds, [began + after for after in REPEATS if after < seconds]
    for kind in KINDS:
        line.broadcast(judge.question(kind).to_bytes())
    while (now := time.monotonic()) < end:
        if repeats and now >= repeats[0]:
            repeats.pop(0)
            answered = {reply.kind for reply in judge.replies}
            for kind in KINDS:
                if kind not in answered:
                    line.broadcast(judge.question(kind, secs=int(now - began) + 1).to_bytes())
        wait = min([end, *repeats[:1]]) - now
        readable, _, _ = select.select(line.sockets, [], [], max(wait, 0))
        for ready in readable:
            for payload, source, mac, port in line.read(ready):
                reply = judge.receive(payload, source, mac, port)
                if reply is None or not reply.asks_for_4011 or not own:
                    continue
                where = reply.next_server if _is_address(reply.next_server) else reply.server
                if (reply.server, reply.kind) not in judge.asked:
                    judge.asked[(reply.server, reply.kind)] = where
                    line.ask_4011(judge.second_question(reply.kind, own).to_bytes(), where)
                    end = min(max(end, now + SECOND_ANSWER), began + seconds + SECOND_ANSWER)


def _is_address(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET, text)
    except OSError:
        return False
    return True


def describe(server: Server) -> str:
    """One server in a line, for people."""
    what = ["gives addresses"] if server.gives_addresses else ["gives no addresses"]
    for kind in KINDS:
        reply = server.boot(kind)
        if reply:
            what.append(f"{kind}: {reply.file}" + (f" from {reply.next_server}" if reply.next_server else ""))
    if server.silent_4011:
        what.append("silent on port 4011")
    return f"{server.server} ({', '.join(server.macs) or 'this machine'}): {'; '.join(what)}"


def main(arguments: list[str] | None = None) -> int:
    """The command. 0: asked (whether anybody answered or not); 1: could not ask."""
    parser = argparse.ArgumentParser(prog="python -m dhcp.probe", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("interface")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--others-only", action="store_true", help="do not ask a server of this machine")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    given = parser.parse_args(arguments)
    try:
        found = probe(given.interface, min(max(given.seconds, 0.1), 30.0), ourselves=not given.others_only)
    except ProbeError as error:
        print(json.dumps({"error": str(error)}) if given.json else f"dhcp.probe: {error}")
        return 1
    if given.json:
        print(json.dumps(found.to_dict()))
        return 0
    for problem in found.problems:
        print(problem, file=sys.stderr)
    print("\n".join(map(describe, found.servers)) or f"nobody answered on {given.interface}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
