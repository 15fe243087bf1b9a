"""Whether multicast can work on an interface: our own copy returns, and snooping switches are kept awake."""

from __future__ import annotations

import secrets
import select
import socket
import struct
import time
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from pxeboot.doctor.finding import N_, Finding, not_looked
from pxeboot.doctor.site import Site, Wire

CHECK: Final = "multicast"
QUERY_SECONDS: Final = 130.0  # queriers ask every 125 s (RFC 3376 §8.2)
HEAR_SECONDS: Final = 1.0

_ETH_P_IP: Final = 0x0800
_IGMP, _MEMBERSHIP_QUERY = 2, 0x11


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What was tried. `querier`: who asks for memberships, "" = nobody heard, None = not listened for.

    `bridge`: the Linux bridge the interface is, or is on; `snooping` and `bridge_querier`: its settings.
    """

    group: str
    echo: bool
    problem: str = ""
    querier: str | None = None
    deaf: str = ""  # why nobody could listen
    bridge: str = ""
    snooping: bool = False
    bridge_querier: bool = False
    ours: bool = False  # multicast.querier is on


def scratch_group(site: Site) -> str:
    """The last of our groups: sessions take the first ones."""
    return str(IPv4Address(site.group_base) + site.group_count - 1)


def judge(wire: Wire, heard: Heard) -> list[Finding]:
    """What it means for deploys."""
    facts: dict[str, Any] = {
        "interface": wire.interface,
        "group": heard.group,
        "problem": heard.problem,
        "querier": heard.querier or "",
        "bridge": heard.bridge,
    }

    def say(level: Any, sentence: str, remedy: str = "") -> Finding:
        return Finding(CHECK, level, wire.interface, sentence, remedy, facts)

    found = []
    if heard.problem:
        found.append(
            say(
                "error",
                N_("Group %(group)s cannot be used on %(interface)s: %(problem)s."),
                N_(
                    "Look at the interface (`pxeboot doctor --only interface`); without multicast deploys go "
                    "by HTTP."
                ),
            )
        )
    elif not heard.echo:
        found.append(
            say(
                "error",
                N_("What we send to group %(group)s on %(interface)s does not come back to this machine."),
                N_("A firewall here drops multicast: `pxeboot doctor --only firewall`."),
            )
        )
    if heard.ours and not heard.querier:
        found.append(
            say("ok", N_("Multicast leaves %(interface)s, and this server asks for memberships (IGMP)."))
        )
    elif heard.snooping and not heard.bridge_querier and not heard.querier:
        found.append(
            say(
                "warning",
                N_(
                    "The bridge %(bridge)s snoops IGMP but asks for no memberships: multicast stops after "
                    "four minutes."
                ),
                N_(
                    "Set multicast.querier = true, or `ip link set %(bridge)s type bridge mcast_querier 1` "
                    "(or mcast_snooping 0)."
                ),
            )
        )
    elif heard.querier:
        found.append(
            say("ok", N_("Multicast leaves %(interface)s, and %(querier)s asks for memberships (IGMP)."))
        )
    elif heard.querier is not None:
        found.append(
            say(
                "warning",
                N_(
                    "Nobody asks for IGMP memberships on %(interface)s: snooping switches may stop multicast."
                ),
                N_(
                    "Switch on an IGMP querier on one switch or router of this VLAN, or set "
                    "multicast.querier = true."
                ),
            )
        )
    elif not found:
        found.append(
            say(
                "ok",
                N_(
                    "Multicast leaves %(interface)s (group %(group)s). Whether an IGMP querier keeps "
                    "switches awake takes two minutes to hear: `pxeboot doctor --thorough --only multicast`."
                ),
            )
        )
    if heard.deaf:
        found.append(not_looked(CHECK, wire.interface, f"who asks for IGMP memberships ({heard.deaf})"))
    return found


def listen(wire: Wire, site: Site, bridge: str, *, address: str, query_seconds: float = 0.0) -> Heard:
    """Send to ourselves, and listen `query_seconds` for a querier. Never raises OSError."""
    group = scratch_group(site)
    about = Path("/sys/class/net") / bridge / "bridge"
    problem, echo = "", False
    try:
        echo = _echo(wire.interface, address, group)
    except OSError as error:
        problem = error.strerror or str(error)
    querier, deaf = None, ""
    if query_seconds > 0:
        try:
            querier = hear_query(wire.interface, query_seconds)
        except OSError as error:
            deaf = error.strerror or str(error)
    return Heard(
        group=group,
        echo=echo,
        problem=problem,
        querier=querier,
        deaf=deaf,
        bridge=bridge,
        snooping=bool(bridge) and _text(about / "multicast_snooping") == "1",
        bridge_querier=_text(about / "multicast_querier") == "1",
        ours=site.querier,
    )


def _echo(interface: str, address: str, group: str) -> bool:
    """Join, send a random word with TTL 1, and wait for it."""
    word = b"pxeboot doctor " + secrets.token_bytes(8)
    index = socket.if_nametoindex(interface)
    membership = struct.pack("=4s4si", socket.inet_aton(group), socket.inet_aton(address or "0.0.0.0"), index)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        # No SO_BINDTODEVICE: the copy comes back by it, but not where rules count loopback as the arrival.
        line.bind((group, 0))
        line.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        line.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, membership)
        line.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        line.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        line.sendto(word, (group, line.getsockname()[1]))
        end = time.monotonic() + HEAR_SECONDS
        while (left := end - time.monotonic()) > 0:
            if select.select([line], [], [], left)[0] and line.recv(64) == word:
                return True
    return False


def hear_query(interface: str, seconds: float) -> str:
    """The address of the first querier heard; "" = none. Raises OSError: not root."""
    end = time.monotonic() + seconds
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as line:
        line.bind((interface, _ETH_P_IP))
        while (left := end - time.monotonic()) > 0:
            if select.select([line], [], [], left)[0]:
                querier = read_query(line.recv(2048))
                if querier:
                    return querier
    return ""


def read_query(data: bytes) -> str:
    """Who sent this IPv4 packet, if it is an IGMP membership query; "" otherwise."""
    if len(data) < 28 or data[0] >> 4 != 4 or data[9] != _IGMP:
        return ""
    head = (data[0] & 0x0F) * 4
    if head < 20 or len(data) < head + 8 or data[head] != _MEMBERSHIP_QUERY:
        return ""
    return socket.inet_ntoa(data[12:16])


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
