"""The receiver's shell: a thread between the sockets of one session and the agent that writes the disk."""

import random
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .events import ChunkLost, ChunkReceived, Ended, Rejoin, Resumed, Silent, Stalled
from .fitness import SLOW_AFTER
from .receiver import Counters, Receiver
from .settings import ReceiverSettings
from .udp import RECEIVE_BUFFER, ReceiverSocket
from .wire import MAX_SYMBOL, MIN_SYMBOL, VERSION, SenderState, make_seal

_POLL = 0.05  # s; how soon a want is noticed
_GATHER = 0.006  # s


@dataclass(frozen=True)
class ReceiverStatus:
    """A picture of the session at one instant; counters are totals since the start."""

    wanted: int = 0  # chunks still to come
    pending: int = 0  # frames handed out and not answered by got or reject
    chunks: int = 0  # frames handed out
    received: int = 0  # datagrams
    lost: int = 0
    bytes_received: int = 0  # UDP payload
    bytes_frames: int = 0  # of the frames handed out
    rejected: int = 0
    heard: bool = False  # an announce of this session has arrived
    sender: SenderState | None = None
    silent: bool = False  # nothing heard for 3 s: work over HTTP; it ends by itself when data comes again
    stalled: bool = False  # data comes, but no chunk gets whole here: work over HTTP
    slow: bool = False  # a good part of the stream is lost here, or more comes than can be written
    loss: float = 0.0  # share of the stream that is lost on its way here; 0 while it is we who are too slow
    rebuilt: int = 0  # of the frames handed out, those that parity finished
    ended: str = ""  # why no more will come: the sender stopped, or serves another image
    error: str = ""  # why the thread gave up

    @property
    def hopeless(self) -> bool:
        """Whether to fetch over HTTP what is wanted, at least for now."""
        return bool(self.silent or self.stalled or self.ended or self.error)


class ReceiverThread(threading.Thread):
    """Receives one session. All methods may be called from any thread; none of them waits.

    `session` is SESSION of docs/ARCHITECTURE.md §4; `chunks` the number in the manifest; `interface` the own
    IPv4 address to hear on. `on_chunk(index, frame)` gets the stored frame, unverified, in the thread of the
    receiver: put it in a queue, verify it elsewhere, and answer with `got` or `reject`. At most
    `settings.max_pending` frames are out at a time; while they are, the stream passes by and comes again.
    `on_lost(index, reason)`: this chunk will not come by multicast. Raises ValueError for a session that
    makes no sense, OSError when the sockets cannot be had.
    """

    def __init__(
        self,
        session: Mapping[str, Any],
        chunks: int,
        on_chunk: Callable[[int, bytes], None],
        *,
        interface: str,
        on_lost: Callable[[int, str], None] | None = None,
        manifest: bytes | None = None,
        receiver_id: int | None = None,
        buffer: int = 64 << 20,
        max_pending: int = 64,
        socket_buffer: int = RECEIVE_BUFFER,
    ) -> None:
        super().__init__(name="multicast-receiver", daemon=True)
        if (version := session.get("version", 1)) != VERSION:
            raise ValueError(
                f"the server speaks version {version} of the multicast protocol, this machine {VERSION}: "
                "start it again from the server's own boot environment"
            )
        symbol = int(session["symbol"])
        if not MIN_SYMBOL <= symbol <= MAX_SYMBOL or symbol % 2:
            raise ValueError(f"a symbol of {symbol} bytes is out of range")
        key = session.get("key")
        host, port = session["report"]
        self._sender = (str(host), int(port))
        settings = ReceiverSettings(
            symbol_size=symbol,
            buffer=buffer,
            max_pending=max_pending,
            key=bytes.fromhex(key) if key else None,
            encrypt=bool(session.get("encrypt")),
        )
        if receiver_id is None:
            receiver_id = random.SystemRandom().getrandbits(64)
        self._core = Receiver(
            int(session["id"]), receiver_id, chunks, time.monotonic(), settings, manifest,
            random.Random(receiver_id ^ time.time_ns()),
        )  # fmt: skip
        self._socket = ReceiverSocket(
            interface,
            str(session["group"]),
            int(session["port"]),
            make_seal(settings.key).header + symbol,
            socket_buffer,
        )
        self._on_chunk, self._on_lost = on_chunk, on_lost
        self._orders: deque[Callable[[float], None]] = deque()
        self._closing = threading.Event()
        self._chunks = 0
        self._stalled_at = -1  # chunks handed out when it stalled
        self._breathless_at = float("-inf")
        self._ended = ""
        self._status = ReceiverStatus()

    # -- for the agent ------------------------------------------------------------------------------

    def want(self, indexes: Iterable[int]) -> None:
        """Ask for these chunks."""
        wanted = list(indexes)
        core = self._core

        def order(now: float) -> None:
            for index in wanted:
                core.want(index, now)

        self._orders.append(order)

    def welcome(self, indexes: Iterable[int]) -> None:
        """Take these chunks if they pass by, without asking (not scanned yet)."""
        welcome = list(indexes)
        core = self._core

        def order(now: float) -> None:
            for index in welcome:
                core.welcome(index)

        self._orders.append(order)

    def got(self, index: int) -> None:
        """This chunk is here and verified, from multicast, HTTP or the disk itself."""
        self._orders.append(lambda now: self._core.got(index))

    def reject(self, index: int) -> None:
        """The frame handed out for this chunk failed its hash."""
        self._orders.append(lambda now: self._core.reject(index, now))

    def scanning(self, more_may_come: bool) -> None:
        """While True, an empty want set does not mean DONE."""

        def order(now: float) -> None:
            self._core.scanning = more_may_come

        self._orders.append(order)

    @property
    def status(self) -> ReceiverStatus:
        """At most a quarter of a second old."""
        return self._status

    def close(self, timeout: float = 2.0) -> None:
        """Say good-bye to the sender, leave the group, end the thread."""
        self._closing.set()
        if self.ident is None:
            self._socket.close()
        else:
            self.join(timeout)

    # -- the thread ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Until `close`, or an error that is then in `status.error`."""
        error = ""
        try:
            self._loop()
            self._leave()
        except Exception as fault:
            # The thread's end is the agent's business: it goes on over HTTP and reports this sentence.
            error = f"multicast receiver stopped: {fault or type(fault).__name__}"
        finally:
            self._socket.close()
            self._picture(error)

    def _loop(self) -> None:
        core, sock, orders = self._core, self._socket, self._orders
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        next_look = 0.0
        while not self._closing.is_set():
            now = time.monotonic()
            while orders:
                orders.popleft()(now)
            core.handle_timer(now)
            for datagram in core.datagrams_to_send(now):
                sock.report(datagram, self._sender)
            if now >= next_look:
                if sock.catch_breath():
                    self._breathless_at = now
                self._picture()
                next_look = now + 0.02
            wait = max(0.0, min(_POLL, core.next_timer() - now))
            if poll.poll(wait * 1000):
                # Bounded, so that reports go out on time however fast data comes.
                until = now + 0.02
                while batches := sock.receive():
                    now = time.monotonic()
                    for data, segment in batches:
                        core.receive(data, now, segment)
                    if now > until or orders:
                        break
                else:
                    # Let some gather: to wake up for every few datagrams costs more than to read them, and
                    # the kernel's buffer holds a quarter of a second at a gigabit a second.
                    time.sleep(_GATHER)
            self._tell()

    def _tell(self) -> None:
        for event in self._core.events():
            if isinstance(event, ChunkReceived):
                self._chunks += 1
                self._on_chunk(event.index, event.frame)
            elif isinstance(event, ChunkLost):
                if self._on_lost is not None:
                    self._on_lost(event.index, event.reason)
            elif isinstance(event, Rejoin):
                self._rejoin()
            elif isinstance(event, Ended):
                self._ended = event.reason
            elif isinstance(event, Stalled):
                self._stalled_at = self._chunks
            elif isinstance(event, Silent | Resumed):
                self._picture()

    def _rejoin(self) -> None:
        try:
            self._socket.rejoin()
        except OSError:
            # No carrier or no address just now: the core asks again in a few seconds, and Silent sends the
            # agent to HTTP meanwhile.
            return

    def _leave(self) -> None:
        self._core.leave()
        for _ in range(3):  # datagrams get lost; if all three are, the sender forgets us after 3 s
            for datagram in self._core.datagrams_to_send(time.monotonic(), 1):
                self._socket.report(datagram, self._sender)
            time.sleep(0.01)

    def _picture(self, error: str = "") -> None:
        core = self._core
        counters: Counters = core.counters
        self._status = ReceiverStatus(
            wanted=core.wanted,
            pending=core.pending,
            chunks=self._chunks,
            received=core.hearing.received,
            lost=core.hearing.lost,
            bytes_received=counters.bytes_received,
            bytes_frames=counters.bytes_frames,
            rejected=counters.rejected,
            heard=core.announce is not None,
            sender=core.announce.state if core.announce else None,
            silent=core.silent,
            stalled=self._stalled_at == self._chunks,
            slow=core.fitness.slow,
            loss=core.fitness.loss if time.monotonic() - self._breathless_at > SLOW_AFTER else 0.0,
            rebuilt=counters.rebuilt,
            ended=self._ended if core.ended else "",
            error=error,
        )
