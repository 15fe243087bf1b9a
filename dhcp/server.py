"""The shell around the responder: sockets are drained, leases committed, and only then acknowledged.

Each wake-up empties the sockets. Whatever is not an ACK leaves at once; an ACK waits until a durable
transaction holds its lease, with all others of its batch. A thread waits for the disk, so the event loop
never does; what arrives meanwhile makes the next transaction, which so grows with the load and the slowness
of the disk. One server has all interfaces and both ports (67, 4011): one lease table has one committer.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final

from dhcp import options as opt
from dhcp.actions import Action, Arrival, Noted, Probe, Send
from dhcp.batches import Inbox
from dhcp.conflict import LinkProbes, Probes
from dhcp.leases import LeaseError, LeaseStore
from dhcp.neighbours import Neighbours
from dhcp.packet import MessageType, Packet, PacketError
from dhcp.ports import Listener, Port
from dhcp.responder import Responder

__all__ = ["DhcpServer", "Listener"]

_LOG = logging.getLogger("dhcp")
_BATCH: Final = 64  # DISCOVERs a turn of the loop
_DRAIN: Final = 256  # datagrams a turn
_MOST_BEGINNERS: Final = 1024  # DISCOVERs waiting: some 0.2 s
_DISCOVER: Final = bytes(
    (53, 1, MessageType.DISCOVER)
)  # where all real clients have it: first of the options
_MOST_WAITING: Final = 2048  # notes, of which every datagram gives one
# A transaction costs as much as two leases. When several came in one, many come: the next begins no sooner
# than this after it began, and holds more. Whoever comes alone never waits.
_SEVERAL: Final = 4
_GATHER_SECONDS: Final = 0.003
_LOOK_SECONDS: Final = 2.0  # how soon a link that was made anew is listened on again
# Offers are promises of seconds, a NAK promises nothing: neither needs the disk.
_AT_ONCE: Final = frozenset((bytes((MessageType.OFFER,)), bytes((MessageType.NAK,))))

_Ack = tuple[Port, bytes, Send]
_Earlier = dict[tuple[Port, int, bytes, bytes | None], Packet]


class DhcpServer:
    """DHCP on all its listeners.

    Attributes:
        responder: may be replaced while running (a new configuration); the lease table stays.
        missing: optional listeners whose port is another program's, tried again while we run. (The daemon
            does not even name those that are taken at its start, and so leaves them to the other program.)
    """

    def __init__(
        self,
        listeners: Sequence[Listener],
        responder: Responder,
        leases: LeaseStore,
        neighbours: Neighbours,
        notify: Callable[[Noted], None],
        *,
        clock: Callable[[], float] = time.time,
        probes: Probes | None = None,
    ) -> None:
        """Args:
        notify: gets every note, on the event loop; it must not wait.
        probes: who looks whether an address is in use; default: ARP and ICMP on our links.
        """
        self.responder = responder
        self.missing: tuple[Listener, ...] = ()
        self._ports = {(one.interface, one.port): Port(one, neighbours) for one in listeners}
        self._leases = leases
        self._notify = notify
        self._clock = clock
        self._probes = LinkProbes() if probes is None else probes
        self._counters: Counter[str] = Counter()
        self._beginners: deque[tuple[Port, bytes, Arrival]] = deque()
        self._again: asyncio.Handle | None = None
        self._acks: list[_Ack] = []
        self._notes: list[Noted] = []
        self._disk = _Disk(leases)
        self._writing = False  # a transaction is under way, or the next one still gathers
        self._began = 0.0  # the last one; time of the loop
        self._gathering: asyncio.TimerHandle | None = None
        self._settled = asyncio.Event()
        self._stopping = False
        self._paused = False
        self._watcher: asyncio.Task[None] | None = None

    @property
    def counters(self) -> Counter[str]:
        """What happened since the start, on all listeners together.

        `received`, `sent`, `malformed`, `repeated` (the same message twice in one batch), `shed` (DISCOVERs
        dropped because too many waited), `unicast`, `broadcast`, `neighbour_failed`, `send_failed`,
        `receive_failed`, `reopened`, `commit_failed`, `crashed`, those of the probes (`dhcp.conflict`), and
        one per kind of note.
        """
        total = self._counters + self._probes.counters
        for port in self._ports.values():
            total.update(port.counters)
        return total

    def counters_of(self, listener: Listener) -> Counter[str]:
        """What happened at one listener: `received`, `sent`, `malformed` and so on. Raises KeyError."""
        return Counter(self._ports[listener.interface, listener.port].counters)

    async def start(self) -> None:
        """Bind all and listen. Raises OSError, with the listener in its text: port taken, no such interface,
        not root. An optional listener only warns.
        """
        missing: list[Listener] = []
        try:
            for port in self._ports.values():
                try:
                    port.open()
                except OSError as error:
                    if not port.listener.optional:
                        raise
                    missing.append(port.listener)
                    _LOG.warning("going on without %s: %s", port.listener, error.strerror)
        except OSError:
            for port in self._ports.values():
                port.close()
            raise
        self.missing = tuple(missing)
        self._disk.start(asyncio.get_running_loop(), self._written)
        self._listen()
        self._watcher = asyncio.create_task(self._watch(), name="dhcp-links")

    async def stop(self) -> None:
        """Stop listening, acknowledge what is being written, close. At most as long as the disk takes."""
        if self._watcher is None:
            return
        self._stopping = True
        self._watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watcher
        self._watcher = None
        self._deafen()
        self._beginners.clear()
        self._probes.close()
        if self._gathering is not None:
            self._gathered()
        while self._writing:
            self._settled.clear()
            await self._settled.wait()
        self._disk.stop()
        for port in self._ports.values():
            port.close()

    # --- listening

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for port in self._ports.values():
            if (number := port.fileno) is not None:
                loop.add_reader(number, self._readable, port)

    def _deafen(self) -> None:
        loop = asyncio.get_running_loop()
        for port in self._ports.values():
            if (number := port.fileno) is not None:
                loop.remove_reader(number)

    async def _watch(self) -> None:
        """Open a new socket where a link was taken away and came back, or a taken port became free."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for port in self._ports.values():
                if not port.stale():
                    continue
                if (number := port.fileno) is not None:
                    loop.remove_reader(number)
                    port.close()
                    _LOG.warning("%s is gone; waiting for it to come back", port.listener)
                with contextlib.suppress(OSError):  # not yet
                    number = port.open()
                    port.counters["reopened"] += 1
                    self.missing = tuple(one for one in self.missing if one != port.listener)
                    if not self._paused:
                        loop.add_reader(number, self._readable, port)
                    _LOG.warning("listening on %s again", port.listener)

    def _readable(self, *ports: Port) -> None:
        """Empty the sockets, judging all but DISCOVERs; those come last, and not all when there are too many.

        Whoever is about to finish goes before those who begin: else, under more load than we can bear, we
        would make offers to everybody and be too late for most REQUESTs.
        """
        more = False
        for port in ports:
            more |= self._drain(port)
        earlier: _Earlier = {}
        for _ in range(min(_BATCH // 4 if more else _BATCH, len(self._beginners))):
            self._judge(*self._beginners.popleft(), earlier)
        self._settle()
        if self._beginners and self._again is None and not self._paused:
            self._again = asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._again = None
        if not self._stopping and not self._paused:
            self._readable(*self._ports.values())

    def _drain(self, port: Port) -> bool:
        """Take what arrived at a port; whether there may be more."""
        earlier: _Earlier = {}
        for _ in range(_DRAIN // Inbox.COUNT):
            taken = port.receive()
            for data, arrival in taken:
                if data[240:243] != _DISCOVER:
                    self._judge(port, data, arrival, earlier)
                    continue
                if len(self._beginners) >= _MOST_BEGINNERS:
                    shed = self._beginners.popleft()[0]  # the oldest: it will soon ask again anyway
                    shed.counters["shed"] += 1
                self._beginners.append((port, data, arrival))
            if len(taken) < Inbox.COUNT:
                return False
        return True

    def _judge(self, port: Port, data: bytes, arrival: Arrival, earlier: _Earlier) -> None:
        try:
            packet = Packet.parse(data)
            # By port: two cards on one wire both hear it, and only one may have the subnet.
            key = (port, packet.xid, packet.chaddr, packet.options.get(opt.MESSAGE_TYPE))
            before = earlier.setdefault(key, packet)
            if before is not packet and before.options == packet.options and before.giaddr == packet.giaddr:
                port.counters["repeated"] += 1  # it waited so long that the client asked again: one answer
                return
            self._act(port, self.responder.handle(packet, arrival, self._clock()))
        except PacketError as error:
            port.counters["malformed"] += 1
            _LOG.debug("malformed datagram from %s on %s: %s", arrival.source, port.listener, error)
        except Exception:  # a bug of ours: seen, counted, and one machine's problem only
            port.counters["crashed"] += 1
            _LOG.exception(
                "failed on a datagram from %s on %s: %s", arrival.source, port.listener, data.hex()
            )

    def _act(self, port: Port, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                data = action.data()
                if action.packet.options.get(opt.MESSAGE_TYPE) in _AT_ONCE:
                    port.send(data, action.to, action.port, action.l2, action.own)
                else:
                    self._acks.append((port, data, action))
            elif isinstance(action, Noted):
                self._notes.append(action)
            elif not self._probes.look(action, functools.partial(self._looked, port, action)):
                # Known to be free, or nobody can look: as if nobody had answered.
                self._act(port, self.responder.probed(action, False, self._clock()))

    def _looked(self, port: Port, probe: Probe, in_use: bool) -> None:
        """A probe is over."""
        if self._stopping:
            return
        try:
            self._act(port, self.responder.probed(probe, in_use, self._clock()))
        except Exception:
            port.counters["crashed"] += 1
            _LOG.exception("failed on the probe of %s for %s", probe.address, probe.mac)
        self._settle()

    # --- committing

    def _settle(self) -> None:
        """Have the disk hold what was promised so far; or remember to, when it is busy."""
        if not self._writing:
            self._write()
        elif len(self._notes) >= _MOST_WAITING and not self._paused:
            # The disk hangs: leave the rest in the sockets' buffers, which are bounded.
            self._paused = True
            self._deafen()

    def _write(self) -> None:
        acks, self._acks = self._acks, []
        notes, self._notes = self._notes, []
        try:
            changed = self._leases.prepare()
        except LeaseError as error:
            self._withhold(len(acks), error)
            return
        if changed:
            self._writing = True
            self._began = asyncio.get_running_loop().time()
            self._disk.write(acks, notes)
        else:
            self._answer(acks, notes)

    def _written(self, acks: list[_Ack], notes: list[Noted], error: LeaseError | None) -> None:
        if error is None:
            self._answer(acks, notes)
        else:
            self._withhold(len(acks) + len(self._acks), error)
            # What came in meanwhile was judged by a table that is void now.
            self._acks, self._notes = [], []
            try:
                self._leases.abandon()
            except LeaseError as second:
                _LOG.error("%s", second)
        loop = asyncio.get_running_loop()
        due = self._began + _GATHER_SECONDS
        if len(acks) >= _SEVERAL and due > loop.time():
            self._gathering = loop.call_at(due, self._gathered)
        else:
            self._gathered()

    def _gathered(self) -> None:
        """The next transaction may begin."""
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        self._writing = False
        if self._notes or self._acks:
            self._write()
        if self._paused and not self._stopping:
            self._paused = False
            self._listen()
            self._go_on()
        self._settled.set()

    def _withhold(self, count: int, error: LeaseError) -> None:
        # Nobody was promised anything: the clients ask again, and hear from us when the disk can hold it.
        self._counters["commit_failed"] += 1
        _LOG.error("leases could not be written, %d answers withheld: %s", count, error)

    def _answer(self, acks: list[_Ack], notes: list[Noted]) -> None:
        for port, data, ack in acks:
            port.send(data, ack.to, ack.port, ack.l2, ack.own)
        for note in notes:
            self._counters[note.kind] += 1
            try:
                self._notify(note)
            except Exception:
                self._counters["crashed"] += 1
                _LOG.exception("nobody took the note %s", note.kind)


_Written = Callable[[list[_Ack], list[Noted], LeaseError | None], None]


class _Disk:
    """The thread that waits for the disk. One order at a time; cheaper than an executor's futures."""

    def __init__(self, leases: LeaseStore) -> None:
        self._leases = leases
        self._orders: queue.SimpleQueue[tuple[list[_Ack], list[Noted]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self, loop: asyncio.AbstractEventLoop, written: _Written) -> None:
        self._thread = threading.Thread(target=self._run, args=(loop, written), name="leases", daemon=True)
        self._thread.start()

    def write(self, acks: list[_Ack], notes: list[Noted]) -> None:
        """Finish the prepared transaction, then call `written` on the loop."""
        self._orders.put((acks, notes))

    def stop(self) -> None:
        """End the thread; nothing may be under way."""
        if self._thread is not None:
            self._orders.put(None)
            self._thread.join()
            self._thread = None

    def _run(self, loop: asyncio.AbstractEventLoop, written: _Written) -> None:
        while (order := self._orders.get()) is not None:
            trouble: LeaseError | None = None
            try:
                self._leases.finish()
            except LeaseError as error:
                trouble = error
            except Exception as error:  # the batch must not wait for ever
                trouble = LeaseError(f"unexpected {type(error).__name__}: {error}")
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(written, *order, trouble)
