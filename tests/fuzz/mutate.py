"""Where wrong datagrams come from: captures of real firmware, good messages, and ways to spoil them."""

from __future__ import annotations

import os
import random
from pathlib import Path

from dhcp import options as opt
from dhcp.packet import MessageType, Packet
from tests.dhcp.conversation import ipxe, message, plain, pxe

CAPTURES = Path(__file__).parents[1] / "dhcp" / "captures"
#: How many datagrams a storm has: `PXEBOOT_FUZZ=1000000` at night (`make fuzz`).
STORM = int(os.environ.get("PXEBOOT_FUZZ", "20000"))


def dhcp_seeds() -> list[bytes]:
    """What firmware and operating systems really sent, and one message of every kind and form."""
    seeds = [
        bytes.fromhex(line) for path in sorted(CAPTURES.glob("*.hex")) for line in path.read_text().split()
    ]
    relay = {opt.RELAY_AGENT_INFORMATION: bytes.fromhex("0104ff00ff00050410141400")}
    made = [plain(), pxe(), ipxe(), plain(giaddr="10.20.0.254")]
    made += [message(kind, options=relay, giaddr="10.20.0.254", ciaddr="10.20.0.10") for kind in MessageType]
    made += [message(kind, ciaddr="10.20.0.11") for kind in MessageType]
    bootp = Packet(chaddr=b"\x52\x54\0\0\0\1")
    return [*seeds, *(packet.to_bytes(1500) for packet in (*made, bootp))]


def tftp_seeds() -> list[bytes]:
    """Requests as shim, GRUB and iPXE send them, and the packets of transfers."""
    return [
        b"\0\1shimx64.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0",
        b"\0\1/grub/grub.cfg\0octet\0blksize\x001024\0tsize\x000\0",
        b"\0\1undionly.kpxe\0octet\0blksize\x001432\0tsize\x000\0timeout\x003\0",
        b"\0\1boot.txt\0netascii\0",
        b"\0\2upload\0octet\0",
        b"\0\3\0\1" + bytes(512),
        b"\0\4\0\1",
        b"\0\5\0\x08User aborted the transfer\0",
        b"\0\6tsize\x0099\0",
    ]


def mutate(data: bytes, chance: random.Random, behind: int = 240) -> bytes:
    """Flip, cut, double or insert bytes: mostly from `behind` on, where DHCP has its options."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        late = chance.random() < 0.8 and len(changed) > behind + 1
        at = chance.randrange(behind if late else 0, len(changed) or 1)
        match chance.randrange(6):
            case 0 if changed:
                changed[at % len(changed)] = chance.randrange(256)
            case 1:
                del changed[at : at + chance.randint(1, 40)]
            case 2:
                changed[at:at] = chance.randbytes(chance.randint(1, 300))
            case 3:
                changed[at:at] = changed[at : at + 60]
            case 4 if len(changed) > behind:  # a length byte that lies
                changed[chance.randrange(behind, len(changed))] = chance.choice((0, 1, 4, 127, 254, 255))
            case _:
                changed = changed[: max(at, 1)]
        if not changed:
            break
    return bytes(changed)
