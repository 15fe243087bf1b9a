"""What an administrator says about one subnet: mode, pool, reservations, times and options, checked once.

Everything the responder needs is worked out here, so that answering a datagram is a few look-ups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from itertools import pairwise
from socket import inet_aton, inet_ntoa
from typing import Final, Literal, Protocol

from dhcp import options as opt
from dhcp.catalog import refusal

Mode = Literal["full", "proxy", "off"]


# Options that say what to boot. A site's own are for plain clients (phones, thin clients of another server):
# in a PXE client's reply they would contradict, or replace, the boot file that was decided on.
BOOT_OPTIONS: Final = frozenset(
    {opt.VENDOR_SPECIFIC, opt.VENDOR_CLASS, opt.TFTP_SERVER_NAME, opt.BOOT_FILE_NAME}
)


def without_boot(options: Mapping[int, bytes]) -> Mapping[int, bytes]:
    """The same options without those that say what to boot; the very same when there are none."""
    if BOOT_OPTIONS.isdisjoint(options):
        return options
    return {code: value for code, value in options.items() if code not in BOOT_OPTIONS}


class SubnetError(ValueError):
    """A subnet's configuration cannot be right: `key` and `value` at fault, and what would be right."""

    def __init__(self, key: str, value: object, remedy: str) -> None:
        super().__init__(f"{key} = {value}: {remedy}")
        self.key, self.value, self.remedy = key, value, remedy


@dataclass(frozen=True, slots=True)
class Reservation:
    """A fixed address, and the host name (option 12) that goes with it ("" = none)."""

    address: str
    host_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """What is set for one machine, wherever it asks.

    Attributes:
        reservation: its address, in any subnet: ignored where it does not lie inside, or is no machine's to
            have (`SubnetConfig.usable`). It outranks the subnet's own reservation for this hardware address.
        options: its group's options under its own, as bytes by number; they outrank the subnet's.
    """

    reservation: Reservation | None = None
    options: Mapping[int, bytes] = field(default_factory=dict)


class HostSettings(Protocol):
    """The machines somebody has set something for. Both answer at once, from memory: every datagram asks."""

    def settings_of(self, mac: str, uuid: bytes | None) -> ClientSettings | None:
        """This machine's settings; None when there are none. `mac` and `uuid` as in `PxeClient`."""

    def reserved_to(self, address: str) -> str | None:
        """The hardware address (any, if it has several) of the machine whose reservation this address is."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The addresses that may be given to anybody, in order. `subnet` names it in the lease table."""

    subnet: str
    ranges: tuple[tuple[int, int], ...]
    excluded: frozenset[int]

    def __contains__(self, address: object) -> bool:
        if not isinstance(address, str):
            return False
        number = int.from_bytes(inet_aton(address), "big")
        for first, last in self.ranges:  # a loop, not any(): this is asked several times per datagram
            if first <= number <= last:
                return number not in self.excluded
        return False

    def __iter__(self) -> Iterator[str]:
        for first, last in self.ranges:
            for number in range(first, last + 1):
                if number not in self.excluded:
                    yield inet_ntoa(number.to_bytes(4, "big"))

    @property
    def size(self) -> int:
        """How many addresses there are to give."""
        return sum(1 for _ in self)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubnetConfig:
    """One IPv4 subnet that we serve.

    Attributes:
        network: such as `10.20.0.0/24`.
        mode: `full` (we give addresses), `proxy` (another server does, we only say what to boot), `off`.
        interface: the interface on which its broadcasts arrive; None when only relays bring them.
        ranges: pools as (first, last) address, both included.
        exclusions: addresses inside the pools that are never given.
        reservations: hardware address (as `PxeClient.mac`) -> fixed address; may lie outside the pools.
        server: our address for this subnet's clients (54, siaddr); None = the one the request arrived at.
        authoritative: whether we NAK, or adopt, clients we hold no record of (see docs/booting.md).
        lease_seconds, pxe_lease_seconds, offer_seconds, decline_seconds: an operating system's lease; a boot
            ROM's (short: 200 machines pass three stages each); how long an offer is kept; quarantine of an
            address that somebody else was found to use.
        options: further options by number, as bytes; sent when asked for, or when no list (55) was sent.
        conflict_probe: whether a new address is looked up on the link before it is offered (RFC 2131 §2.2).
        bootp: whether requests without a DHCP message type get an answer: reserved addresses only.
        proxy_style: `binl` sends UEFI clients to port 4011, `direct` puts all into the offer (mode proxy).
        name: how the lease table and the journal call it: the network in CIDR notation.
        pool, settings: what the above comes to: the addresses to give, and every option of the subnet by
            number. pxe_settings: those that a boot ROM gets, which takes its boot file from nobody but us.
        replies: options of replies that many clients get alike, as such and encoded, kept by whoever makes
            them.

    Raises:
        SubnetError: on construction, for the first contradiction found.
    """

    network: IPv4Network
    mode: Mode = "full"
    interface: str | None = None
    ranges: tuple[tuple[str, str], ...] = ()
    exclusions: tuple[str, ...] = ()
    reservations: Mapping[str, Reservation] = field(default_factory=dict)
    server: str | None = None
    routers: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    domain: str = ""
    ntp: tuple[str, ...] = ()
    options: Mapping[int, bytes] = field(default_factory=dict)
    authoritative: bool = True
    lease_seconds: int = 8 * 3600
    pxe_lease_seconds: int = 120
    offer_seconds: int = 30
    decline_seconds: int = 600
    conflict_probe: bool = True
    bootp: Literal["ignore", "answer"] = "ignore"
    proxy_style: Literal["binl", "direct"] = "binl"
    name: str = field(init=False, compare=False, repr=False)
    pool: Pool = field(init=False, compare=False, repr=False)
    settings: Mapping[int, bytes] = field(init=False, compare=False, repr=False)
    pxe_settings: Mapping[int, bytes] = field(init=False, compare=False, repr=False)
    replies: dict[tuple[object, ...], tuple[dict[int, bytes], bytes]] = field(
        init=False, compare=False, repr=False, default_factory=dict
    )
    _nobodys: frozenset[str] = field(init=False, compare=False, repr=False)
    _network: int = field(init=False, compare=False, repr=False)
    _mask: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_network", int(self.network.network_address))
        object.__setattr__(self, "_mask", int(self.network.netmask))
        ranges = tuple(sorted(self._range(first, last) for first, last in self.ranges))
        for (_, last), (first, _) in pairwise(ranges):
            if first <= last:
                raise SubnetError("ranges", IPv4Address(first), "pool ranges of one subnet must not overlap")
        nobodys = {str(self.network.network_address), str(self.network.broadcast_address), *self.routers}
        if self.server:
            nobodys.add(self.server)
        object.__setattr__(self, "_nobodys", frozenset(nobodys))
        taken: dict[str, str] = {}
        for mac, reservation in self.reservations.items():
            self._inside("reservations", reservation.address)
            if reservation.address in nobodys:
                raise SubnetError(
                    "reservations", reservation.address, "is the network's, a router's or our own"
                )
            if other := taken.get(reservation.address):
                raise SubnetError(
                    "reservations", reservation.address, f"is reserved for both {other} and {mac}"
                )
            taken[reservation.address] = mac
        for key in ("routers", "dns", "ntp"):
            for address in getattr(self, key):
                self._address(key, address)
        for key in ("lease_seconds", "pxe_lease_seconds", "offer_seconds", "decline_seconds"):
            if getattr(self, key) < 1:
                raise SubnetError(key, getattr(self, key), "must be at least 1 second")
        for code in self.options:
            if reason := refusal(code):
                raise SubnetError("options", code, f"cannot be set: {reason}")
        never = {*self.exclusions, *taken, *nobodys}
        excluded = frozenset(int(self._address("exclusions", address)) for address in never)
        object.__setattr__(self, "name", str(self.network))
        object.__setattr__(self, "pool", Pool(self.name, ranges, excluded))
        object.__setattr__(self, "settings", self._settings())
        object.__setattr__(self, "pxe_settings", without_boot(self.settings))

    def contains(self, address: str) -> bool:
        """Whether the address lies in this network."""
        return int.from_bytes(inet_aton(address), "big") & self._mask == self._network

    def usable(self, address: str) -> bool:
        """Whether a machine could have it: inside, and not the network's, a router's or our own."""
        return self.contains(address) and address not in self._nobodys

    def _settings(self) -> dict[int, bytes]:
        found: dict[int, bytes] = {
            opt.SUBNET_MASK: self.network.netmask.packed,
            opt.BROADCAST_ADDRESS: self.network.broadcast_address.packed,
        }
        for code, hosts in (
            (opt.ROUTER, self.routers),
            (opt.DOMAIN_NAME_SERVER, self.dns),
            (opt.NTP_SERVERS, self.ntp),
        ):
            if hosts:
                found[code] = opt.addresses(hosts)
        if self.domain:
            if not self.domain.isascii():
                raise SubnetError("domain", self.domain, "must be ASCII (write the IDNA form, xn--...)")
            found[opt.DOMAIN_NAME] = self.domain.encode("ascii")
        return {**found, **self.options}

    def _range(self, first: str, last: str) -> tuple[int, int]:
        low, high = int(self._inside("ranges", first)), int(self._inside("ranges", last))
        if low > high:
            raise SubnetError("ranges", f"{first}-{last}", "the first address must not be above the last")
        return low, high

    def _inside(self, key: str, address: str) -> IPv4Address:
        parsed = self._address(key, address)
        if parsed not in self.network:
            raise SubnetError(key, address, f"must lie in {self.network}")
        return parsed

    @staticmethod
    def _address(key: str, address: str) -> IPv4Address:
        try:
            return IPv4Address(address)
        except AddressValueError as error:
            raise SubnetError(key, address, "must be an IPv4 address such as 10.20.0.10") from error
