"""The composition root: one asyncio process in which everything is made, started, watched and stopped.

Start: database and store, then DHCP, TFTP and HTTP on sockets of our own. Stop (SIGTERM, SIGINT): live
streams are
ended first, because HTTP waits for open responses. A service that fails stops the daemon with one sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn

from pxeboot import __version__, logs
from pxeboot.adapters import container
from pxeboot.adapters.container import Services
from pxeboot.adapters.network import InterfaceFacts, LeaseView, interface_facts, subnet_config
from pxeboot.errors import AppError, ConfigError
from pxeboot.services import auth, journal, schedules, tasks
from pxeboot.settings import Settings

log = logging.getLogger("pxeboot")

STOP_SECONDS = 2  # what an open response gets after live streams and agents were told
REAP_SECONDS = 2.0
SCHEDULE_SECONDS = 1.0
PRUNE_SECONDS = 600.0


class ServiceFailed(AppError):
    """A part of the daemon could not start or has died."""

    code = "service-failed"
    title = "Service failed"


def serve(settings: Settings) -> int:
    """Run the daemon until SIGTERM or SIGINT; returns the exit status. Prints one sentence when it
    fails."""
    logs.configure(settings)
    _few_arenas()
    try:
        asyncio.run(_Daemon(settings).run())
    except AppError as error:
        print(f"pxeboot: {error.sentence}", file=sys.stderr, flush=True)
        return error.exit_code
    except BaseExceptionGroup as group:
        first = _first(group)
        if isinstance(first, AppError):
            print(f"pxeboot: {first.sentence}", file=sys.stderr, flush=True)
            return first.exit_code
        log.error("the daemon has failed", exc_info=first)
        print(
            f"pxeboot: stopped by an unexpected {type(first).__name__}: {first}", file=sys.stderr, flush=True
        )
        return 1
    return 0


def _few_arenas() -> None:
    """glibc gives each thread a heap that never shrinks: ours share two (mallopt(3), M_ARENA_MAX)."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(-8, 2)


class _Http(uvicorn.Server):
    """uvicorn without its signal handlers: it would put back the old ones and raise the signal again."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Daemon:
    """One run of the daemon."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = asyncio.Event()
        self._started = time.monotonic()

    async def run(self) -> None:
        """From first file to last."""
        loop = asyncio.get_running_loop()
        # Python's default, cores + 4, would let a few uploads keep the reaper and the scheduler waiting.
        loop.set_default_executor(ThreadPoolExecutor(max_workers=24, thread_name_prefix="work"))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        settings = self._settings
        facts = None
        if settings.network.interface:
            facts = await interface_facts(settings.network.interface, settings.network.address)
        base_url = _base_url(settings, facts)
        address = facts.address if facts else ""
        services = await asyncio.to_thread(_open, settings, base_url, address)
        try:
            async with contextlib.AsyncExitStack() as stack:
                await self._serve(services, facts, stack)
        finally:
            # Threads may still write to the journal until the very end of HTTP.
            await asyncio.to_thread(container.close, services)
            log.info("stopped")

    async def _serve(
        self, services: Services, facts: InterfaceFacts | None, stack: contextlib.AsyncExitStack
    ) -> None:
        """Start the parts, wait for the signal (or the first failure), end them."""
        sockets = await asyncio.to_thread(_http_sockets, self._settings, facts)
        # The heaviest import of all (FastAPI, pages) happens off the loop and before anything answers.
        http = await asyncio.to_thread(_http_server, services)
        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(self._reaper(services), name="reaper"),
                group.create_task(self._scheduler(services), name="scheduler"),
                group.create_task(self._pruner(services), name="pruner"),
                group.create_task(services.sessions.run(), name="multicast"),
            ]
            if facts is not None:
                running += [
                    group.create_task(part, name=name)
                    for name, part in await _boot_services(services, facts, stack)
                ]
            web = group.create_task(self._http(http, sockets), name="http")
            log.info(
                "pxeboot %s serves %s after %.2f s",
                __version__,
                services.base_url,
                time.monotonic() - self._started,
            )
            await self._stop.wait()
            log.info("stopping")
            services.journal.close_subscriptions()
            http.should_exit = True
            await web
            for task in running:
                task.cancel()

    async def _http(self, server: _Http, sockets: list[socket.socket]) -> None:
        try:
            await server.serve(sockets)
        except SystemExit as error:  # uvicorn's way to say that it cannot start
            raise ServiceFailed("The HTTP server could not start; its log has the reason.") from error
        if not self._stop.is_set():
            raise ServiceFailed("The HTTP server has ended by itself.")

    async def _reaper(self, services: Services) -> None:
        """Look for attempts that fell silent."""
        since = datetime.now(UTC)

        def look() -> None:
            now, rules = datetime.now(UTC), self._settings.tasks
            with services.read() as session:
                late = tasks.waiting_too_long(session, rules, now=now, since=since)
            if late:
                with services.write() as session:
                    tasks.reap(session, rules, now=now, since=since)

        await self._every(REAP_SECONDS, look)

    async def _scheduler(self, services: Services) -> None:
        """Start what is due."""

        def look() -> None:
            now = datetime.now(UTC)
            with services.read() as session:
                due = schedules.due(session, now=now)
            for schedule_id in due:
                with services.write() as session:
                    schedules.run(session, schedule_id, settings=self._settings, now=now)

        await self._every(SCHEDULE_SECONDS, look)

    async def _pruner(self, services: Services) -> None:
        """Keep the journal within its bounds."""

        def look() -> None:
            rules = self._settings.journal
            with services.write() as session:
                journal.prune(
                    session,
                    keep_per_host=rules.keep_per_host,
                    keep_days=rules.keep_days,
                    now=datetime.now(UTC),
                )

        await self._every(PRUNE_SECONDS, look)

    async def _every(self, seconds: float, look: Callable[[], None]) -> None:
        """Call `look` in a thread for ever. A failing database is tried again; it must not end running
        deploys."""
        failures = 0
        while True:
            try:
                await asyncio.to_thread(look)
                failures = 0
            except Exception as error:
                failures += 1
                log.error("%s failed (%d times in a row)", look.__qualname__, failures, exc_info=error)
                if failures >= 30:
                    raise ServiceFailed(f"The daemon cannot do its rounds any more: {error}.") from error
            await asyncio.sleep(seconds * random.uniform(0.9, 1.1))


def _open(settings: Settings, base_url: str, address: str) -> Services:
    """Make the directories, the database, the store, the first administrator and the local token."""
    data_dir = settings.server.data_dir
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        settings.boot_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"server.data_dir = {str(data_dir)!r} cannot be used: {error.strerror}.") from error
    services = container.open_services(settings, base_url=base_url, address=address)
    try:
        with services.write() as session:
            password = auth.ensure_first_admin(session, data_dir)
            auth.ensure_cli_token(session, data_dir, now=datetime.now(UTC))
    except BaseException:
        container.close(services)
        raise
    if password:
        print(
            f"pxeboot: first start. Sign in as admin with password {password} "
            f"(also in {data_dir / 'first-password'}).",
            flush=True,
        )
    return services


async def _boot_services(
    services: Services, facts: InterfaceFacts, stack: contextlib.AsyncExitStack
) -> list[tuple[str, Coroutine[Any, Any, None]]]:
    """Start DHCP and TFTP on the interface; returns what must keep running beside them."""
    from dhcp.leases import LeaseError, SqliteLeases
    from dhcp.neighbours import ArpTable
    from dhcp.responder import Responder
    from dhcp.server import DhcpServer, Listener
    from pxeboot.adapters import boot, boottree
    from tftp.server import Server as TftpServer

    settings = services.settings
    known = await asyncio.to_thread(boot.KnownHosts, services.database)
    seen = boot.SeenBook(services.database, services.journal)
    if settings.dhcp.enabled and settings.dhcp.mode != "off":
        subnet = subnet_config(settings, facts)
        try:
            leases = SqliteLeases(settings.server.data_dir / "leases.sqlite")
        except LeaseError as error:
            raise ServiceFailed(f"DHCP cannot start: {error}.") from error
        stack.callback(leases.close)
        if settings.dhcp.mode == "full":
            services.leases = LeaseView(leases)
        neighbours = ArpTable()
        stack.callback(neighbours.close)
        folder = boot.BootFolder(settings.boot_dir)
        choice = boot.Choice(settings, services.base_url_at, known, services.journal, folder.names)
        responder = Responder([subnet], leases, choice)
        server = DhcpServer(
            [Listener(facts.name)], responder, leases, neighbours, boot.dhcp_notes(services.journal, seen)
        )
        try:
            await server.start()
        except OSError as error:
            raise ServiceFailed(
                f"DHCP cannot listen on {facts.name}: {error.strerror}. "
                "Another DHCP server may run here; stop it, or set dhcp.enabled = false."
            ) from error
        stack.push_async_callback(server.stop)
    if settings.tftp.enabled:
        tftp = TftpServer(
            boottree.tftp_files(settings, services.base_url_at),
            facts.address,
            settings.tftp.port,
            on_event=boot.tftp_notes(services.journal, services.leases.mac_of),
        )
        try:
            await tftp.start()
        except OSError as error:
            raise ServiceFailed(
                f"TFTP cannot listen on {facts.address}:{settings.tftp.port}: {error.strerror}. "
                "Stop what uses it, or set tftp.enabled = false."
            ) from error
        stack.push_async_callback(tftp.stop)
    return [("known-hosts", known.follow(services.journal)), ("seen", seen.run())]


def _base_url(settings: Settings, facts: InterfaceFacts | None) -> str:
    """How machines reach us."""
    host = facts.address if facts else settings.http.host or "127.0.0.1"
    return f"http://{host}" + (f":{settings.http.port}" if settings.http.port != 80 else "")


def _http_sockets(settings: Settings, facts: InterfaceFacts | None) -> list[socket.socket]:
    """Listening sockets, made by us so that a taken port is one clear sentence."""
    host = settings.http.host or (facts.address if facts else "127.0.0.1")
    found = []
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, settings.http.port))
    except OSError as error:
        made.close()
        raise ServiceFailed(
            f"HTTP cannot listen on {host}:{settings.http.port}: {error.strerror}. "
            "Stop what uses it, or set http.host or http.port."
        ) from error
    made.listen(1024)
    found.append(made)
    if settings.http.unix_socket:
        path = Path(settings.http.unix_socket)
        local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            path.unlink(missing_ok=True)
            local.bind(str(path))
            os.chmod(path, 0o660)
        except OSError as error:
            made.close()
            local.close()
            raise ServiceFailed(
                f"http.unix_socket = {str(path)!r} cannot be made: {error.strerror}."
            ) from error
        local.listen(256)
        found.append(local)
    return found


def _http_server(services: Services) -> _Http:
    from api.app import create_app
    from webui.app import mount

    app = create_app(services)
    mount(app)
    return _Http(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=STOP_SECONDS,
            timeout_keep_alive=30,
            server_header=False,
            backlog=1024,
        )
    )


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The failure that explains the others."""
    for error in group.exceptions:
        found = _first(error) if isinstance(error, BaseExceptionGroup) else error
        if not isinstance(found, asyncio.CancelledError):
            return found
    return group
