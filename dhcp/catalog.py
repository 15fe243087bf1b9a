"""The options a site may set, by name and type: people's values to bytes, and bytes back to people's values.

RFC 2132 and its successors, with ISC's names and the ones IANA and Kea use. What a value looks like on the
wire is in `dhcp.values`; this file is the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dhcp.values import LONGEST, TYPES, ValueType, as_hex, from_hex

__all__ = ["OPTION_NAMES", "Option", "OptionError", "format_option", "lookup", "parse_option", "refusal"]


class OptionError(ValueError):
    """An option cannot be set like this: `key` and `value` at fault, and what would be right."""

    def __init__(self, key: object, value: object, remedy: str) -> None:
        super().__init__(f"option {key} = {value!r}: {remedy}")
        self.key, self.value, self.remedy = str(key), value, remedy


@dataclass(frozen=True, slots=True)
class Option:
    """One row: its number, our name for it, how its value is typed, other names it goes by, why it is ours.

    `refused`: why a site may not set it ("" = it may): the responder decides it, or only clients send it.
    """

    code: int
    name: str
    type: ValueType
    aliases: tuple[str, ...] = ()
    refused: str = ""


_LEASE = "the lease decides it; set lease_seconds or pxe_lease_seconds of the subnet instead"
_CLIENT = "only clients send it"
_RELAY = "it belongs to relay agents and comes back as it came"
_PROTOCOL = "it is the protocol's own"
_QUERY = "it belongs to lease queries, which are not served"

# code, type, names (ours first), and for what a site may not set: why
_ROWS: Final[tuple[tuple[int, str, str, str], ...]] = (
    (1, "address", "subnet-mask", "it follows from the subnet's network"),
    (2, "i32", "time-offset", ""),
    (3, "addresses", "routers router", ""),
    (4, "addresses", "time-servers", ""),
    (5, "addresses", "ien116-name-servers name-servers", ""),
    (6, "addresses", "domain-name-servers dns-servers domain-name-server", ""),
    (7, "addresses", "log-servers", ""),
    (8, "addresses", "cookie-servers quotes-servers", ""),
    (9, "addresses", "lpr-servers", ""),
    (10, "addresses", "impress-servers", ""),
    (11, "addresses", "resource-location-servers", ""),
    (12, "name", "host-name hostname", ""),
    (13, "u16", "boot-size", ""),
    (14, "text", "merit-dump", ""),
    (15, "name", "domain-name domain", ""),
    (16, "address", "swap-server", ""),
    (17, "text", "root-path", ""),
    (18, "text", "extensions-path", ""),
    (19, "bool", "ip-forwarding", ""),
    (20, "bool", "non-local-source-routing", ""),
    (21, "pairs", "policy-filter", ""),
    (22, "u16", "max-dgram-reassembly", ""),
    (23, "u8", "default-ip-ttl", ""),
    (24, "u32", "path-mtu-aging-timeout", ""),
    (25, "u16s", "path-mtu-plateau-table", ""),
    (26, "u16", "interface-mtu mtu", ""),
    (27, "bool", "all-subnets-local", ""),
    (28, "address", "broadcast-address", ""),
    (29, "bool", "perform-mask-discovery", ""),
    (30, "bool", "mask-supplier", ""),
    (31, "bool", "router-discovery", ""),
    (32, "address", "router-solicitation-address", ""),
    (33, "pairs", "static-routes", ""),
    (34, "bool", "trailer-encapsulation", ""),
    (35, "u32", "arp-cache-timeout", ""),
    (36, "bool", "ieee802-3-encapsulation", ""),
    (37, "u8", "default-tcp-ttl", ""),
    (38, "u32", "tcp-keepalive-interval", ""),
    (39, "bool", "tcp-keepalive-garbage", ""),
    (40, "text", "nis-domain", ""),
    (41, "addresses", "nis-servers", ""),
    (42, "addresses", "ntp-servers", ""),
    (43, "bytes", "vendor-encapsulated-options vendor-specific", ""),
    (44, "addresses", "netbios-name-servers wins-servers", ""),
    (45, "addresses", "netbios-dd-server", ""),
    (46, "u8", "netbios-node-type", ""),
    (47, "text", "netbios-scope", ""),
    (48, "addresses", "font-servers", ""),
    (49, "addresses", "x-display-manager x-display-managers", ""),
    (50, "address", "dhcp-requested-address requested-address", _CLIENT),
    (51, "u32", "dhcp-lease-time lease-time", _LEASE),
    (52, "u8", "dhcp-option-overload", _PROTOCOL),
    (53, "u8", "dhcp-message-type message-type", _PROTOCOL),
    (54, "address", "dhcp-server-identifier server-identifier", "set the subnet's server instead"),
    (55, "u8s", "dhcp-parameter-request-list parameter-list", _CLIENT),
    (56, "text", "dhcp-message message", _PROTOCOL),
    (57, "u16", "dhcp-max-message-size max-message-size", _CLIENT),
    (58, "u32", "dhcp-renewal-time renewal-time", _LEASE),
    (59, "u32", "dhcp-rebinding-time rebinding-time", _LEASE),
    (60, "text", "vendor-class-identifier vendor-class", ""),
    (61, "bytes", "dhcp-client-identifier client-identifier", "it comes back as the client sent it"),
    (62, "text", "nwip-domain", ""),
    (63, "bytes", "nwip-suboptions", ""),
    (64, "text", "nisplus-domain", ""),
    (65, "addresses", "nisplus-servers", ""),
    (66, "text", "tftp-server-name", ""),
    (67, "text", "bootfile-name boot-file-name", ""),
    (68, "addresses0", "mobile-ip-home-agent", ""),
    (69, "addresses", "smtp-server smtp-servers", ""),
    (70, "addresses", "pop-server pop-servers", ""),
    (71, "addresses", "nntp-server nntp-servers", ""),
    (72, "addresses", "www-server www-servers", ""),
    (73, "addresses", "finger-server finger-servers", ""),
    (74, "addresses", "irc-server irc-servers", ""),
    (75, "addresses", "streettalk-server", ""),
    (76, "addresses", "streettalk-directory-assistance-server", ""),
    (77, "classes", "user-class", _CLIENT),
    (78, "bytes", "slp-directory-agent", ""),
    (79, "bytes", "slp-service-scope", ""),
    (80, "bytes", "rapid-commit", "rapid commit is not offered"),
    (81, "bytes", "fqdn", _CLIENT),
    (82, "bytes", "relay-agent-information dhcp-agent-options", _RELAY),
    (83, "bytes", "isns", ""),
    (85, "addresses", "nds-servers", ""),
    (86, "text", "nds-tree-name", ""),
    (87, "text", "nds-context", ""),
    (88, "domains", "bcms-controller-names", ""),
    (89, "addresses", "bcms-controller-address", ""),
    (90, "bytes", "dhcp-auth", "authentication (RFC 3118) is not offered"),
    (91, "u32", "client-last-transaction-time", _QUERY),
    (92, "addresses", "associated-ip", _QUERY),
    (93, "u16s", "client-architecture pxe-system-type", _CLIENT),
    (94, "bytes", "client-ndi pxe-interface-id", _CLIENT),
    (97, "bytes", "client-uuid pxe-client-id", "it comes back as the client sent it"),
    (98, "text", "uap-servers", ""),
    (99, "bytes", "geoconf-civic", ""),
    (100, "text", "tz-posix pcode", ""),
    (101, "text", "tz-name tcode", ""),
    (108, "u32", "v6-only-preferred", ""),
    (112, "addresses", "netinfo-server-address", ""),
    (113, "text", "netinfo-server-tag", ""),
    (114, "text", "captive-portal v4-captive-portal default-url", ""),
    (116, "u8", "auto-config", ""),
    (117, "u16s", "name-service-search", ""),
    (118, "address", "subnet-selection", _RELAY),
    (119, "domains", "domain-search", ""),
    (120, "bytes", "sip-servers", ""),
    (121, "routes", "classless-static-routes classless-static-route rfc3442-classless-static-routes", ""),
    (122, "bytes", "cablelabs-client-configuration", ""),
    (123, "bytes", "geoconf", ""),
    (124, "bytes", "vivco vivco-suboptions", ""),
    (125, "bytes", "vivso vivso-suboptions", ""),
    (136, "addresses", "pana-agent", ""),
    (137, "domains", "v4-lost", ""),
    (138, "addresses", "capwap-ac-v4 capwap-access-controllers", ""),
    (139, "bytes", "mos-ip", ""),
    (140, "bytes", "mos-fqdn", ""),
    (141, "domains", "sip-ua-cs-domains", ""),
    (142, "addresses", "andsf-ipv4", ""),
    (143, "bytes", "v4-sztp-redirect", ""),
    (144, "bytes", "geoloc", ""),
    (146, "bytes", "rdnss-selection", ""),
    (147, "domains", "v4-dots-ri", ""),
    (148, "addresses", "v4-dots-address", ""),
    (150, "addresses", "tftp-server-address tftp-server-addresses", ""),  # RFC 5859
    (161, "text", "mud-url", ""),
    (162, "bytes", "v4-dnr", ""),
    (175, "bytes", "ipxe-encapsulated", "it is iPXE's own, and we send it ourselves"),
    (208, "bytes", "pxelinux-magic", ""),  # RFC 5071
    (209, "text", "pxelinux-configfile config-file loader-configfile", ""),
    (210, "text", "pxelinux-pathprefix path-prefix loader-pathprefix", ""),
    (211, "u32", "pxelinux-reboottime reboot-time loader-reboottime", ""),
    (212, "bytes", "option-6rd 6rd", ""),
    (213, "domains", "v4-access-domain access-network-domain-name", ""),
    (220, "bytes", "subnet-allocation", _RELAY),
    (221, "bytes", "virtual-subnet-selection", _RELAY),
    (249, "routes", "ms-classless-static-routes", ""),
    (252, "text", "wpad-url wpad-proxy-url", ""),
)


def _row(code: int, kind: str, names: str, refused: str) -> Option:
    name, *aliases = names.split()
    return Option(code, name, TYPES[kind], tuple(aliases), refused)


_BY_CODE: Final = {row[0]: _row(*row) for row in _ROWS}
_BY_NAME: Final = {name: row for row in _BY_CODE.values() for name in (row.name, *row.aliases)}
_UNKNOWN: Final = TYPES["unknown"]

OPTION_NAMES: Final[dict[str, Option]] = {row.name: row for row in _BY_CODE.values() if not row.refused}
"""What a site may set, by our name: for documents, completion and forms."""


def lookup(code: int) -> Option:
    """The row of this number; one without a name of its own for numbers nobody gave a meaning."""
    return _BY_CODE.get(code) or Option(code, str(code), _UNKNOWN)


def refusal(code: int) -> str:
    """Why a site may not set this option, "" when it may."""
    if not 0 < code < 255:
        return "option numbers are 1 to 254"
    return lookup(code).refused


def parse_option(key: str | int, value: object) -> tuple[int, bytes]:
    """One setting, such as `("ntp-servers", ["10.20.0.1"])` or `("43", "hex:01:02")`.

    Args:
        key: one of our names or its aliases (upper case and underscores are forgiven), or the number.
        value: as the option's type wants it; `"hex:…"` gives the bytes of any option. Options without a
            row take a text or `hex:`.

    Returns: number and bytes, at most `LONGEST` of them (more than 255 are split on writing, RFC 3396).

    Raises:
        OptionError: with the remedy.
    """
    row = _find(key, value)
    if row.refused:
        raise OptionError(key, value, f"cannot be set: {row.refused}")
    if isinstance(value, str) and value.strip().lower().startswith("hex:"):
        try:
            data = from_hex(value)
        except ValueError as error:
            raise OptionError(key, value, str(error)) from error
        if row.type.decode(data) is None:
            raise OptionError(key, value, f"these bytes are not {row.type.wants}")
    else:
        try:
            data = row.type.encode(value)
        except ValueError as error:
            said = str(error)
            raise OptionError(key, value, f"must be {row.type.wants}{': ' if said else ''}{said}") from error
    if len(data) > LONGEST:
        raise OptionError(
            key, value, f"has {len(data)} bytes; at most {LONGEST} fit beside the rest of a message"
        )
    return row.code, data


def format_option(code: int, data: bytes) -> tuple[str, object]:
    """The other way: our name (or the number as text) and a value that `parse_option` takes.

    What the type cannot hold (an address of three bytes) is shown as `hex:…`. Also tells what the options
    that a site may not set hold, for people who read messages.
    """
    row = lookup(code)
    value = row.type.decode(data)
    return row.name, as_hex(data) if value is None else value


def _find(key: str | int, value: object) -> Option:
    text = str(key).strip().lower().replace("_", "-")
    if text.isascii() and text.isdigit():
        code = int(text)
        if not 0 < code < 255:
            raise OptionError(key, value, "option numbers are 1 to 254")
        return lookup(code)
    if found := _BY_NAME.get(text):
        return found
    near = sorted(name for name in _BY_NAME if text and (text in name or name in text))[:3]
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise OptionError(key, value, f"is no option we know by name: use its number{hint}")
