"""Why this host does not hear a multicast session: what the kernel knows, put into one sentence.

Three facts tell most causes apart: whether the kernel is a member of the group on the right interface
(/proc/net/igmp), how much multicast reached this machine's IP layer (InMcastOctets of
/proc/net/netstat, counted before its input filter), and how much the server says it has sent.
"""

from __future__ import annotations

import fcntl
import itertools
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Interface

from imaging.agent.i18n import gettext as _

# linux/sockios.h
_SIOCGIFADDR, _SIOCGIFNETMASK = 0x8915, 0x891B
_FULL = 1500  # octets of a full datagram
_STILL = 3.0  # seconds without one more datagram: announces alone would be seven


@dataclass(frozen=True)
class Facts:
    """Since the session was joined, or last heard, ``seconds`` ago: ``arrived`` multicast packets came to
    this machine's IP layer, and the server says that it has ``sent`` so many datagrams of the session
    meanwhile (None: it says nothing). ``before``: the session had been heard earlier.
    """

    group: str
    interface: str
    member: bool
    arrived: int
    sent: int | None
    seconds: float
    before: bool


def why_deaf(facts: Facts) -> str:
    """One sentence for whoever looks after the network, in the agent's language."""
    values = {
        "group": facts.group,
        "interface": facts.interface or "?",
        "seconds": f"{facts.seconds:.0f}",
        "sent": facts.sent if facts.sent is not None else 0,
        "arrived": facts.arrived,
    }
    if facts.sent == 0:
        return _("The server sends nothing to {group} now.").format(**values)
    if not facts.member:
        return _(
            "This machine is not a member of {group} on {interface}: the kernel left it or never joined."
        ).format(**values)
    if facts.sent is None:
        return _("Nothing was heard on {group} for {seconds} s.").format(**values)
    if facts.arrived > facts.sent // 2:
        return _(
            "{arrived} multicast packets reached this machine, none of {group} got through: a packet filter "
            "on it drops them, or another session is too loud."
        ).format(**values)
    if facts.before:
        return _(
            "Nothing of {group} has arrived for {seconds} s although the server has sent {sent} datagrams "
            "since: a switch stopped forwarding it (IGMP snooping without a querier), or a filter was set."
        ).format(**values)
    return _(
        "Nothing of {group} has arrived in {seconds} s although the server has sent {sent} datagrams: IGMP "
        "snooping without a querier, a filter, or another VLAN."
    ).format(**values)


def is_member(igmp: str, group: str, interface: str) -> bool:
    """Whether /proc/net/igmp lists a group (there: hexadecimal of the address in memory) on an interface."""
    wanted = f"{struct.unpack('=I', socket.inet_aton(group))[0]:08X}"
    device = ""
    for line in igmp.splitlines()[1:]:
        words = line.split()
        if not line[:1].isspace() and len(words) > 1:
            device = words[1].rstrip(":")
        elif words and words[0] == wanted and device == interface:
            return True
    return False


def multicast_packets(netstat: str) -> int:
    """Multicast packets that arrived, by /proc/net/netstat; 0 when the kernel does not tell.

    InMcastPkts counts what the card or the kernel has joined (GRO) as one: a stream of full datagrams is told
    by its octets.
    """
    lines = netstat.splitlines()
    for names, values in itertools.pairwise(lines):
        if names.startswith("IpExt:") and values.startswith("IpExt:"):
            counted = dict(zip(names.split(), values.split(), strict=False))
            return max(int(counted.get("InMcastPkts", 0)), int(counted.get("InMcastOctets", 0)) // _FULL)
    return 0


class Hearing:
    """The facts about one session on this machine."""

    def __init__(self, group: str, address: str, now: float) -> None:
        """``address``: ours on the interface that should hear the group."""
        self.group = group
        self.interface = interface_of(address)
        self._before = False
        self._since, self._arrived = now, _read_packets()
        self._base: int | None = None
        self._base_at = 0.0
        self._fresh: int | None = None

    def heard(self, now: float) -> None:
        """The session is being heard."""
        self._before = True
        self._since, self._arrived = now, _read_packets()
        self._base = self._fresh = None

    def told(self, sent: int, now: float) -> None:
        """The server says how many datagrams it has sent in the session. What it sends from the first such
        word of a silence on is what should have been heard."""
        if self._base is None or sent < self._base:
            self._base, self._base_at, self._fresh = sent, now, None
        elif sent > self._base or now - self._base_at > _STILL:
            self._fresh = sent - self._base

    def explain(self, now: float) -> str:
        """Why it is not heard."""
        member = is_member(_read("/proc/net/igmp"), self.group, self.interface)
        arrived = _read_packets() - self._arrived
        return why_deaf(
            Facts(self.group, self.interface, member, arrived, self._fresh, now - self._since, self._before)
        )


def interface_of(address: str) -> str:
    """Name of the interface with this IPv4 address; "" when there is none."""
    return _look(address)[0]


def network_of(address: str) -> IPv4Interface:
    """An own IPv4 address with the prefix of its interface; /32 when no interface has it."""
    return IPv4Interface(f"{address}/{_look(address)[1]}")


def _look(address: str) -> tuple[str, str]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _number, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                own = fcntl.ioctl(probe, _SIOCGIFADDR, request)[20:24]
                mask = fcntl.ioctl(probe, _SIOCGIFNETMASK, request)[20:24]
            except OSError:
                continue  # no IPv4 address there
            # The ioctl tells an interface's first address only: loopback's others are in its network too.
            mine = IPv4Interface(f"{socket.inet_ntoa(own)}/{socket.inet_ntoa(mask)}")
            if socket.inet_aton(address) == own or IPv4Interface(address).ip in mine.network:
                return name, str(mine.network.prefixlen)
    return "", "32"


def _read_packets() -> int:
    return multicast_packets(_read("/proc/net/netstat"))


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
