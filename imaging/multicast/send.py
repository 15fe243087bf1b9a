"""The sender's process: what to send comes as JSON on stdin, what happens goes out as JSON lines on stdout.

    python -m imaging.multicast.send < orders > events

The first line of stdin is the order; further lines may change the rate or the number of expected receivers;
the end of stdin means stop, so that no sender outlives the daemon that started it. A process of its own,
because a stream at line rate would delay DHCP answers. Orders and events are described in
docs/multicast-protocol.md.
"""

import gc
import json
import os
import queue
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from imaging.errors import ImagingError

from .cutting import ChunkUnavailable
from .events import ChunkSkipped, ClassChanged, ReceiverJoined, ReceiverLeft, SenderEvent, SweepStarted
from .pacer import WIRE_OVERHEAD
from .sender import Sender
from .settings import SenderSettings
from .udp import SenderSocket, link_mbit
from .wire import MAX_SYMBOL, MIN_SYMBOL, VERSION, SenderState

STATE_EVERY = 0.5  # s
_ORDER_WAIT = 30.0  # s for the first line
_BROKEN_AFTER = 10.0  # s of sends that all fail
_SHARE_OF_LINK = 0.95

Emit = Callable[..., None]


class OrderError(ValueError):
    """The order on stdin cannot be carried out; `str` is one sentence."""


@dataclass(frozen=True)
class Order:
    """What to send, where, and how fast."""

    session: int
    group: str
    port: int
    report: tuple[str, int]
    interface: str
    manifest: str
    store: str
    settings: SenderSettings
    ttl: int
    loop: bool
    idle: float | None


def parse_order(line: bytes | str) -> Order:
    """The first line of stdin. Raises OrderError."""
    try:
        order = json.loads(line)
        session = order["session"]
        report_host, report_port = session["report"]
        interface = str(order.get("interface") or report_host)
        rate = order.get("rate_mbit")
        if rate is None:
            # 95 % leaves room for DHCP, HTTP and the reports of others on the same link.
            rate = (link_mbit(interface) or 1000) * _SHARE_OF_LINK
        if (version := session.get("version", 1)) != VERSION:
            raise OrderError(f"The order is of version {version} of the protocol, this sender of {VERSION}.")
        symbol = int(session["symbol"])
        if not MIN_SYMBOL <= symbol <= MAX_SYMBOL or symbol % 2:
            raise OrderError(
                f"A symbol has {MIN_SYMBOL} to {MAX_SYMBOL} bytes, an even number, not {symbol}."
            )
        if float(rate) <= 0:
            raise OrderError("rate_mbit must be above 0.")
        key, expected, idle = session.get("key"), order.get("expected"), order.get("idle_seconds")
        gather = order.get("gather_seconds")
        settings = SenderSettings(
            rate=float(rate) * 1e6,
            symbol_size=symbol,
            gather=10.0 if gather is None else float(gather),
            expected=None if expected is None else int(expected),
            adapt=bool(order.get("adapt", True)),
            key=bytes.fromhex(key) if key else None,
            encrypt=bool(session.get("encrypt")),
        )
        if order.get("hold_seconds") is not None:
            settings = replace(settings, hold=float(order["hold_seconds"]))
        return Order(
            session=int(session["id"]),
            group=str(session["group"]),
            port=int(session["port"]),
            report=(str(report_host), int(report_port)),
            interface=interface,
            manifest=str(order["manifest"]),
            store=str(order["store"]),
            settings=settings,
            ttl=int(order.get("ttl") or 1),
            loop=bool(order.get("loop", False)),
            idle=None if idle is None else float(idle),
        )
    except OrderError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise OrderError(f"The order on stdin cannot be read: {type(error).__name__}: {error}.") from None


def open_source(order: Order) -> tuple[int, Callable[[int], bytes]]:
    """How many chunks the manifest has, and a callable for their stored frames. Raises ImagingError."""
    from imaging.manifest import Manifest
    from imaging.store import ChunkStore

    store = ChunkStore(order.store, readonly=True)
    data, _ = store.manifest(order.manifest)
    hashes = list(Manifest.from_bytes(data).hashes)

    def frame(index: int) -> bytes:
        try:
            return store.frame(hashes[index])
        except (ImagingError, OSError) as error:
            raise ChunkUnavailable(str(error)) from error

    return len(hashes), frame


class Emitter:
    """JSON lines on stdout, by a thread of its own: a daemon that does not read must not stop us."""

    def __init__(self) -> None:
        self._lines: queue.Queue[bytes | None] = queue.Queue(1000)
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def emit(self, event: str, **data: Any) -> None:
        """Queue a line; when a thousand are waiting, drop it."""
        line = json.dumps({"event": event, **data}, separators=(",", ":")).encode() + b"\n"
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            return

    def close(self) -> None:
        """Wait at most half a second for the last lines."""
        try:
            self._lines.put(None, timeout=0.25)
        except queue.Full:
            return
        self._thread.join(0.5)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                while line:
                    line = line[os.write(1, line) :]
            except OSError:
                return  # nobody reads any more; the end of stdin is what stops us


class _Orders:
    """Lines of stdin, without ever waiting for one."""

    def __init__(self) -> None:
        self.ended = False
        self._rest = b""
        self._early: list[bytes] = []  # came with the order
        os.set_blocking(0, False)

    def lines(self) -> list[bytes]:
        early, self._early = self._early, []
        try:
            data = os.read(0, 65536)
        except BlockingIOError:
            return early
        if not data:
            self.ended = True
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > 1 << 20:
            raise OrderError("A line of more than 1 MiB on stdin.")
        return early + [line for line in lines if line.strip()]

    def first(self, seconds: float) -> bytes:
        """The order itself. Raises OrderError."""
        deadline = time.monotonic() + seconds
        while not self.ended and time.monotonic() < deadline:
            select.select([0], [], [], max(0.0, deadline - time.monotonic()))
            lines = self.lines()
            if lines:
                self._early = lines[1:]
                return lines[0]
        # An order without the newline at its end is an order too.
        if self.ended and self._rest.strip():
            return self._rest
        raise OrderError("No order came on stdin.")


class Runner:
    """Moves datagrams and time between the core, the socket and the daemon."""

    def __init__(self, order: Order, sender: Sender, sock: SenderSocket, orders: _Orders, emit: Emit) -> None:
        self.order, self.sender, self.sock, self.orders, self.emit = order, sender, sock, orders, emit
        self.stopping = ""
        self._last_state = time.monotonic()
        self._last_bytes = 0
        self._idle_since: float | None = None
        self._failing_since: float | None = None

    def run(self) -> str:
        """Until something stops us; returns why."""
        sender, sock = self.sender, self.sock
        watched = [sock.fileno(), 0]
        self._obey()  # what was said while we started
        while not self.stopping:
            now = time.monotonic()
            sender.handle_timer(now)
            for batch in sender.datagrams_to_send(now):
                self._sent(sock.send(batch), now)
            wait = min(sender.next_timer(now), self._last_state + STATE_EVERY) - time.monotonic()
            # select sleeps with a resolution of about 60 us, so even 1 Gbit/s needs no spinning.
            readable = select.select(watched, [], [], max(0.0, wait))[0]
            if sock.fileno() in readable:
                now = time.monotonic()
                for datagram, address in sock.reports():
                    sender.receive(datagram, address, now)
            if 0 in readable:
                self._obey()
            for event in sender.events():
                self._tell(event)
            self._look(time.monotonic())
        sock.send(sender.end())
        sock.send(sender.end())
        return self.stopping

    def _obey(self) -> None:
        for line in self.orders.lines():
            try:
                change = json.loads(line)
                if "rate_mbit" in change:
                    rate = float(change["rate_mbit"]) * 1e6
                    self.sender.set_rate(rate)
                    self.sock.queue(rate)
                if "expected" in change:
                    expected = change["expected"]
                    self.sender.settings = replace(
                        self.sender.settings, expected=None if expected is None else int(expected)
                    )
            except (ValueError, TypeError) as error:
                self.emit("refused", reason=f"a change that cannot be read: {error}")
        if self.orders.ended:
            self.stopping = "end of stdin"

    def _sent(self, taken: bool, now: float) -> None:
        if taken:
            self._failing_since = None
        elif self._failing_since is None:
            self._failing_since = now
            self.emit("send-failed", reason=str(self.sock.last_error))
        elif now - self._failing_since > _BROKEN_AFTER:
            raise OrderError(f"Nothing can be sent on {self.order.interface}: {self.sock.last_error}.")

    def _tell(self, event: SenderEvent) -> None:
        if isinstance(event, ReceiverJoined):
            self.emit("receiver-joined", receiver=f"{event.receiver:016x}", address=_host(event.address))
        elif isinstance(event, ReceiverLeft):
            self.emit(
                "receiver-left",
                receiver=f"{event.receiver:016x}",
                address=_host(event.address),
                reason=event.reason,
            )
        elif isinstance(event, ClassChanged):
            self.emit(
                "receiver-slow" if event.slow else "receiver-recovered",
                receiver=f"{event.receiver:016x}",
                address=_host(event.address),
                loss=round(event.loss, 4),
                backlog=event.backlog,
            )
        elif isinstance(event, SweepStarted):
            self.emit("sweep-started", receivers=event.receivers)
        elif isinstance(event, ChunkSkipped):
            self.emit("chunk-unavailable", index=event.chunk, reason=event.reason)

    def _look(self, now: float) -> None:
        if now - self._last_state < STATE_EVERY:
            return
        sender, counters = self.sender, self.sender.counters
        # The rate on the wire, as the setting counts it.
        on_wire = counters.bytes_sent + counters.datagrams * WIRE_OVERHEAD
        rate = (on_wire - self._last_bytes) * 8 / (now - self._last_state) / 1e6
        self._last_state, self._last_bytes = now, on_wire
        wanted = sender.wanted(now)
        self.emit(
            "state",
            state=sender.state(now).name.lower(),
            receivers=len(sender.peers),
            wanted=wanted,
            rate_mbit=round(rate, 3),
            limit_mbit=round(sender.controller.rate / 1e6, 3),
            segmentation=self.sock.segmenting,
            send_errors=self.sock.errors,
            **asdict(counters),
            hosts=[
                {
                    "receiver": f"{receiver:016x}",
                    "address": _host(peer.address),
                    "state": peer.state.name.lower(),
                    "wanted": peer.wanted,
                    "received": peer.received,
                    "lost": peer.lost,
                    "backlog": peer.backlog,
                    "loss": round(peer.loss, 4),
                    "slow": peer.slow,
                }
                for receiver, peer in sender.peers.items()
            ],
        )
        busy = any(peer.wanted for peer in sender.peers.values())
        # Machines may take minutes to boot: a session nobody has come to yet is the daemon's to end.
        if busy or self.order.idle is None or sender.state(now) is SenderState.GATHERING:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since >= self.order.idle:
            self.stopping = "idle"


def _host(address: object) -> str:
    return str(address[0]) if isinstance(address, tuple) else str(address)


def main() -> int:
    """0: stopped as told, or idle; 1: the order could not be carried out (the last event says why)."""
    # The daemon's Ctrl-C goes to its whole process group; we stop by the end of stdin, and say good-bye.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A chunk is some 700 views of a buffer, none of them in a cycle: don't look for one at each chunk.
    gc.set_threshold(20_000)
    emitter = Emitter()
    code = 0
    try:
        orders = _Orders()
        order = parse_order(orders.first(_ORDER_WAIT))
        chunks, frame = open_source(order)
        sender = Sender(order.session, bytes.fromhex(order.manifest), chunks, frame, order.settings)
        sock = SenderSocket(
            order.interface, order.report[1], order.group, order.port, ttl=order.ttl, loop=order.loop
        )
        sock.queue(order.settings.rate)
        runner = Runner(order, sender, sock, orders, emitter.emit)
        signal.signal(signal.SIGTERM, lambda number, stack: setattr(runner, "stopping", "signal"))
        emitter.emit(
            "started",
            session=order.session,
            chunks=chunks,
            rate_mbit=round(order.settings.rate / 1e6, 3),
            group=order.group,
            port=order.port,
            report_port=sock.port,
        )
        try:
            reason = runner.run()
        finally:
            sock.close()
        emitter.emit("stopped", reason=reason, **asdict(sender.counters))
    except Exception as error:
        # The daemon turns this line into the operation's reason; of what nobody thought of, a traceback helps
        # whoever looks at the log.
        if not isinstance(error, OrderError | ImagingError | OSError):
            sys.excepthook(type(error), error, error.__traceback__)
        emitter.emit("failed", reason=str(error) or type(error).__name__)
        code = 1
    emitter.close()
    return code


if __name__ == "__main__":
    sys.exit(main())
