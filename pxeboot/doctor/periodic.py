"""The checks beside a running daemon: other DHCP and PXE servers at intervals, everything when asked.

Both run as processes of their own (`python -m dhcp.probe`, `python -m pxeboot.doctor`): packet sockets, time
and memory are theirs, and DHCP answers are not kept waiting. Only what changed is put into the journal.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final

from dhcp.probe import SECONDS, Probed
from pxeboot.doctor import checks, interface, servers
from pxeboot.doctor.finding import Finding, not_looked
from pxeboot.doctor.site import Wire, site_of
from pxeboot.settings import Settings

log = logging.getLogger(__name__)

FIRST_LOOK_SECONDS: Final = 10.0  # after the start: our own DHCP must be up
PROBE_LIMIT: Final = SECONDS + 15.0
WHOLE_LIMIT: Final = checks.LIMIT_SECONDS + 30.0

Note = Callable[[str, str, dict[str, Any]], None]
"""Called with kind, sentence and data of what was found or is gone."""


class Watch:
    """The last findings of a daemon, and how they are renewed.

    Attributes:
        findings: of the last look; of checks that it did not make, those of an earlier one.
        at: when that was; None = never.
        running: a look is being made.
    """

    def __init__(self, settings: Callable[[], Settings], note: Note, *, python: str = sys.executable) -> None:
        """`settings` are asked for at each look; `note` (found, gone) must not wait."""
        self._settings, self._note, self._python = settings, note, python
        self._lock: asyncio.Lock | None = None
        self._known: dict[tuple[str, str, str, str], Finding] = {}
        self.findings: list[Finding] = []
        self.at: datetime | None = None
        self.running = False

    @property
    def errors(self) -> list[Finding]:
        """What hurts all machines right now."""
        return [finding for finding in self.findings if finding.level == "error"]

    async def run(self, every_seconds: float) -> None:
        """Look for foreign servers for ever; 0 seconds: never. What fails is a finding, and tried again."""
        if every_seconds <= 0 or not site_of(self._settings()).wires:
            return
        await asyncio.sleep(min(FIRST_LOOK_SECONDS, every_seconds))
        while True:
            await self.look_for_servers()
            await asyncio.sleep(every_seconds * random.uniform(0.9, 1.1))

    async def look_for_servers(self) -> list[Finding]:
        """Ask on every interface who answers DHCP; some five seconds."""
        async with self._alone():
            wires = (await asyncio.to_thread(interface.site_here, self._settings())).wires
            found = await asyncio.gather(*(self._probe(wire) for wire in wires))
            self.take([finding for part in found for finding in part], [servers.CHECK])
        return self.findings

    async def look(self) -> list[Finding]:
        """Run every check; some ten seconds."""
        async with self._alone():
            settings = self._settings().model_dump_json().encode()
            answer = await self._child(["-m", "pxeboot.doctor"], WHOLE_LIMIT, settings)
            try:
                if isinstance(answer, str):
                    raise ValueError(answer)
                found = [Finding.from_dict(one) for one in answer]
            except (ValueError, TypeError) as error:
                self.take([not_looked("doctor", "doctor", error)], ["doctor"])
            else:
                self.take(found, [*checks.CHECKS, "doctor"])
        return self.findings

    def take(self, found: Iterable[Finding], looked: Iterable[str], now: datetime | None = None) -> None:
        """Replace what the checks `looked` said before, and tell the journal what is new and what is gone."""
        made = set(looked)
        fresh = list(found)
        kept = [finding for finding in self.findings if finding.check not in made]
        self.findings = sorted([*kept, *fresh], key=lambda finding: _place(finding.check))
        self.at = now or datetime.now(UTC)
        bad = {finding.key: finding for finding in fresh if finding.level in ("warning", "error")}
        for key, finding in bad.items():
            if key not in self._known:
                self._note("doctor.found", f"{finding.sentence} {finding.remedy}".strip(), _facts(finding))
        for key, finding in list(self._known.items()):
            if key[0] in made and key not in bad:
                self._note("doctor.gone", f"No longer so: {finding.sentence}", _facts(finding))
                del self._known[key]
        self._known |= bad

    async def _probe(self, wire: Wire) -> list[Finding]:
        answer = await self._child(
            # Ourselves we need not ask: it would only fill journal and pool.
            ["-m", "dhcp.probe", wire.interface, "--json", "--others-only"],
            PROBE_LIMIT,
        )
        try:
            if isinstance(answer, str):
                raise ValueError(answer)
            if "error" in answer:
                raise ValueError(answer["error"])
            probed = Probed.from_dict(answer)
            addresses = await asyncio.to_thread(interface.read_addresses)
        except (ValueError, TypeError, OSError) as error:
            return [not_looked(servers.CHECK, wire.interface, error)]
        local = {str(address.interface.ip) for _, address in addresses}
        # We are the daemon: what a local address says is said by us.
        return servers.judge(wire, probed, local=local, running=True)

    async def _child(self, arguments: list[str], limit: float, text: bytes = b"") -> Any:
        """What a Python process prints as JSON; a sentence when it does not, or not in time."""
        pipe = asyncio.subprocess.PIPE
        try:
            child = await asyncio.create_subprocess_exec(
                self._python, *arguments, stdin=pipe, stdout=pipe, stderr=pipe
            )
        except OSError as error:
            return f"the checks cannot be started: {error.strerror}"
        try:
            out, complaint = await asyncio.wait_for(child.communicate(text), limit)
            return json.loads(out)
        except TimeoutError:
            return f"the checks took more than {limit:.0f} s"
        except ValueError:
            log.warning("doctor: %s", complaint.decode("utf-8", "replace")[-2000:])
            return f"the checks ended with status {child.returncode} and without an answer; see the log"
        finally:
            if child.returncode is None:  # too late, or the daemon stops
                child.kill()
                await child.wait()

    def _alone(self) -> _Alone:
        if self._lock is None:
            self._lock = asyncio.Lock()
        return _Alone(self, self._lock)


class _Alone:
    """One look at a time; `running` says so to pages."""

    def __init__(self, watch: Watch, lock: asyncio.Lock) -> None:
        self._watch, self._lock = watch, lock

    async def __aenter__(self) -> None:
        await self._lock.acquire()
        self._watch.running = True

    async def __aexit__(self, *_: object) -> None:
        self._watch.running = False
        self._lock.release()


def _place(check: str) -> int:
    order = [*checks.CHECKS, "doctor"]
    return order.index(check) if check in order else len(order)


def _facts(finding: Finding) -> dict[str, Any]:
    return {"check": finding.check, "level": finding.level, "subject": finding.subject, **finding.data}
