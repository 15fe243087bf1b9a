"""Our answers to the DHCP and TFTP engines: what to load first, which files there are, and what the
journal hears.

Everything here runs on the event loop and answers from memory.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sqlmodel import col, select

from dhcp.actions import Noted
from dhcp.bootfile import BootFile
from dhcp.pxe import PxeClient
from pxeboot.adapters.knownhosts import KnownHosts
from pxeboot.boot.chain import NoBootFile, boot_client, boot_file, uuid_text
from pxeboot.boot.decide import decide
from pxeboot.db.engine import Database
from pxeboot.db.models import HostMac
from pxeboot.events import Journal, Record
from pxeboot.services import boots, hosts, unit
from pxeboot.settings import Settings
from tftp.server import RequestRefused, ServerEvent, TransferEnded, TransferStarted
from tftp.transfer import TransferCompleted

log = logging.getLogger(__name__)

FLUSH_SECONDS = 2.0


class SeenBook:
    """Which machines were seen where, collected in memory and written down every two seconds."""

    def __init__(self, database: Database, journal: Journal) -> None:
        self._database, self._journal = database, journal
        self._seen: dict[str, tuple[str, datetime]] = {}

    def note(self, mac: str, address: str = "") -> None:
        """Remember; from the event loop. At most ten thousand machines wait (a flood of made-up MACs)."""
        if mac in self._seen or len(self._seen) < 10_000:
            self._seen[mac] = (address or self._seen.get(mac, ("", None))[0], datetime.now(UTC))

    async def run(self) -> None:
        """Write for ever. What cannot be written now is tried again: it must not end the daemon."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            if self._seen:
                seen, self._seen = self._seen, {}
                try:
                    await asyncio.to_thread(self._write, seen)
                except Exception as error:
                    log.error("which machines were seen cannot be written now: %s", error)
                    self._seen = {**seen, **self._seen}

    def _write(self, seen: dict[str, tuple[str, datetime]]) -> None:
        with self._database.read() as session:  # strangers, of whom there may be thousands, have no row
            ours = session.exec(select(HostMac.mac).where(col(HostMac.mac).in_(seen))).all()
        if not ours:
            return
        with unit.writing(self._database, self._journal) as session:
            for mac in ours:
                address, at = seen[mac]
                hosts.note_seen(session, mac, address=address, now=at)


class Choice:
    """`dhcp.bootfile.BootChoice`: which boot file a machine gets; `decide` has the word, `chain` the
    file."""

    def __init__(
        self,
        settings: Settings,
        base_url_at: Callable[[str], str],
        known: KnownHosts,
        journal: Journal,
        files: Callable[[], set[str]],
    ) -> None:
        self._settings, self._base_url_at, self._known = settings, base_url_at, known
        self._journal, self._files = journal, files
        self._policy = boots.policy(settings)

    def choose(self, client: PxeClient, now: float, server: str) -> BootFile | None:
        """What this machine loads first; None: an address only."""
        host = self._known.find(client.mac, uuid_text(client))
        decision = decide(
            host, None, None, boot_client(client), datetime.fromtimestamp(now, UTC), self._policy
        )
        if decision.silent:
            self._journal.record("boot", "boot.ignored", decision.reason, mac=client.mac)
            return None
        found = boot_file(client, self._base_url_at(server), self._files())
        if isinstance(found, NoBootFile):
            self._journal.record("boot", "boot.impossible", found.reason, mac=client.mac)
            return None
        return found


class BootFolder:
    """The names in the boot folder, read again at most once a second."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: set[str] = set()
        self._read_at = float("-inf")

    def names(self) -> set[str]:
        """File names."""
        now = time.monotonic()
        if now - self._read_at > 1.0:
            try:
                self._names = {entry.name for entry in self._path.iterdir() if not entry.name.startswith(".")}
            except OSError:
                self._names = set()
            self._read_at = now
        return self._names


def dhcp_notes(journal: Journal, seen: SeenBook) -> Callable[[Noted], None]:
    """Where the DHCP server's notes go."""

    def take(note: Noted) -> None:
        journal.record("dhcp", note.kind, note.sentence, mac=note.mac, data=dict(note.data))
        address = note.data.get("address")
        seen.note(note.mac, address if isinstance(address, str) and note.kind == "dhcp.acknowledged" else "")

    return take


def tftp_notes(journal: Journal, mac_of: Callable[[str], str]) -> Callable[[ServerEvent], None]:
    """Where the TFTP server's events go."""

    def take(event: ServerEvent) -> None:
        if isinstance(event, TransferStarted):
            return  # its end will be told; whose address it is may be a look into /proc
        now = datetime.now(UTC)
        mac = mac_of(event.peer.address)
        where = {"address": event.peer.address, "name": event.name[:200]}
        if isinstance(event, TransferEnded):
            done = isinstance(event.result, TransferCompleted)
            kind = "tftp.sent" if done else "tftp.aborted"
            sentence = f"{event.name[:200]} was sent by TFTP to {event.peer.address}."
            if not done:
                reason = getattr(event.result, "reason", "") or getattr(event.result, "message", "")
                sentence = f"{event.name[:200]} was not read to its end by {event.peer.address}: {reason}"
        else:
            kind = "tftp.refused" if isinstance(event, RequestRefused) else "tftp.ignored"
            sentence = f"{event.peer.address} asked for {event.name[:200]!r}: {event.reason}"
        journal.add(Record("tftp", kind, sentence, now, mac=mac, data=where))

    return take
