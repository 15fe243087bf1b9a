"""The client's side of DHCP conversations, for tests: what each kind of machine sends, in one line each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

from dhcp import options as opt
from dhcp.actions import Action, Arrival, Noted, Send
from dhcp.bootfile import BootFile
from dhcp.packet import MessageType, Packet
from dhcp.pxe import PxeClient
from dhcp.responder import Responder
from dhcp.subnets import SubnetConfig

SERVER = "10.20.0.1"
MAC = "52:54:00:aa:bb:01"
OTHER = "52:54:00:aa:bb:02"
UUID = bytes.fromhex("00112233445566778899aabbccddeeff")
LINK = Arrival(interface="eth0", address=SERVER)
# A client that got 10.20.0.77 from another server, and asks as EDK2 does: from 4011 to 4011.
AT_4011 = Arrival(
    interface="eth0", address=SERVER, destination=SERVER, source="10.20.0.77", source_port=4011, port=4011
)
NOW = 1_800_000_000.0


Make = Callable[..., Responder]


class Shelf:
    """A BootChoice as a site would have it: BIOS to iPXE, UEFI to shim, iPXE to its script."""

    def __init__(self, server: str = SERVER) -> None:
        self.server = server

    def choose(self, client: PxeClient, now: float, server: str) -> BootFile | None:
        if client.http:
            uri = f"http://{self.server}/boot/files/shimx64.efi"
            return BootFile(self.server, "shimx64.efi", "UEFI HTTP Boot", uri=uri)
        if client.ipxe:
            script = f"http://{self.server}/boot/ipxe?mac={client.mac}"
            return BootFile(self.server, script, "iPXE takes its script by HTTP")
        files = {
            "bios": "undionly.kpxe",
            "x64-uefi": "shimx64.efi",
            "x86-uefi": "bootia32.efi",
            "arm64-uefi": "shimaa64.efi",
        }
        file = files.get(client.architecture.name)
        return BootFile(self.server, file, f"first loader for {client.architecture.name}") if file else None


def subnet(**changes: Any) -> SubnetConfig:
    """10.20.0.0/24 on eth0 with a pool of 41 addresses."""
    given: dict[str, Any] = {
        "network": IPv4Network("10.20.0.0/24"),
        "interface": "eth0",
        "ranges": (("10.20.0.10", "10.20.0.50"),),
        "routers": (SERVER,),
        "dns": (SERVER,),
        "domain": "example.org",
        "conflict_probe": False,
    }
    return SubnetConfig(**{**given, **changes})


def message(
    kind: MessageType, mac: str = MAC, options: dict[int, bytes] | None = None, **fields: Any
) -> Packet:
    first = {opt.MESSAGE_TYPE: bytes((kind,))}
    chaddr = bytes.fromhex(mac.replace(":", ""))
    return Packet(**{"xid": 0x1234, "chaddr": chaddr, "options": {**first, **(options or {})}, **fields})


def plain(mac: str = MAC, kind: MessageType = MessageType.DISCOVER, **fields: Any) -> Packet:
    """An operating system, as systemd-networkd or dhclient would ask."""
    options = {
        opt.PARAMETER_LIST: bytes((1, 28, 2, 3, 15, 6, 12, 42)),
        opt.HOST_NAME: b"pc-1",
        opt.CLIENT_IDENTIFIER: b"\xff" + mac.encode(),
    }
    return message(kind, mac, options, **fields)


def pxe(mac: str = MAC, arch: int = 0, uuid: bytes | None = b"\0" + UUID, **fields: Any) -> Packet:
    """A PXE ROM: broadcast bit set, the options of PXE 2.1 table 2-1."""
    options = {
        opt.PARAMETER_LIST: bytes((1, 2, 3, 5, 6, 11, 12, 13, 15, 16, 17, 18, 43, 54, 60, 67, 128, 129, 130)),
        opt.MAX_MESSAGE_SIZE: (1260).to_bytes(2, "big"),
        opt.CLIENT_ARCHITECTURE: arch.to_bytes(2, "big"),
        opt.CLIENT_NDI: b"\x01\x02\x01",
        opt.VENDOR_CLASS: f"PXEClient:Arch:{arch:05}:UNDI:002001".encode(),
    }
    if uuid is not None:
        options[opt.CLIENT_UUID] = uuid
    return message(MessageType.DISCOVER, mac, options, **{"flags": 0x8000, **fields})


def uefi(mac: str = MAC, arch: int = 7, **fields: Any) -> Packet:
    """EDK2: 1472 bytes, broadcast bit set, as OVMF sends it (captures/ovmf.hex)."""
    packet = pxe(mac, arch, **fields)
    packet.options[opt.MAX_MESSAGE_SIZE] = (1472).to_bytes(2, "big")
    return packet


def http_boot(mac: str = MAC, arch: int = 16) -> Packet:
    packet = uefi(mac, arch)
    packet.options[opt.VENDOR_CLASS] = f"HTTPClient:Arch:{arch:05}:UNDI:003001".encode()
    return packet


def ipxe(mac: str = MAC, arch: int = 0) -> Packet:
    """iPXE: raw user class, feature list, no broadcast bit, a client identifier unlike the ROM's."""
    packet = pxe(mac, arch, flags=0)
    packet.options[opt.USER_CLASS] = b"iPXE"
    packet.options[opt.IPXE_ENCAPSULATED] = bytes.fromhex("b105018086100e130101140101180101210101")
    packet.options[opt.CLIENT_IDENTIFIER] = b"\x01" + packet.chaddr
    return packet


def boot_request(discover: Packet, address: str = "10.20.0.77", **options: bytes) -> Packet:
    """What a PXE client sends to port 4011: ciaddr filled, no broadcast bit; `o43=b"..."` adds option 43."""
    more = {int(name[1:]): value for name, value in options.items()}
    kind = {opt.MESSAGE_TYPE: bytes((MessageType.REQUEST,))}
    return replace(discover, ciaddr=address, flags=0, options={**discover.options, **kind, **more})


def request(discover: Packet, offer: Packet) -> Packet:
    """The REQUEST of a client in SELECTING that takes this offer (RFC 2131 table 4)."""
    options = {
        **discover.options,
        opt.MESSAGE_TYPE: bytes((MessageType.REQUEST,)),
        opt.REQUESTED_ADDRESS: opt.addresses([offer.yiaddr]),
        opt.SERVER_IDENTIFIER: offer.options[opt.SERVER_IDENTIFIER],
    }
    return replace(discover, options=options, xid=offer.xid)


def sent(actions: list[Action]) -> Send:
    """The one reply, as the client will read it: through the wire format."""
    (send,) = [action for action in actions if isinstance(action, Send)]
    return replace(send, packet=Packet.parse(send.data()))


def silent(actions: list[Action]) -> bool:
    return not any(isinstance(action, Send) for action in actions)


def noted(actions: list[Action]) -> Noted:
    (note,) = [action for action in actions if isinstance(action, Noted)]
    return note


def dora(responder: Responder, discover: Packet, now: float = NOW) -> Packet:
    """DISCOVER to ACK; the ACK."""
    offer = sent(responder.handle(discover, LINK, now)).packet
    assert offer.message_type == MessageType.OFFER
    ack = sent(responder.handle(request(discover, offer), LINK, now + 1)).packet
    assert (ack.message_type, ack.yiaddr, ack.xid) == (MessageType.ACK, offer.yiaddr, discover.xid)
    return ack


def seconds(packet: Packet) -> int:
    return int.from_bytes(packet.options[opt.LEASE_TIME], "big")


def reboot(mac: str, address: str) -> Packet:
    return message(MessageType.REQUEST, mac, {opt.REQUESTED_ADDRESS: opt.addresses([address])})
