"""The interface that faces the machines: there, up, connected, with an address that is ours alone."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any, Final

from pxeboot.doctor.finding import N_, Finding
from pxeboot.doctor.site import Site, Wire, site_of
from pxeboot.settings import Settings

CHECK: Final = "interface"

_ARPHRD_ETHER: Final = 1
_IFF_UP, _IFF_MULTICAST = 0x1, 0x1000
_IFA_F_PERMANENT: Final = 0x80
_ETH_P_ARP: Final = 0x0806
ARP_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One IPv4 address. `dynamic`: a DHCP client keeps it, and may lose it."""

    interface: IPv4Interface
    dynamic: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What the kernel says of an interface. `exists` false: nothing else counts."""

    name: str
    exists: bool = True
    up: bool = False
    carrier: bool = False
    mac: str = ""
    mtu: int = 0
    multicast: bool = True
    bridge: str = ""  # it is this bridge, or a port of it
    addresses: tuple[Address, ...] = ()
    taken_by: dict[str, str] = field(default_factory=dict)  # address of ours -> hardware address of another
    rp_filter: int = 0
    forwarding: bool = False
    other_links: tuple[str, ...] = ()  # further interfaces with an address, but loopback
    known_names: tuple[str, ...] = ()


def judge(wire: Wire, link: Link, site: Site) -> list[Finding]:
    """What is wrong with this interface; one `ok` when nothing is."""
    name = wire.interface
    facts: dict[str, Any] = {"interface": name}

    def say(level: Any, sentence: str, remedy: str = "", **more: Any) -> Finding:
        return Finding(CHECK, level, name, sentence, remedy, {**facts, **more})

    if not link.exists:
        return [
            say(
                "error",
                N_("There is no interface %(interface)s on this machine; it has: %(others)s."),
                N_("Correct network.interface in the settings."),
                others=list(link.known_names) or ["-"],
            )
        ]
    if not link.up:
        return [
            say(
                "error",
                N_("%(interface)s is switched off."),
                N_("Switch it on: `ip link set %(interface)s up`, and so in the system's network settings."),
            )
        ]
    found = []
    if not link.carrier:
        found.append(
            say(
                "error",
                N_("%(interface)s is up but has no carrier: nothing is connected to it."),
                N_("Look at cable, switch port and VLAN (in a virtual machine: at its network)."),
            )
        )
    found += _addresses(wire, link, site, say)
    found += _surroundings(link, say)
    if not found:
        own = [str(address.interface) for address in link.addresses]
        found.append(
            say(
                "ok",
                N_("%(interface)s is up with %(addresses)s (MTU %(mtu)s)."),
                addresses=own,
                mtu=link.mtu,
                mac=link.mac,
            )
        )
    return found


def _addresses(wire: Wire, link: Link, site: Site, say: Any) -> list[Finding]:
    own = [str(address.interface.ip) for address in link.addresses]
    if not own:
        return [
            say(
                "error",
                N_("%(interface)s has no IPv4 address: we cannot serve on it."),
                N_("Give it a fixed one, e.g. `ip address add 10.20.0.10/24 brd + dev %(interface)s`."),
            )
        ]
    found = []
    if wire.address and wire.address not in own:
        found.append(
            say(
                "error",
                N_("network.address = %(wanted)s is not an address of %(interface)s (it has %(addresses)s)."),
                N_("Correct network.address, or give the interface that address."),
                wanted=wire.address,
                addresses=own,
            )
        )
    if not wire.address and len(own) > 1:
        found.append(
            say(
                "note",
                N_("%(interface)s has several addresses (%(addresses)s); we use the first."),
                N_("Set network.address to the one machines shall use."),
                addresses=own,
            )
        )
    used = wire.address if wire.address in own else own[0]
    serving = site.subnets
    if wire.mode != "off" and serving and not any(IPv4Address(used) in network for network in serving):
        found.append(
            say(
                "warning",
                N_(
                    "Our address %(address)s on %(interface)s is in none of the served subnets (%(subnets)s)."
                ),
                N_("Correct dhcp.subnet, or the address; right only where all machines are behind relays."),
                address=used,
                subnets=[str(network) for network in serving],
            )
        )
    for address, mac in link.taken_by.items():
        found.append(
            say(
                "error",
                N_("%(address)s on %(interface)s is ours, and %(mac)s answers for it, too."),
                N_("Two machines have the same address: give one of them another."),
                address=address,
                mac=mac,
            )
        )
    if any(address.dynamic for address in link.addresses if str(address.interface.ip) == used):
        found.append(
            say(
                "warning",
                N_("Our address %(address)s on %(interface)s is itself leased from a DHCP server."),
                N_("Give the server a fixed address: machines are told it for as long as a lease lasts."),
                address=used,
            )
        )
    return found


def _surroundings(link: Link, say: Any) -> list[Finding]:
    found = []
    if link.mtu < 1500:
        found.append(
            say(
                "warning",
                N_("The MTU of %(interface)s is %(mtu)s: boot ROMs send and expect frames of 1500 bytes."),
                N_("Set it to 1500 (tunnels and overlay networks: raise the outer one)."),
                mtu=link.mtu,
            )
        )
    elif link.mtu > 1500:
        found.append(
            say(
                "note",
                N_("The MTU of %(interface)s is %(mtu)s; boot ROMs cannot take frames above 1500 bytes."),
                N_("Set it to 1500 unless every machine and switch on this network has the same MTU."),
                mtu=link.mtu,
            )
        )
    if not link.multicast:
        found.append(
            say(
                "error",
                N_("%(interface)s does not do multicast: deploys will all go by HTTP."),
                N_("Use an Ethernet interface, or `ip link set %(interface)s multicast on`."),
            )
        )
    if link.rp_filter == 1 and link.other_links:
        found.append(
            say(
                "warning",
                N_(
                    "Strict reverse-path filtering (rp_filter = 1) on %(interface)s drops requests whose "
                    "answer would leave by another interface (%(others)s)."
                ),
                N_("`sysctl net.ipv4.conf.%(interface)s.rp_filter=2` where machines come through routers."),
                others=list(link.other_links),
            )
        )
    if link.forwarding:
        found.append(
            say(
                "note",
                N_(
                    "This machine routes between its networks (IPv4 forwarding); pxeboot needs no such thing."
                ),
                N_("`sysctl net.ipv4.ip_forward=0`, unless it is a router or has containers."),
            )
        )
    return found


def read_link(wire: Wire, *, probe: bool = True) -> Link:
    """Ask the kernel, and with `probe` the network whether somebody else has our addresses (needs root)."""
    name = wire.interface
    addresses = read_addresses()
    about = Path("/sys/class/net") / name
    names = tuple(sorted(known for _, known in socket.if_nameindex()))
    if name not in names:
        return Link(name=name, exists=False, known_names=tuple(one for one in names if one != "lo"))
    own = tuple(address for where, address in addresses if where == name)
    flags = int(_text(about / "flags") or "0", 16)
    mac = _text(about / "address")
    carrier = _text(about / "carrier") != "0"
    taken = {}
    # Without a carrier nobody can answer, and once the link's queue is gone sending fails with ENOBUFS.
    if probe and flags & _IFF_UP and carrier and len(mac) == 17:
        taken = duplicates(name, mac, [str(one.interface.ip) for one in own])
    conf = Path("/proc/sys/net/ipv4")
    filters = [_text(conf / "conf" / where / "rp_filter") or "0" for where in ("all", name)]
    return Link(
        name=name,
        up=bool(flags & _IFF_UP),
        carrier=carrier,
        mac=mac,
        mtu=int(_text(about / "mtu") or 0),
        multicast=bool(flags & _IFF_MULTICAST),
        bridge=as_bridge(name) or bridge_of(name),
        addresses=own,
        taken_by=taken,
        rp_filter=max(map(int, filters)),
        forwarding=_text(conf / "ip_forward") == "1",
        other_links=tuple(
            dict.fromkeys(
                where for where, one in addresses if where != name and not one.interface.ip.is_loopback
            )
        ),
        known_names=names,
    )


def bridge_of(name: str) -> str:
    """The bridge an interface is a port of; "" = none."""
    master = Path("/sys/class/net") / name / "brport" / "bridge"
    return master.resolve().name if master.exists() else ""


def as_bridge(name: str) -> str:
    """The interface's name if it is itself a bridge; "" otherwise."""
    return name if (Path("/sys/class/net") / name / "bridge").is_dir() else ""


def read_addresses() -> list[tuple[str, Address]]:
    """(interface, address) of every IPv4 address here, in the kernel's order. Raises OSError."""
    from pyroute2 import IPRoute  # 40 ms of import

    names = dict(socket.if_nameindex())
    found = []
    with IPRoute() as route:
        for item in route.get_addr(family=socket.AF_INET):
            text = f"{item.get('local') or item.get('address')}/{item['prefixlen']}"
            dynamic = not int(item["flags"]) & _IFA_F_PERMANENT
            name = names.get(int(item["index"]), "?")
            found.append((name, Address(interface=IPv4Interface(text), dynamic=dynamic)))
    return found


def site_here(settings: Settings) -> Site:
    """The settings as they are meant on this machine. Never raises."""
    try:
        return site_of(settings, [(name, one.interface) for name, one in read_addresses()])
    except OSError:
        return site_of(settings)


def duplicates(interface: str, mac: str, addresses: Sequence[str]) -> dict[str, str]:
    """Address -> hardware address of another machine that answers for it (RFC 5227 §2.1.1 probes, twice).

    Waits ARP_SECONDS. Raises OSError: not root, interface down.
    """
    own = bytes.fromhex(mac.replace(":", ""))
    found: dict[str, str] = {}
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as line:
        line.bind((interface, _ETH_P_ARP))
        for _ in range(2):
            for address in addresses:
                question = arp_probe(own, address)
                line.sendto(question, (interface, _ETH_P_ARP, 0, 0, b"\xff" * 6))
            end = time.monotonic() + ARP_SECONDS / 2
            while (left := end - time.monotonic()) > 0:
                if not select.select([line], [], [], left)[0]:
                    break
                said = read_arp(line.recv(256))
                if said and said[0] in addresses and said[1] != mac.lower():
                    found[said[0]] = said[1]
    return found


def arp_probe(mac: bytes, address: str) -> bytes:
    """Who has `address`? From an address-less sender, so that no neighbour's table changes."""
    head = struct.pack("!HHBBH", _ARPHRD_ETHER, 0x0800, 6, 4, 1)
    return head + mac + b"\0" * 4 + b"\0" * 6 + socket.inet_aton(address)


def read_arp(data: bytes) -> tuple[str, str] | None:
    """(address, hardware address) that the sender of an ARP reply says of itself; None for anything else."""
    if len(data) < 28 or data[:8] != struct.pack("!HHBBH", _ARPHRD_ETHER, 0x0800, 6, 4, 2):
        return None
    return socket.inet_ntoa(data[14:18]), data[8:14].hex(":")


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # `carrier` of an interface that is down
        return ""
