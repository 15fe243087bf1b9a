"""DHCP and TFTP on all interfaces that face machines: started from a plan, given another while running."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, Final

from dhcp.actions import PXE_PORT, SERVER_PORT
from dhcp.leases import LeaseError, SqliteLeases
from dhcp.neighbours import ArpTable
from dhcp.responder import Responder
from dhcp.server import DhcpServer, Listener
from pxeboot.adapters import boot, boottree, interfaces
from pxeboot.adapters.container import Services
from pxeboot.adapters.knownhosts import KnownHosts
from pxeboot.adapters.leaseview import LeaseView
from pxeboot.adapters.listening import ServiceFailed, holder, is_taken
from pxeboot.adapters.plan import Plan
from pxeboot.settings import Settings
from tftp.files import Files, Peer
from tftp.server import Server as TftpServer
from tftp.transfer import Content

log = logging.getLogger("pxeboot")

_ADVICE: Final = "Stop it, or use dhcp.mode = proxy beside it (docs/booting.md), or set dhcp.enabled = false."


class BootServices:
    """One lease table, one DHCP server for all interfaces and ports, one TFTP server for all addresses."""

    def __init__(self, services: Services, plan: Plan) -> None:
        self._services, self._plan, self._settings = services, plan, services.settings
        self._known = KnownHosts(services.database)
        self._seen = boot.SeenBook(services.database, services.journal)
        self._files = _CurrentFiles()
        self._leases: SqliteLeases | None = None
        self._neighbours: ArpTable | None = None
        self._dhcp: DhcpServer | None = None
        self._listeners: tuple[Listener, ...] = ()
        self._tftp: TftpServer | None = None

    @property
    def plan(self) -> Plan:
        """What is served now."""
        return self._plan

    async def start(self) -> None:
        """Bind and listen. Raises ServiceFailed."""
        services = self._services
        self._take_files(services.settings)
        await self._serve_dhcp(services.settings, self._plan)
        services.leases = self._lease_view(self._plan)
        if services.settings.tftp.enabled:
            await self._serve_tftp(
                [one.address for one in self._plan.interfaces], services.settings.tftp.port
            )
        services.status = self.status

    async def stop(self) -> None:
        """Let go of everything; what was promised is on disk."""
        self._services.status = None
        if self._tftp is not None:
            await self._tftp.stop()
        if self._dhcp is not None:
            await self._dhcp.stop()
        if self._leases is not None:
            self._leases.close()
        if self._neighbours is not None:
            self._neighbours.close()

    def tasks(self) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        """What must keep running beside them."""
        names = {one.name for one in self._plan.interfaces}
        return [
            ("known-hosts", self._known.follow(self._services.journal)),
            ("seen", self._seen.run()),
            ("links", interfaces.follow(names, self._note_link)),
        ]

    async def use(self, settings: Settings, plan: Plan) -> None:
        """Serve another plan from now on: everything of it, or (ServiceFailed) nothing.

        The caller has put `settings` into the services already, and puts the old ones back when this fails.
        """
        old_plan, old_listeners = self._plan, self._listeners
        if _listeners(plan) == old_listeners and self._dhcp is not None:
            self._dhcp.responder = self._responder(settings, plan)  # between two datagrams
        elif _listeners(plan) != old_listeners:
            # One lease table has one committer: the old server must have ended before the new one begins.
            await self._end_dhcp()
            try:
                await self._serve_dhcp(settings, plan)
            except ServiceFailed as error:
                await self._end_dhcp()
                await self._back_to(old_plan, error)
                raise
        self._plan, self._settings = plan, settings
        self._services.leases = self._lease_view(plan)
        self._take_files(settings)

    def status(self) -> dict[str, Any]:
        """What the servers count since they started, and which other DHCP servers machines chose."""
        dhcp, tftp = self._dhcp, self._tftp
        missing = dhcp.missing if dhcp is not None else ()
        listeners = [
            {
                "interface": one.interface,
                "port": one.port,
                "open": dhcp is not None and one not in missing,
                "counters": dict(dhcp.counters_of(one)) if dhcp is not None and one not in missing else {},
            }
            for one in self._listeners
        ]
        seen = dhcp.responder.foreign if dhcp is not None else {}
        return {
            "dhcp": {
                "listeners": listeners,
                "counters": dict(dhcp.counters) if dhcp is not None else {},
                "chosen_elsewhere": [
                    {"subnet": subnet, "server": server, "at": datetime.fromtimestamp(at, UTC)}
                    for subnet, servers in seen.items()
                    for server, at in servers.items()
                ],
            },
            "tftp": {
                "running": tftp.running if tftp is not None else 0,
                "counters": dict(tftp.counters) if tftp is not None else {},
            },
        }

    # --- DHCP

    async def _back_to(self, plan: Plan, why: ServiceFailed) -> None:
        try:
            await self._serve_dhcp(self._settings, plan)
        except ServiceFailed as error:
            await self._end_dhcp()
            raise ServiceFailed(
                f"{why.sentence} The settings in force until now cannot be served again either: "
                f"{error.sentence} DHCP is off until the next reload or restart."
            ) from error

    def _responder(self, settings: Settings, plan: Plan) -> Responder:
        services = self._services
        assert self._leases is not None
        folder = boot.BootFolder(settings.boot_dir)
        choice = boot.Choice(settings, services.base_url_at, self._known, services.journal, folder.names)
        return Responder(plan.subnets, self._leases, choice, self._known)

    async def _serve_dhcp(self, settings: Settings, plan: Plan) -> None:
        wanted = _listeners(plan)
        if not wanted:
            return
        if self._leases is None:
            try:
                self._leases = SqliteLeases(settings.server.data_dir / "leases.sqlite")
            except LeaseError as error:
                raise ServiceFailed(f"DHCP cannot start: {error}.") from error
        if self._neighbours is None:
            self._neighbours = ArpTable()
        opened = [one for one in wanted if await asyncio.to_thread(_may_open, one)]
        server = DhcpServer(
            opened,
            self._responder(settings, plan),
            self._leases,
            self._neighbours,
            boot.dhcp_notes(self._services.journal, self._seen),
        )
        try:
            await server.start()
        except OSError as error:
            raise ServiceFailed(f"DHCP cannot listen: {error.strerror or error}. {_ADVICE}") from error
        self._dhcp, self._listeners = server, wanted
        for subnet in plan.served:
            where = subnet.interface or "relays"
            log.info("DHCP serves %s (mode %s) on %s", subnet.name, subnet.mode, where)

    async def _end_dhcp(self) -> None:
        if self._dhcp is not None:
            await self._dhcp.stop()
        self._dhcp, self._listeners = None, ()

    def _lease_view(self, plan: Plan) -> LeaseView:
        return LeaseView(self._leases if plan.gives_addresses else None, beside=plan.beside)

    # --- TFTP

    async def _serve_tftp(self, addresses: list[str], port: int) -> None:
        services = self._services
        notes = boot.tftp_notes(services.journal, lambda peer: services.leases.mac_of(peer))
        tftp = TftpServer(self._files, addresses, port, on_event=notes)
        try:
            await tftp.start()
        except OSError as error:
            who = await asyncio.to_thread(holder, "udp", port)
            raise ServiceFailed(
                f"TFTP cannot listen on {error.filename}:{port}: {error.strerror}.{who} "
                "Stop what uses it, or set tftp.enabled = false."
            ) from error
        self._tftp = tftp

    def _take_files(self, settings: Settings) -> None:
        self._files.files = boottree.tftp_files(settings, self._services.base_url_at)

    def _note_link(self, kind: str, sentence: str, data: dict[str, object]) -> None:
        level = logging.INFO if kind in ("link.up", "link.address_added") else logging.WARNING
        log.log(level, "%s", sentence)
        self._services.journal.record("server", kind, sentence, data=data)


class _CurrentFiles:
    """The TFTP tree of the settings in force."""

    files: Files

    def open(self, name: str, peer: Peer, local: str = "") -> Content | None:
        """See `tftp.files.Files.open`."""
        return self.files.open(name, peer, local)


def _listeners(plan: Plan) -> tuple[Listener, ...]:
    """Where DHCP listens: port 67, and 4011 for what UEFI machines ask a second time.

    Where we are a proxy on every subnet, 67 may be the other server's (on this very machine): 4011 is enough
    when that one says "PXEClient". Where we give the addresses, 4011 is a courtesy.
    """
    found = []
    for one in plan.interfaces:
        modes = plan.modes_at(one.name)
        if modes:
            beside = "full" not in modes
            found.append(Listener(one.name, SERVER_PORT, optional=beside))
            found.append(Listener(one.name, PXE_PORT, optional=not beside))
    return tuple(found)


def _may_open(listener: Listener) -> bool:
    """False: another program has it, and we can do without. Raises ServiceFailed when we cannot."""
    if not is_taken(listener.interface, listener.port):
        return True
    who = ""
    with contextlib.suppress(OSError):
        who = holder("udp", listener.port)
    if not listener.optional:
        raise ServiceFailed(
            f"DHCP cannot listen on {listener.interface} port {listener.port}: another program listens there."
            f"{who} {_ADVICE}"
        )
    log.warning(
        "Another program listens on %s port %d.%s We go on without it: only machines that it sends on "
        '("PXEClient" in option 60) will ask us at port %d.',
        listener.interface,
        listener.port,
        who,
        PXE_PORT,
    )
    return False
