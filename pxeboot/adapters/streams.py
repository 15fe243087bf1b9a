"""One stream of this server: what it may send, what it sent, and what its sender last said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

from pxeboot.adapters.shaper import Gate
from pxeboot.services.transfer_views import StreamView
from pxeboot.transfer.arbiter import Grant, next_wish
from pxeboot.transfer.figures import grade
from pxeboot.transfer.log import StreamLog

#: In place of a session's number: all that an operation's machines fetch from us, or bring.
DOWNLOADS, UPLOADS = 0, -1
IDLE_SECONDS: Final = 5.0  # downloads and uploads that paused for so long are over
LEAST_RATE: Final = 1e5  # bit/s: a stream is slowed down, never stopped
_LEAST_SECONDS: Final = 0.2  # looks that come closer together measure nothing
_WIRE_OVERHEAD: Final = 66  # octets of a datagram beyond its payload, as imaging.multicast.pacer counts


@dataclass
class Stream:
    """A multicast session (`tell` gives its sender another rate), or the downloads or uploads of an operation
    on one interface (`gate` holds them)."""

    operation: str
    session: int
    interface: str
    log: StreamLog
    gate: Gate | None = None
    tell: Callable[[float], None] | None = None
    protected: str = "off"
    grant: Grant = field(default_factory=lambda: Grant(LEAST_RATE, "demand"))
    told: float = 0.0
    used: float = 0.0  # bit/s
    wish: float = 0.0  # 0: what an idle stream keeps
    state: dict[str, Any] = field(default_factory=dict)  # the sender's last words
    fresh: bool = False  # they came since the last look
    unread: bool = True  # an earlier record may lie in the database
    passed: int = 0
    at: float = 0.0  # of the last look
    busy_at: float = 0.0
    saved_at: float = 0.0
    over: bool = False

    @property
    def key(self) -> str:
        """Its name for the arbiter."""
        return f"{self.operation}/{self.session}/{self.interface}"

    @property
    def incoming(self) -> bool:
        """Whether it comes to us."""
        return self.session == UPLOADS

    def measure(self, now: float, idle: float) -> int:
        """What it used since the last look, and so what it can use (at least `idle` bit/s). Returns the bytes
        that passed its gate meanwhile."""
        if self.gate is not None:
            return self._measure_gate(self.gate, now, idle)
        if self.fresh:
            self.fresh = False
            self.used = float(self.state.get("rate_mbit") or 0.0) * 1e6
            self.wish = next_wish(self.used, self.grant.rate, idle)
        return 0

    def _measure_gate(self, gate: Gate, now: float, idle: float) -> int:
        sent, seconds = gate.passed - self.passed, now - self.at
        if self.at and seconds > _LEAST_SECONDS:
            self.used = sent * 8 / seconds
            self.wish = next_wish(self.used, self.grant.rate, idle)
        if gate.waiting:
            self.wish = inf
        if gate.waiting or self.used > 0:
            self.busy_at = now
        self.over = now - self.busy_at > IDLE_SECONDS
        if self.at and seconds <= _LEAST_SECONDS:
            return 0
        self.at, self.passed = now, gate.passed
        return sent

    def take_state(self, data: Mapping[str, Any]) -> tuple[int, list[tuple[str, str, dict[str, Any]]]]:
        """What its sender said; the bytes it has sent since it last did, and (address, class, loss and
        backlog) of receivers whose class has changed."""
        before = {str(row.get("address")): grade(row) for row in self.state.get("hosts") or ()}
        classes = []
        for row in data.get("hosts") or ():
            address, now = str(row.get("address")), grade(row)
            if now and now != before.get(address) and (address in before or now != "healthy"):
                classes.append((address, now, {k: row[k] for k in ("loss", "backlog") if k in row}))
        earlier, later = _on_wire(self.state), _on_wire(data)
        self.state, self.fresh = dict(data), True
        return (later - earlier if later >= earlier else later), classes  # a new sender begins at 0

    def view(self) -> StreamView:
        """What API, pages and metrics show."""
        state = self.state
        return StreamView(
            session=self.session,
            way=self.log.way,
            interface=self.interface,
            state=str(state.get("state") or ""),
            receivers=int(state.get("receivers") or 0),
            rate_mbit=round(self.used / 1e6, 1),
            granted_mbit=round(self.grant.rate / 1e6, 1) if self.grant.rate < inf else 0.0,
            bound=self.grant.bound,
            wanted=int(state.get("wanted") or 0),
            parity=int(state.get("parity_sent") or 0),
            overhead_percent=round(_overhead(state), 1),
            datagrams=int(state.get("datagrams") or 0),
            bytes_sent=_on_wire(state) if self.gate is None else self.gate.passed,
            protected=self.protected,
        )


def _overhead(state: Mapping[str, Any]) -> float:
    """Datagrams beyond each chunk once, in percent of those; 0 before the first whole chunk."""
    all_sent, parity = int(state.get("datagrams") or 0), int(state.get("parity_sent") or 0)
    chunks, again = int(state.get("chunks_sent") or 0), int(state.get("chunks_resent") or 0)
    # Chunks are of about one size: so many of the datagrams of data were the first of their chunk.
    once = (all_sent - parity) * (chunks - again) / chunks if chunks else 0.0
    return 100 * (all_sent / once - 1) if once > 0 else 0.0


def _on_wire(state: Mapping[str, Any]) -> int:
    return int(state.get("bytes_sent") or 0) + int(state.get("datagrams") or 0) * _WIRE_OVERHEAD
