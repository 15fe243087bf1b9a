"""What to put into another DHCP server so that it sends machines to us (mode off), in that server's words.

One class of machine after the other: iPXE to its script, UEFI HTTP Boot to a URL, boot ROMs to a file by
TFTP, told apart by option 93, 60 and 77.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final, Literal

from dhcp.pxe import ARCHITECTURES

Kind = Literal["isc", "kea", "dnsmasq", "windows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SnippetFacts:
    """What the other server has to say.

    Attributes:
        server: our IPv4 address, where TFTP is.
        files: architecture (as `Architecture.name`) -> file name by TFTP; iPXE on one that is not listed
            gets the script as well.
        http_files: architecture -> URL for UEFI HTTP Boot.
        script_url: what iPXE loads. It fills in `${net0/mac}`, `${uuid}` and `${platform}` itself.

    Raises:
        ValueError: on construction, for what cannot be written into a configuration file.
    """

    server: str
    files: Mapping[str, str]
    http_files: Mapping[str, str] = field(default_factory=dict)
    script_url: str = ""

    def __post_init__(self) -> None:
        IPv4Address(self.server)
        for value in (self.script_url, *self.files.values(), *self.http_files.values()):
            if not value.isascii() or not value.isprintable() or set(value) & set(" \"'\\,;`"):
                rule = "must be ASCII without blanks, quotes, commas, semicolons and backslashes"
                raise ValueError(f"{value!r}: a boot file's name {rule}")


@dataclass(frozen=True, slots=True)
class _Rule:
    """`codes` of option 93 (of a client that says `vendor`, 60) load `target`."""

    label: str
    vendor: str
    codes: tuple[int, ...]
    target: str

    @property
    def http(self) -> bool:
        return self.vendor == "HTTPClient"

    @property
    def name(self) -> str:
        return f"pxeboot-{'http-' if self.http else ''}{self.label}"


def snippet(kind: Kind, facts: SnippetFacts) -> str:
    """The fragment, with comments, ending with a newline. Raises ValueError for another kind."""
    writer = _WRITERS.get(kind)
    if writer is None:
        raise ValueError(f"{kind!r}: choose one of {', '.join(KINDS)}")
    return "\n".join(writer(facts, list(_rules(facts)))) + "\n"


def _rules(facts: SnippetFacts) -> Iterator[_Rule]:
    for http, targets in ((False, facts.files), (True, facts.http_files)):
        for label, target in targets.items():
            rows = ARCHITECTURES.values()
            codes = tuple(row.code for row in rows if row.name == label and row.http == http)
            if codes:
                yield _Rule(label, "HTTPClient" if http else "PXEClient", codes, target)


def _isc(facts: SnippetFacts, rules: list[_Rule]) -> Iterator[str]:
    yield f"# pxeboot at {facts.server}, for dhcpd.conf of ISC dhcpd: globally, or inside a subnet (the line"
    yield "# with `code` always globally). Remove other next-server and filename statements."
    yield "option pxeboot-arch code 93 = unsigned integer 16;"
    yield ""
    word = "if"
    if facts.script_url:
        yield f'{word} exists user-class and option user-class = "iPXE" {{'
        yield "  # iPXE, ours or a card's own: its script by HTTP"
        yield f"  next-server {facts.server};"
        yield f'  filename "{facts.script_url}";'
        word = "} elsif"
    for rule in rules:
        arch = " or ".join(f"option pxeboot-arch = {code >> 8:02x}:{code & 255:02x}" for code in rule.codes)
        vendor = f'substring(option vendor-class-identifier, 0, {len(rule.vendor)}) = "{rule.vendor}"'
        yield f"{word} {vendor} and ({arch}) {{"
        yield f"  # {_described(rule)}"
        if rule.http:
            yield '  option vendor-class-identifier "HTTPClient";'
        yield f"  next-server {facts.server};"
        yield f'  filename "{rule.target}";'
        word = "} elsif"
    if word != "if":
        yield "}"


def _kea(facts: SnippetFacts, rules: list[_Rule]) -> Iterator[str]:
    yield f'// pxeboot at {facts.server}, for kea-dhcp4.conf: merge these classes into your "Dhcp4".'
    yield '// Remove other "next-server" and "boot-file-name" settings.'
    classes: list[dict[str, object]] = []
    not_ipxe = ""
    if facts.script_url:
        ipxe = {"name": "pxeboot-ipxe", "test": "option[77].hex == 'iPXE'"}
        classes.append({**ipxe, "next-server": facts.server, "boot-file-name": facts.script_url})
        not_ipxe = " and not member('pxeboot-ipxe')"
    for rule in rules:
        arch = " or ".join(f"option[93].hex == 0x{code:04x}" for code in rule.codes)
        vendor = f"substring(option[60].hex,0,{len(rule.vendor)}) == '{rule.vendor}'"
        entry: dict[str, object] = {
            "name": rule.name,
            "test": f"{vendor} and ({arch}){not_ipxe}",
            "next-server": facts.server,
            "boot-file-name": rule.target,
        }
        if rule.http:
            data = {"name": "vendor-class-identifier", "data": "HTTPClient", "always-send": True}
            entry["option-data"] = [data]
        classes.append(entry)
    yield json.dumps({"Dhcp4": {"client-classes": classes}}, indent=2)


def _dnsmasq(facts: SnippetFacts, rules: list[_Rule]) -> Iterator[str]:
    yield f"# pxeboot at {facts.server}, for dnsmasq.conf. Remove other dhcp-boot and pxe-service lines."
    not_ipxe = ""
    if facts.script_url:
        yield "# iPXE, ours or a card's own (user class, or feature list in 175): its script by HTTP"
        yield "dhcp-userclass=set:pxeboot-ipxe,iPXE"
        yield "dhcp-match=set:pxeboot-ipxe,175"
        yield f"dhcp-boot=tag:pxeboot-ipxe,{facts.script_url},,{facts.server}"
        not_ipxe = "tag:!pxeboot-ipxe,"
    for rule in rules:
        yield f"# {_described(rule)}"
        for code in rule.codes:
            yield f"dhcp-match=set:{rule.name},option:client-arch,{code}"
        if rule.http:
            yield f"dhcp-option-force=tag:{rule.name},60,HTTPClient"
        yield f"dhcp-boot={not_ipxe}tag:{rule.name},{rule.target},,{facts.server}"


def _windows(facts: SnippetFacts, rules: list[_Rule]) -> Iterator[str]:
    yield f"# pxeboot at {facts.server}, for a Windows DHCP server (2012 R2 or later): run it there, in an"
    yield "# elevated PowerShell. The policies apply to the whole server; add -ScopeId 10.20.0.0 to each"
    yield "# policy and value for one scope. Remove options 60, 66 and 67 from server, scopes, reservations."
    yield "$ErrorActionPreference = 'Stop'"
    order = 1
    if facts.script_url:
        yield ""
        yield "# iPXE, ours or a card's own: its script by HTTP. This policy must stay the first."
        yield "Add-DhcpServerv4Class -Name 'pxeboot iPXE' -Type User -Data 'iPXE'"
        yield _windows_policy("pxeboot-ipxe", "-UserClass EQ,'pxeboot iPXE'", order)
        yield from _windows_values("pxeboot-ipxe", facts.server, facts.script_url)
        order += 1
    if any(rule.http for rule in rules):
        yield ""
        yield "# UEFI HTTP Boot takes an answer only with option 60, which Windows does not know by itself"
        yield "Add-DhcpServerv4OptionDefinition -OptionId 60 -Name 'Vendor class (60)' -Type String"
    for place, rule in enumerate(rules, order):
        yield ""
        yield f"# {_described(rule)}"
        names = [f"{rule.name} {code}" for code in rule.codes]
        for name, code in zip(names, rule.codes, strict=True):
            data = f"{rule.vendor}:Arch:{code:05}"
            yield f"Add-DhcpServerv4Class -Name '{name}' -Type Vendor -Data '{data}'"
        matches = ",".join(f"'{name}*'" for name in names)
        yield _windows_policy(rule.name, f"-VendorClass EQ,{matches}", place)
        yield from _windows_values(rule.name, facts.server, rule.target)
        if rule.http:
            yield f"Set-DhcpServerv4OptionValue -PolicyName '{rule.name}' -OptionId 60 -Value 'HTTPClient'"


def _windows_policy(name: str, match: str, place: int) -> str:
    return f"Add-DhcpServerv4Policy -Name '{name}' -Condition OR {match} -ProcessingOrder {place}"


def _windows_values(policy: str, server: str, target: str) -> Iterator[str]:
    # Single quotes: PowerShell leaves iPXE's ${...} alone in them.
    for number, value in ((66, server), (67, target)):
        yield f"Set-DhcpServerv4OptionValue -PolicyName '{policy}' -OptionId {number} -Value '{value}'"


def _described(rule: _Rule) -> str:
    codes = ", ".join(map(str, rule.codes))
    return f"{rule.label} {'HTTP Boot' if rule.http else 'PXE'} (option 93 = {codes})"


_WRITERS: Final[dict[str, Callable[[SnippetFacts, list[_Rule]], Iterator[str]]]] = {
    "isc": _isc,
    "kea": _kea,
    "dnsmasq": _dnsmasq,
    "windows": _windows,
}
KINDS: Final[tuple[str, ...]] = tuple(_WRITERS)
