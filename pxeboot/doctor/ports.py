"""Who holds the ports we need: from the kernel's socket tables, and from the processes that have them."""

from __future__ import annotations

import ipaddress
import re
import struct
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pxeboot.doctor.finding import N_, Finding
from pxeboot.doctor.site import Site

CHECK: Final = "ports"

_LISTEN, _UNCONNECTED = "0A", "07"  # include/net/tcp_states.h; an unconnected UDP socket shows TCP_CLOSE
_PROGRAMS: Final = ("pxeboot", "pxeboot.cli")  # as a command, and after `python -m`


@dataclass(frozen=True, slots=True)
class Held:
    """A socket that waits for strangers. `interface`: bound to this one only, "" = any or not known."""

    protocol: str  # udp | tcp
    address: str
    port: int
    inode: int
    interface: str = ""


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that has it open. `unit`: its systemd unit, "" = none; `ours`: it is the pxeboot daemon."""

    pid: int
    name: str
    unit: str = ""
    ours: bool = False


NOBODY_SEEN: Final = Holder(0, "")


def sockets_in(protocol: str, table: str) -> list[Held]:
    """The waiting sockets in the text of /proc/net/{udp,udp6,tcp,tcp6}; lines that are none are left out."""
    found = []
    state = _UNCONNECTED if protocol.startswith("udp") else _LISTEN
    for line in table.splitlines()[1:]:
        fields = line.split()
        try:
            if fields[3] != state:
                continue
            host, _, port = fields[1].partition(":")
            words = [struct.pack("=I", int(host[at : at + 8], 16)) for at in range(0, len(host), 8)]
            address = ipaddress.ip_address(b"".join(words))
            mapped = getattr(address, "ipv4_mapped", None)
            found.append(Held(protocol[:3], str(mapped or address), int(port, 16), int(fields[9])))
        except (IndexError, ValueError, struct.error):
            continue
    return found


def interfaces_in(listing: str) -> dict[int, str]:
    """Inode -> interface, from the text of `ss -Hnaue` and `-t`, where a socket is bound to one."""
    found = {}
    for line in listing.splitlines():
        inode = re.search(r"\bino:(\d+)", line)
        bound = re.search(r"%([^\s:%]+):\d+\s", line)
        if inode and bound:
            found[int(inode.group(1))] = bound.group(1)
    return found


def unit_of(cgroup: str) -> str:
    """The systemd unit in the text of /proc/PID/cgroup: the last part that is a service or a scope."""
    parts = [part for line in cgroup.splitlines() for part in line.rpartition(":")[2].split("/")]
    return next((part for part in reversed(parts) if part.endswith((".service", ".scope"))), "")


def is_daemon(command: Sequence[str]) -> bool:
    """Whether a command line is the pxeboot daemon's."""
    for place, word in enumerate(command[:4]):
        if word.rpartition("/")[2] in _PROGRAMS:
            rest = command[place + 1 :]
            return "serve" in rest and "lab" not in rest[: rest.index("serve")]
    return False


@dataclass(frozen=True, slots=True)
class Need:
    """A port we need, and what for. `addresses`: where we listen; `interfaces`: for sockets bound to one."""

    protocol: str
    port: int
    what: str
    addresses: frozenset[str]
    interfaces: frozenset[str]
    shared: bool = False  # we get along without it

    def clashes(self, held: Held) -> bool:
        """Whether this socket takes what is for us."""
        if (held.protocol, held.port) != (self.protocol, self.port):
            return False
        if held.interface and held.interface not in self.interfaces:
            return False  # a virtual machine's own DHCP on its own bridge, for one
        wild = ("0.0.0.0", "::")
        return held.address in wild or not self.addresses or held.address in self.addresses


def needs(site: Site, addresses: Iterable[str]) -> list[Need]:
    """What the settings want to listen on."""
    wires = frozenset(wire.interface for wire in site.wires)
    every, ours = frozenset[str](), frozenset(addresses)
    found = []
    if wires and site.mode != "off":
        found.append(Need("udp", 67, "DHCP", every, wires, shared=site.mode == "proxy"))
    if wires and site.mode == "proxy":
        found.append(Need("udp", 4011, "PXE", every, wires))
    if wires and site.tftp_port:
        found.append(Need("udp", site.tftp_port, "TFTP", ours, wires))
    http = frozenset({site.http_host}) if site.http_host else (ours if wires else frozenset({"127.0.0.1"}))
    found.append(Need("tcp", site.http_port, "HTTP", every if "0.0.0.0" in http else http, wires))
    return found


def judge(
    wanted: Iterable[Need], sockets: Iterable[Held], holders: dict[int, list[Holder]], running: bool
) -> list[Finding]:
    """One finding for each port we need, and one for the daemon when it does not run."""
    found = []
    held = list(sockets)
    if not running:
        found.append(
            Finding(
                CHECK,
                "warning",
                "pxeboot",
                N_("pxeboot does not run on this machine: nobody will answer machines that boot."),
                N_("Start it: `systemctl start pxeboot`, or `pxeboot serve` in a terminal."),
            )
        )
    for need in wanted:
        clashes = [one for one in held if need.clashes(one)]
        found.append(_judge_one(need, clashes, holders, running))
    return found


def _judge_one(need: Need, clashes: list[Held], holders: dict[int, list[Holder]], running: bool) -> Finding:
    subject = f"{need.protocol.upper()} {need.port}"
    who = [holder for one in clashes for holder in holders.get(one.inode, [NOBODY_SEEN])]
    others = [holder for holder in who if not holder.ours]
    facts: dict[str, Any] = {
        "port": subject,
        "what": need.what,
        "holders": [
            f"{one.name} (pid {one.pid}{', ' + one.unit if one.unit else ''})" for one in others if one.pid
        ],
        "pids": [one.pid for one in others if one.pid],
        "units": list(dict.fromkeys(one.unit for one in others if one.unit)),
        "addresses": [one.address + (f"%{one.interface}" if one.interface else "") for one in clashes],
    }
    if not clashes:
        if running:
            return Finding(
                CHECK,
                "error",
                subject,
                N_("pxeboot runs, but nobody listens on %(port)s (%(what)s)."),
                N_("Compare the settings with those it was started with, and restart it."),
                facts,
            )
        return Finding(CHECK, "ok", subject, N_("%(port)s (%(what)s) is free."), "", facts)
    if not others:
        return Finding(CHECK, "ok", subject, N_("pxeboot holds %(port)s (%(what)s)."), "", facts)
    if not facts["holders"]:
        return Finding(
            CHECK,
            "error" if not running else "warning",
            subject,
            N_("Somebody holds %(port)s (%(what)s); who it is cannot be seen from here."),
            N_("Run `pxeboot doctor` as root, outside of a container."),
            facts,
        )
    if need.shared:
        return Finding(
            CHECK,
            "note",
            subject,
            N_("%(holders)s holds %(port)s (%(what)s); in proxy mode we then answer on port 4011 alone."),
            N_('It must tell PXE machines option 60 "PXEClient": `pxeboot dhcp snippet` prints how.'),
            facts,
        )
    return Finding(
        CHECK,
        "error",
        subject,
        N_("%(holders)s holds %(port)s (%(what)s), which we need."),
        N_("Stop it (`systemctl disable --now %(units)s`).")
        if facts["units"] and all(unit.endswith(".service") for unit in facts["units"])
        else N_("Stop it, or have it listen on another interface."),
        facts,
    )


def read_sockets(proc: Path = Path("/proc/thread-self/net")) -> list[Held]:
    """Every waiting UDP and TCP socket of this network namespace, with its interface where `ss` tells it."""
    found: list[Held] = []
    for protocol in ("udp", "udp6", "tcp", "tcp6"):
        try:
            found += sockets_in(protocol, (proc / protocol).read_text())
        except OSError:  # no IPv6 here
            continue
    bound: dict[int, str] = {}
    for option in ("-Hnaue", "-Hnlte"):
        try:
            done = subprocess.run(["ss", option], capture_output=True, text=True, timeout=5)
            bound |= interfaces_in(done.stdout)
        except (OSError, subprocess.SubprocessError):
            continue
    return [replace(one, interface=bound.get(one.inode, "")) for one in found]


def read_holders(inodes: set[int], proc: Path = Path("/proc")) -> dict[int, list[Holder]]:
    """Which processes have these sockets open; those we may not look into are left out."""
    found: dict[int, list[Holder]] = {}
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            links = [str(link.readlink()) for link in (entry / "fd").iterdir()]
        except OSError:  # gone, or not ours to look into
            continue
        mine = {int(link[8:-1]) for link in links if link.startswith("socket:[")} & inodes
        for inode in mine:
            found.setdefault(inode, []).append(read_holder(int(entry.name), proc))
    return found


def read_holder(pid: int, proc: Path = Path("/proc")) -> Holder:
    """Name, unit, and whether it is us."""
    about = proc / str(pid)

    def text(name: str) -> str:
        try:
            return (about / name).read_text(errors="replace")
        except OSError:
            return ""

    command = [part for part in text("cmdline").split("\0") if part]
    return Holder(pid, text("comm").strip() or "?", unit_of(text("cgroup")), is_daemon(command))


def read_daemons(proc: Path = Path("/proc")) -> list[Holder]:
    """The pxeboot daemons of this network namespace."""
    found = []
    try:
        here = (proc / "thread-self/ns/net").stat().st_ino
    except OSError:
        return []
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            if is_daemon([part for part in command if part]) and (entry / "ns/net").stat().st_ino == here:
                found.append(read_holder(int(entry.name), proc))
        except OSError:
            continue
    return found
