"""Judges who answered the DHCP probe: ourselves, a server we get along with, or one that will spoil boots."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from dhcp.probe import KINDS, Probed, Server
from pxeboot.doctor.finding import N_, Finding, not_looked
from pxeboot.doctor.site import Wire

CHECK: Final = "dhcp-servers"

# First three bytes of made-up addresses that tell which program made the machine. No data base of vendors.
MAKERS: Final = {
    "00:05:69": "VMware",
    "00:0c:29": "VMware",
    "00:50:56": "VMware",
    "00:15:5d": "Hyper-V",
    "00:16:3e": "Xen",
    "08:00:27": "VirtualBox",
    "52:54:00": "QEMU/KVM",
}
FIRMWARE: Final = {"uefi": "UEFI PXE", "bios": "BIOS PXE", "http": "UEFI HTTP Boot"}


def judge(wire: Wire, probed: Probed, *, local: Collection[str], running: bool) -> list[Finding]:
    """What the replies on one interface mean for its mode.

    `local`: addresses of this machine; `running`: our daemon holds UDP 67 here, so what came from a local
    address was said by us, not by another program of this machine.
    """
    # In a mode that gives none, an address from here is another program's: both may run on one machine.
    ours = [
        server
        for server in probed.servers
        if running and _is_local(server, local) and (wire.mode == "full" or not server.gives_addresses)
    ]
    foreign = [server for server in probed.servers if server not in ours]
    found = [_foreign(wire, server, local) for server in foreign]
    found += [finding for server in foreign for finding in _boot_data(wire, server)]
    found += [_ours(wire, server) for server in ours]
    found += [
        Finding(
            CHECK,
            "error",
            wire.interface,
            N_(
                "We send %(firmware)s machines on %(interface)s to port 4011 for their boot file, "
                "and nobody answers there."
            ),
            N_("Let UDP 4011 in (`pxeboot doctor --only firewall`), or look who else holds it."),
            {"interface": wire.interface, "firmware": [FIRMWARE[kind] for kind in server.silent_4011]},
        )
        for server in ours
        if server.silent_4011
    ]
    found += _who_gives(wire, foreign, ours, probed)
    if running and probed.ourselves and wire.mode != "off" and not ours:
        found.append(
            Finding(
                CHECK,
                "warning",
                wire.interface,
                N_("Our own DHCP on %(interface)s did not answer our question."),
                N_("Look into its log (`journalctl -u pxeboot`) and at the pool (`doctor --only pool`)."),
                {"interface": wire.interface},
            )
        )
    found += [not_looked(CHECK, wire.interface, problem) for problem in probed.problems]
    return found


def _facts(wire: Wire, server: Server) -> dict[str, Any]:
    maker = next((MAKERS[mac[:8]] for mac in server.macs if mac[:8] in MAKERS), "")
    boots = {kind: reply for kind in KINDS if (reply := server.boot(kind))}
    menu = [text for reply in server.replies for text in reply.menu]
    return {
        "interface": wire.interface,
        "server": server.server,
        "sources": list(server.sources),
        "macs": list(server.macs),
        "maker": maker,
        "at": _at(server, maker),
        "gives_addresses": server.gives_addresses,
        "proxy": server.proxy,
        "boots": {kind: {"file": r.file, "next_server": r.next_server} for kind, r in boots.items()},
        "files": list(dict.fromkeys(r.file for r in boots.values())),
        "menu": list(dict.fromkeys(menu)),
        "silent_4011": list(server.silent_4011),
    }


def _at(server: Server, maker: str) -> str:
    """`10.0.0.1 (52:54:00:12:34:56 QEMU/KVM, through 10.0.0.254)`."""
    mac = " ".join(part for part in (", ".join(server.macs), maker) if part)
    relay = ", ".join(source for source in server.sources if source not in (server.server, "0.0.0.0"))
    inner = ", ".join(part for part in (mac, f"← {relay}" if relay else "") if part)
    return f"{server.server} ({inner})" if inner else server.server


def _foreign(wire: Wire, server: Server, local: Collection[str]) -> Finding:
    """The main sentence about a server that is not ours."""
    facts = _facts(wire, server)
    if _is_local(server, local) and (wire.mode == "full" or not server.gives_addresses):
        return Finding(
            CHECK,
            "error" if wire.mode == "full" and server.gives_addresses else "note",
            server.server,
            N_("Another program of this machine answers DHCP on %(interface)s as %(at)s; pxeboot does not."),
            N_("See who holds UDP 67 (`pxeboot doctor --only ports`), stop it, and start pxeboot."),
            facts,
        )
    if server.proxy:
        return Finding(
            CHECK,
            "warning",
            server.server,
            N_(
                "A second PXE server answers on %(interface)s: %(at)s. Each machine follows whichever it "
                "hears first: the loser is random."
            ),
            N_("Switch off PXE there (WDS, FOG, dnsmasq …), or keep it away from this network."),
            facts,
        )
    if server.gives_addresses and wire.mode == "full":
        return Finding(
            CHECK,
            "error",
            server.server,
            N_(
                "Another DHCP server gives addresses on %(interface)s: %(at)s. Machines take either's, "
                "and only ours boot them."
            ),
            N_('Set dhcp.mode = "proxy" to leave addresses to it, or switch that server off here.'),
            facts,
        )
    return Finding(
        CHECK,
        "ok",
        server.server,
        N_("The DHCP server %(at)s answers on %(interface)s, as it should where we give no addresses."),
        "",
        facts,
    )


def _boot_data(wire: Wire, server: Server) -> list[Finding]:
    """What the site's DHCP server tells machines to boot."""
    facts = _facts(wire, server)
    if not server.gives_addresses:
        return []
    if wire.mode == "off":
        return _pointed_at(wire, server, facts)
    if not facts["files"]:
        return []
    return [
        Finding(
            CHECK,
            "warning",
            server.server,
            N_(
                "The DHCP server %(at)s names a boot file of its own (%(files)s): machines whose firmware "
                "takes it from the address offer never come to us."
            ),
            N_("Remove options 66 and 67 and next-server (siaddr) from that server's scope."),
            facts,
        )
    ]


def _pointed_at(wire: Wire, server: Server, facts: dict[str, Any]) -> list[Finding]:
    """Mode off: the site's server must send machines to us."""
    lacking = [FIRMWARE[kind] for kind in FIRMWARE if kind not in facts["boots"]]
    facts = {**facts, "lacking": lacking}
    if "UEFI PXE" in lacking and "BIOS PXE" in lacking:
        return [
            Finding(
                CHECK,
                "error",
                server.server,
                N_("dhcp.mode is off, and the DHCP server %(at)s names no boot file: nothing leads to us."),
                N_(
                    'Put into it what `pxeboot dhcp snippet` prints for its kind, or set dhcp.mode = "proxy".'
                ),
                facts,
            )
        ]
    others = [
        f"{boot['file']} ({boot['next_server']})"
        for boot in facts["boots"].values()
        if wire.address and boot["next_server"] not in ("", wire.address) and "://" not in boot["file"]
    ]
    if others:
        return [
            Finding(
                CHECK,
                "warning",
                server.server,
                N_("The DHCP server %(at)s sends machines elsewhere than to us: %(others)s."),
                N_("Correct its next-server (siaddr) and option 66; `pxeboot dhcp snippet` prints them."),
                {**facts, "others": list(dict.fromkeys(others))},
            )
        ]
    if lacking:
        return [
            Finding(
                CHECK,
                "note",
                server.server,
                N_("The DHCP server %(at)s names no boot file for %(lacking)s."),
                N_("`pxeboot dhcp snippet` prints what to add, if you have such machines."),
                facts,
            )
        ]
    return []


def _ours(wire: Wire, server: Server) -> Finding:
    facts = _facts(wire, server)
    facts["lacking"] = [FIRMWARE[kind] for kind in FIRMWARE if kind not in facts["boots"]]
    if len(facts["lacking"]) == len(FIRMWARE):
        return Finding(
            CHECK,
            "warning",
            wire.interface,
            N_("We answer on %(interface)s, but a machine nobody registered gets no boot file."),
            N_(
                'Meant so with boot.unknown_host = "ignore"; else look at `pxeboot doctor --only boot-files`.'
            ),
            facts,
        )
    if facts["lacking"]:
        return Finding(
            CHECK,
            "note",
            wire.interface,
            N_("We answer on %(interface)s with %(files)s, but have nothing for %(lacking)s."),
            N_("Look at `pxeboot doctor --only boot-files`; in proxy mode HTTP Boot may be unanswered."),
            facts,
        )
    return Finding(CHECK, "ok", wire.interface, N_("We answer on %(interface)s with %(files)s."), "", facts)


def _who_gives(wire: Wire, foreign: list[Server], ours: list[Server], probed: Probed) -> list[Finding]:
    """Somebody must give addresses, exactly one of us."""
    facts = {"interface": wire.interface, "seconds": f"{probed.seconds:g}"}
    giving = [server for server in foreign if server.gives_addresses]
    if len(giving) > 1:
        return [
            Finding(
                CHECK,
                "note",
                wire.interface,
                N_("Several DHCP servers give addresses on %(interface)s: %(servers)s."),
                N_("Fine if they are a fail-over pair; else switch off all but one."),
                {**facts, "servers": [server.server for server in giving]},
            )
        ]
    if giving or any(server.gives_addresses for server in ours):
        return []
    if wire.mode == "full":
        return [
            Finding(
                CHECK,
                "ok",
                wire.interface,
                N_("No other DHCP server answered on %(interface)s in %(seconds)s s."),
                "",
                facts,
            )
        ]
    return [
        Finding(
            CHECK,
            "error",
            wire.interface,
            N_("Nobody gives addresses on %(interface)s: no answer in %(seconds)s s, and we give none."),
            N_(
                'Start the site\'s DHCP server, look at the cable and VLAN, or set dhcp.mode = "full" if we '
                "shall give addresses."
            ),
            {**facts, "mode": wire.mode},
        )
    ]


def _is_local(server: Server, local: Collection[str]) -> bool:
    return server.server in local or any(source in local for source in server.sources)
