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
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import uvicorn

from pxeboot import __version__, logs
from pxeboot.adapters import container
from pxeboot.adapters.container import Services
from pxeboot.adapters.igmp import run_queriers
from pxeboot.adapters.interfaces import look
from pxeboot.adapters.leaseview import LeaseView
from pxeboot.adapters.listening import ServiceFailed, http_addresses, http_sockets, url_of
from pxeboot.adapters.plan import Plan, make_plan
from pxeboot.adapters.reload import Reloader
from pxeboot.errors import AppError, ConfigError
from pxeboot.services import attempts, auth, jobs, journal, schedules, transfers
from pxeboot.settings import Settings, refuse

log = logging.getLogger("pxeboot")

STOP_SECONDS = 2  # what an open response gets after live streams and agents were told
REAP_SECONDS = 2.0
SCHEDULE_SECONDS = 1.0
PRUNE_SECONDS = 600.0
CARE_SECONDS = 60.0  # how often the store's keeper looks whether something is due
ADDRESS_SECONDS = 60.0  # how long a late address is waited for


def serve(settings: Settings, path: Path | None = None) -> int:
    """Run the daemon until SIGTERM or SIGINT; returns the exit status. Prints one sentence when it fails.

    `path`: the file that a reload (SIGHUP) reads, as for `pxeboot.settings.load`.
    """
    logs.configure(settings)
    _few_arenas()
    try:
        asyncio.run(_Daemon(settings, path).run())
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

    def __init__(self, settings: Settings, path: Path | None) -> None:
        self._settings, self._path = settings, path
        self._stop = asyncio.Event()
        self._reloads: set[asyncio.Task[None]] = set()
        self._started = time.monotonic()

    async def run(self) -> None:
        """From first file to last."""
        loop = asyncio.get_running_loop()
        # Python's default, cores + 4, would let a few uploads keep the reaper and the scheduler waiting.
        loop.set_default_executor(ThreadPoolExecutor(max_workers=24, thread_name_prefix="work"))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)  # not before there is something to reload
        plan = await self._plan()
        if plan is None:
            return
        services = await asyncio.to_thread(_open, self._settings, plan)
        try:
            async with contextlib.AsyncExitStack() as stack:
                await self._serve(services, plan, stack)
        finally:
            # Threads may still write to the journal until the very end of HTTP.
            await asyncio.to_thread(container.close, services)
            log.info("stopped")

    async def _plan(self) -> Plan | None:
        """What is to be served where; None: told to stop while waiting for an address. ConfigError."""
        looking = asyncio.create_task(look(self._settings, ADDRESS_SECONDS))
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({looking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not looking.done():
            looking.cancel()
            return None
        interfaces, mistakes = await looking
        plan = make_plan(self._settings, interfaces)
        told = [*mistakes, *plan.mistakes]
        refuse(told)
        for one in told:
            log.warning("%s", one.sentence)
        return plan

    async def _serve(self, services: Services, plan: Plan, stack: contextlib.AsyncExitStack) -> None:
        """Start the parts, wait for the signal (or the first failure), end them."""
        sockets = await asyncio.to_thread(http_sockets, self._settings, plan.interfaces)

        def keep() -> None:
            services.keeper.tick(datetime.now(UTC))

        async with asyncio.TaskGroup() as group:
            # First of all: rooms that were receiving when the last daemon was killed wait for their senders.
            running = [group.create_task(services.sessions.run(), name="multicast")]
            # The heaviest import of all (FastAPI, pages) happens off the loop and before anything answers.
            http = await asyncio.to_thread(_http_server, services)
            running += [
                group.create_task(self._reaper(services), name="reaper"),
                group.create_task(self._scheduler(services), name="scheduler"),
                group.create_task(self._pruner(services), name="pruner"),
                group.create_task(self._every(CARE_SECONDS, keep), name="storekeeper"),
                group.create_task(services.doctor.run(self._settings.doctor.every_seconds), name="doctor"),
            ]
            boot = None
            if plan.interfaces:
                from pxeboot.adapters.bootservices import BootServices

                boot = await asyncio.to_thread(BootServices, services, plan)
                stack.push_async_callback(boot.stop)
                await boot.start()
                running += [group.create_task(part, name=name) for name, part in boot.tasks()]
                running.append(group.create_task(self._querier(services, plan), name="querier"))
            self._allow_reload(services, Reloader(services, boot, plan.interfaces, self._path))
            web = group.create_task(self._http(http, sockets), name="http")
            log.info(
                "pxeboot %s serves %s after %.2f s",
                __version__,
                services.base_url,
                time.monotonic() - self._started,
            )
            await self._stop.wait()
            log.info("stopping")
            services.reload = None
            services.journal.close_subscriptions()
            http.should_exit = True
            await web
            for task in running:
                task.cancel()

    def _allow_reload(self, services: Services, reloader: Reloader) -> None:
        """From now on SIGHUP and the API may ask for the settings to be read again."""

        async def reload() -> None:
            with contextlib.suppress(AppError):  # the reloader has told the log and the journal
                await reloader.reload()

        def hang_up() -> None:
            task = asyncio.get_running_loop().create_task(reload(), name="reload")
            self._reloads.add(task)
            task.add_done_callback(self._reloads.discard)

        services.reload = reloader.reload
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hang_up)

    async def _http(self, server: _Http, sockets: list[socket.socket]) -> None:
        try:
            await server.serve(sockets)
        except SystemExit as error:  # uvicorn's way to say that it cannot start
            raise ServiceFailed("The HTTP server could not start; its log has the reason.") from error
        if not self._stop.is_set():
            raise ServiceFailed("The HTTP server has ended by itself.")

    async def _querier(self, services: Services, plan: Plan) -> None:
        """Ask for IGMP memberships while the setting says so; a reload may switch it."""

        def note(kind: str, sentence: str, data: dict[str, object]) -> None:
            services.journal.record("multicast", kind, sentence, data=data)

        places = [(one.name, one.address) for one in plan.interfaces]
        await run_queriers(places, lambda: services.settings.multicast.querier, note)

    async def _reaper(self, services: Services) -> None:
        """Look for attempts that fell silent."""
        since = datetime.now(UTC)

        def look() -> None:
            now, rules = datetime.now(UTC), services.settings.tasks
            with services.read() as session:
                late = attempts.waiting_too_long(session, rules, now=now, since=since)
            if late:
                with services.write() as session:
                    attempts.reap(session, rules, now=now, since=since)

        await self._every(REAP_SECONDS, look)

    async def _scheduler(self, services: Services) -> None:
        """Start what is due."""

        def look() -> None:
            now = datetime.now(UTC)
            with services.read() as session:
                due = schedules.due(session, now=now)
            for schedule_id in due:
                with services.write() as session:
                    schedules.run(
                        session,
                        schedule_id,
                        settings=services.settings,
                        now=now,
                        allow=services.keeper.check_room,
                    )

        await self._every(SCHEDULE_SECONDS, look)

    async def _pruner(self, services: Services) -> None:
        """Keep the journal, the records of transfers and the rescued files within their bounds."""

        def look() -> None:
            rules = services.settings.journal
            with services.write() as session:
                journal.prune(
                    session,
                    keep_per_host=rules.keep_per_host,
                    keep_days=rules.keep_days,
                    now=datetime.now(UTC),
                )
                transfers.prune(session, keep_days=rules.keep_days, now=datetime.now(UTC))
            services.forget_rescues(datetime.now(UTC))

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


def _open(settings: Settings, plan: Plan) -> Services:
    """Make the directories, the database, the store, the first administrator and the local token."""
    data_dir = settings.server.data_dir
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        settings.boot_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"server.data_dir = {str(data_dir)!r} cannot be used: {error.strerror}.") from error
    first = plan.interfaces[0].address if plan.interfaces else ""
    usual = first or http_addresses(settings, ())[0]
    services = container.open_services(settings, base_url=url_of(usual, settings.http.port), address=first)
    services.base_urls = {one.address: url_of(one.address, settings.http.port) for one in plan.interfaces}
    services.sessions.addresses = frozenset(services.base_urls)
    services.leases = LeaseView(None, beside=plan.beside)
    try:
        with services.write() as session:
            password = auth.ensure_first_admin(session, data_dir)
            auth.ensure_cli_token(session, data_dir, now=datetime.now(UTC))
            jobs.tell_forgotten(session, services.journal, now=datetime.now(UTC))
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
