"""All checks by name, and how they are run: side by side, within a time limit, never with a traceback."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv4Network
from queue import Empty, Queue
from typing import Final

from dhcp import probe
from pxeboot.doctor import bootfiles, firewall, host, interface, multicast, ports, servers, transfer
from pxeboot.doctor.finding import LEVELS, N_, Finding, not_looked
from pxeboot.doctor.site import Site, Wire

log = logging.getLogger(__name__)

LIMIT_SECONDS: Final = 14.0
_ORDER: Final = {level: -place for place, level in enumerate(LEVELS)}


@dataclass(frozen=True, slots=True)
class Options:
    """`thorough`: also what takes minutes (listening for an IGMP querier). `seconds`: of the DHCP probe."""

    thorough: bool = False
    seconds: float = probe.SECONDS


@dataclass
class Machine:
    """What several checks want to know of this machine, looked up once, by whoever asks first."""

    site: Site
    options: Options
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _daemon: ports.Holder | None = None
    _daemon_known: bool = False
    _addresses: list[tuple[str, interface.Address]] | None = None

    @property
    def daemon(self) -> ports.Holder | None:
        """The running pxeboot of this namespace."""
        with self._lock:
            if not self._daemon_known:
                found = ports.read_daemons()
                self._daemon, self._daemon_known = (found[0] if found else None), True
            return self._daemon

    @property
    def addresses(self) -> list[tuple[str, interface.Address]]:
        """(interface, address) of this machine. Raises OSError."""
        with self._lock:
            if self._addresses is None:
                self._addresses = interface.read_addresses()
            return self._addresses

    def own(self, wire: Wire) -> interface.Address | None:
        """Our address on an interface: the wanted one, else the first."""
        found = [address for name, address in self.addresses if name == wire.interface]
        wanted = [address for address in found if str(address.interface.ip) == wire.address]
        chosen = wanted or found
        return chosen[0] if chosen else None

    def address(self, wire: Wire) -> str:
        """The same as text, "" = none."""
        own = self.own(wire)
        return str(own.interface.ip) if own else ""

    def network(self, wire: Wire) -> IPv4Network | None:
        own = self.own(wire)
        return own.interface.network if own else None


def _dhcp_servers(machine: Machine, wire: Wire) -> list[Finding]:
    try:
        probed = probe.probe(wire.interface, machine.options.seconds)
    except probe.ProbeError as error:
        return [not_looked(servers.CHECK, wire.interface, error)]
    local = {str(address.interface.ip) for _, address in machine.addresses}
    return servers.judge(wire, probed, local=local, running=machine.daemon is not None)


def _ports(machine: Machine) -> list[Finding]:
    ours = [machine.address(wire) for wire in machine.site.wires]
    wanted = ports.needs(machine.site, [address for address in ours if address])
    held = [one for one in ports.read_sockets() if any(need.clashes(one) for need in wanted)]
    holders = ports.read_holders({one.inode for one in held})
    return ports.judge(wanted, held, holders, machine.daemon is not None)


def _interface(machine: Machine, wire: Wire) -> list[Finding]:
    found = []
    try:
        link = interface.read_link(wire)
    except OSError as error:  # no raw socket: all but the duplicate address can be seen
        found.append(
            not_looked(interface.CHECK, wire.interface, f"whether our address is ours alone ({error})")
        )
        link = interface.read_link(wire, probe=False)
    return interface.judge(wire, link, machine.site) + found


def _tftp(machine: Machine, wire: Wire) -> list[Finding]:
    site, address = machine.site, machine.address(wire)
    if not site.tftp_port:
        return [Finding(transfer.TFTP, "note", wire.interface, N_("tftp.enabled is false: not tried."))]
    first = bootfiles.describe_first(machine.site.boot_dir)
    if machine.daemon is None or not address or first is None:
        return [_not_tried(transfer.TFTP, machine, wire, address)]
    name, size, sha256 = first
    got = transfer.fetch(address, site.tftp_port, name, own=address)
    return [transfer.judge_tftp(address, site.tftp_port, name, got, size, sha256)]


def _http(machine: Machine, wire: Wire) -> list[Finding]:
    site = machine.site
    address = site.http_host if site.http_host not in ("", "0.0.0.0") else machine.address(wire)
    first = bootfiles.describe_first(machine.site.boot_dir)
    if machine.daemon is None or not address or first is None:
        return [_not_tried(transfer.HTTP, machine, wire, address)]
    path = f"/boot/files/{first[0]}"
    got = transfer.head(address, site.http_port, path)
    return transfer.judge_http(address, site.http_port, path, got, first[1])


def _not_tried(check: str, machine: Machine, wire: Wire, address: str) -> Finding:
    if machine.daemon is None:
        return Finding(
            check,
            "note",
            wire.interface,
            N_("Not tried: pxeboot does not run here, so nothing would answer."),
            N_("Start it and ask again: `systemctl start pxeboot`."),
        )
    sentence = (
        N_("Not tried: there is no boot file to ask for.")
        if address
        else N_("Not tried: %(interface)s has no address.")
    )
    return Finding(check, "note", wire.interface, sentence, "", {"interface": wire.interface})


def _firewall(machine: Machine) -> list[Finding]:
    rules, problems = firewall.read_rules()
    found = [not_looked(firewall.CHECK, "rules", problem) for problem in problems]
    if problems and not rules.chains:
        return found
    calls = firewall.read_calls_iptables()
    for wire in machine.site.wires:
        traffic = firewall.traffic_of(machine.site, wire, machine.address(wire), machine.network(wire))
        found += firewall.judge(wire, traffic, rules, firewall.manager_of(rules))
        bridge = interface.bridge_of(wire.interface) or interface.as_bridge(wire.interface)
        found += firewall.judge_bridge(wire, bridge, rules, calls)
    return found


def _multicast(machine: Machine, wire: Wire) -> list[Finding]:
    bridge = interface.as_bridge(wire.interface) or interface.bridge_of(wire.interface)
    seconds = multicast.QUERY_SECONDS if machine.options.thorough else 0.0
    heard = multicast.listen(wire, machine.site, bridge, address=machine.address(wire), query_seconds=seconds)
    return multicast.judge(wire, heard)


def _each_wire(check: Callable[[Machine, Wire], list[Finding]]) -> Callable[[Machine], list[Finding]]:
    """A check of an interface, on all of them at once."""

    def run(machine: Machine) -> list[Finding]:
        wires = machine.site.wires
        found: dict[str, list[Finding]] = {}
        failed: list[BaseException] = []

        def one(wire: Wire) -> None:
            try:
                found[wire.interface] = check(machine, wire)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=one, args=(wire,), daemon=True) for wire in wires]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]
        return [finding for wire in wires for finding in found.get(wire.interface, [])]

    return run


CHECKS: Final[Mapping[str, Callable[[Machine], list[Finding]]]] = {
    interface.CHECK: _each_wire(_interface),
    ports.CHECK: _ports,
    servers.CHECK: _each_wire(_dhcp_servers),
    transfer.TFTP: _each_wire(_tftp),
    transfer.HTTP: _each_wire(_http),
    firewall.CHECK: _firewall,
    multicast.CHECK: _each_wire(_multicast),
    bootfiles.FILES: lambda machine: bootfiles.check_files(machine.site.boot_dir),
    bootfiles.SIGNATURES: lambda machine: bootfiles.check_signatures(
        machine.site.boot_dir, datetime.now(UTC)
    ),
    host.POOL: lambda machine: host.check_pool(machine.site),
    host.DISK: lambda machine: host.check_disk(machine.site),
    host.CLOCK: lambda machine: host.check_clock(),
    host.LIMITS: lambda machine: host.check_limits(machine.daemon.pid if machine.daemon else 0),
}
NEED_INTERFACE: Final = (interface.CHECK, servers.CHECK, transfer.TFTP, multicast.CHECK)


def run(
    site: Site,
    names: Iterable[str] = (),
    options: Options = Options(),
    progress: Callable[[str, list[Finding]], None] = lambda name, findings: None,
) -> list[Finding]:
    """Run the named checks (none: all), and call `progress` as each ends.

    What is not done within LIMIT_SECONDS (thorough: as long as its listening takes) becomes a finding of its
    own. Raises KeyError for a name that is no check.
    """
    chosen = {name: CHECKS[name] for name in names} or dict(CHECKS)
    machine = Machine(site, options)
    results: dict[str, list[Finding]] = {}
    if not site.wires:
        for name in [name for name in chosen if name in NEED_INTERFACE]:
            del chosen[name]
        results[interface.CHECK] = [_no_interface()]
    done: Queue[tuple[str, list[Finding]]] = Queue()

    def one(name: str) -> None:
        try:
            found = chosen[name](machine)
        except Exception as error:  # a check that fails is a finding, not the end of the others
            log.debug("check %s failed", name, exc_info=error)
            found = [not_looked(name, name, f"{type(error).__name__}: {error}")]
        done.put((name, found))

    for name in chosen:
        threading.Thread(target=one, args=(name,), name=f"doctor-{name}", daemon=True).start()
    limit = max(LIMIT_SECONDS, options.seconds + 6) + (multicast.QUERY_SECONDS if options.thorough else 0)
    end = time.monotonic() + limit
    while len(results) < len(chosen) + (not site.wires):
        try:
            name, found = done.get(timeout=max(end - time.monotonic(), 0))
        except Empty:
            break
        results[name] = found
        progress(name, found)
    for name in chosen:
        if name not in results:
            results[name] = [not_looked(name, name, f"it took more than {limit:.0f} s")]
    order = list(CHECKS)
    return [finding for name in sorted(results, key=order.index) for finding in _sorted(results[name])]


def _sorted(findings: list[Finding]) -> list[Finding]:
    """Worst first, else in the order they were found."""
    return sorted(findings, key=lambda finding: _ORDER[finding.level])


def _no_interface() -> Finding:
    return Finding(
        interface.CHECK,
        "error",
        "network.interface",
        N_("No interface is configured: DHCP, TFTP and multicast stay off."),
        N_("Set network.interface to the one that faces the machines (`ip -br link` lists them)."),
    )
