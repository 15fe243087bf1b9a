"""Neighbours in one deploy: serve them what this host holds, take from them what multicast does not bring.

Serving begins with the deploy and ends, at the latest, some time after it (`linger`). Taking is switched on
and off by whoever decides between the ways (`allow`). What no neighbour has comes from the server, which
chooses among several chunks one that it has given to nobody yet.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from imaging.agent.console import Console
from imaging.agent.errors import AgentError
from imaging.agent.hearing import network_of
from imaging.agent.i18n import gettext as _
from imaging.agent.listen import Listener, own_address
from imaging.agent.progress import Progress
from imaging.agent.restore import Restore
from imaging.agent.server import Server
from imaging.manifest import ChunkRef, Manifest
from imaging.peers.choose import Address, Ask, Chooser, Neighbour, Result
from imaging.peers.client import PeerClient, PeerError
from imaging.peers.news import Holdings
from imaging.peers.serve import PeerServer
from imaging.peers.stock import Stock
from imaging.target import Assignment, Target

WORKERS = 6
# Seconds between words with the server, while we need neighbours and while not.
_HELLO, _QUIET_HELLO = 1.0, 4.0
_CALL_SECONDS = 5.0
_MOVING = 6.0  # seconds without a chunk, then plain HTTP helps
_MEMORY_SHARE = 4  # a quarter of the free memory keeps frames


class Peers:
    """The neighbours of one deploy task. ``order`` is the task's ``peers``, None or empty: there are none.

    Nothing here fails a deploy: where serving is impossible nothing is served, and where no neighbour helps
    `ready` or `moving` stay false and HTTP does the work.
    """

    def __init__(
        self, order: dict[str, Any] | None, server: Server, console: Console, progress: Progress, task: str,
        manifest: Manifest,
    ) -> None:  # fmt: skip
        self._order = order or {}
        self._server = server.another(patience=0.0, timeout=_CALL_SECONDS)
        self._server.stop = threading.Event()
        self._console, self._progress, self._task = console, progress, task
        self._manifest = manifest
        rng = random.SystemRandom()
        self._holdings = Holdings(len(manifest.chunks), rng.getrandbits(64))
        self._stock = Stock(manifest.chunks, self._holdings, _free_memory() // _MEMORY_SHARE)
        self._chooser = Chooser(len(manifest.chunks), random.Random(rng.getrandbits(64)))
        self._lock = threading.Lock()  # of the chooser
        self._targets: dict[int, Target] = {}
        self._serving: PeerServer | None = None
        self._prefix = 32
        self._others = 0
        self._counted = False
        self._allowed = False
        self._moved_at = 0.0
        self._received = self._lingering = False
        self._ending = threading.Event()
        self._soon = threading.Event()
        self._threads: list[threading.Thread] = []
        self._restore: Restore | None = None
        self._listener: Listener | None = None

    # -- serving ---------------------------------------------------------------------------------------------

    def start(self, assignments: Sequence[Assignment]) -> None:
        """Serve from now on what is put into the stock or lies on these disks."""
        secret = self._order.get("secret")
        if not isinstance(secret, str) or not secret:
            return
        try:
            parts = urlsplit(self._server.url)
            address = own_address(str(parts.hostname), parts.port or 80)
            interface = network_of(address)
            self._prefix = interface.network.prefixlen
            for given in assignments:
                target = Target(self._manifest, given, write=False, shared=True)
                self._targets[given.number] = target
            self.read_disks(True)
            network = None if self._order.get("across") else interface.network
            port, mbit = int(self._order.get("port") or 0), self._order.get("rate")
            self._serving = PeerServer(address, port, secret, self._stock, network, mbit)
        except Exception as error:
            # Nobody needs us to serve: the server has every chunk.
            self._console.say(f"agent: peers unavailable reason={error or type(error).__name__}")
            self._close_targets()
            self._order = {}
            return
        self._console.say(f"agent: peers serving={address}:{self._serving.port}")
        self._hello()  # before anything is fetched: what the server gives us must not be given to others
        self._run(self._hellos, "peers-hello")

    def read_disks(self, allowed: bool) -> None:
        """Whether neighbours may be given what only the disks hold: not while file systems are changed. On
        False the kernel forgets what was read, which what is mounted next must not meet."""
        self._stock.read_with(self._read if allowed and self._targets else None)
        if not allowed:
            for target in self._targets.values():
                target.disk.drop_caches()

    def _read(self, ref: ChunkRef) -> memoryview | None:
        try:
            return self._targets[ref.disk].read(ref)
        except Exception as error:
            self._console.log(f"peers: chunk {ref.index} cannot be read: {error}")
            return None

    def linger(self) -> None:
        """After the outcome: serve on while neighbours need it, for as long as the order says."""
        seconds = float(self._order.get("linger") or 0)
        if self._serving is None or seconds <= 0:
            return
        self._lingering = True
        self._soon.set()
        deadline = time.monotonic() + seconds
        told = False
        while (left := deadline - time.monotonic()) > 0 and self._hello():
            if not told:
                self._console.say(_("Other machines are still fetching from this one: it waits for them."))
                told = True
            if self._ending.wait(min(left, _HELLO * random.uniform(0.75, 1.25))):
                return

    def close(self) -> None:
        """Stop serving and let go of the disks."""
        self._ending.set()
        self._soon.set()
        if self._serving is not None:
            self._serving.close()
            self._console.say(
                f"agent: peers served chunks={self._stock.sent_chunks} bytes={self._stock.sent_bytes}"
            )
        self._stock.read_with(None)
        for thread in self._threads:
            thread.join(_CALL_SECONDS + 1)
        self._close_targets()
        self._stock.clear()
        self._server.close()

    def _close_targets(self) -> None:
        for target in self._targets.values():
            target.close()
        self._targets = {}

    # -- the server ------------------------------------------------------------------------------------------

    def _hellos(self) -> None:
        while not self._ending.is_set() and not self._lingering:
            every = _HELLO if self._progress.way != "multicast" else _QUIET_HELLO
            self._soon.wait(every * random.uniform(0.75, 1.25))
            self._soon.clear()
            if not self._lingering:
                self._hello()

    def _hello(self) -> bool:
        """Tell the server how we are and hear who is there; whether others still need us."""
        with self._lock:
            reports, self._chooser.reports = self._chooser.reports, []
        for (host, port), why in reports:
            self._console.say(f"agent: peer left address={host}:{port} reason={why}")
        body = {
            "port": self._serving.port if self._serving else 0,
            "prefix": self._prefix,
            "have": len(self._holdings),
            "complete": self._received,
            "way": self._progress.way,
            "left": [{"address": host, "port": port, "reason": why[:200]} for (host, port), why in reports],
        }
        try:
            answer = self._server.peers(self._task, body)
            neighbours = [(str(host), int(port)) for host, port in answer.get("neighbours") or []]
            connections = max(0, min(int(answer.get("connections", 1)), WORKERS))
            others, needed = int(answer.get("others") or 0), bool(answer.get("needed"))
            sent = answer.get("sent")
        except AgentError as error:
            if 400 <= error.status < 500:
                self._counted = False
            return False  # away: what we know of our neighbours still holds
        except (TypeError, ValueError):
            return False
        with self._lock:
            self._chooser.listed(neighbours)
            self._chooser.server_connections = connections
        self._others, self._counted = others, connections > 0 or others > 0
        listener = self._listener
        if isinstance(sent, int) and listener is not None:
            listener.server_sent(sent, time.monotonic())
        return needed

    # -- taking ----------------------------------------------------------------------------------------------

    @property
    def serving(self) -> bool:
        """Whether this host takes part at all."""
        return self._serving is not None

    @property
    def ready(self) -> bool:
        """Whether the server counts us in. Alone, too: whoever comes next then gets other chunks from it."""
        return self._serving is not None and self._counted

    @property
    def alone(self) -> bool:
        """Whether nobody else takes part now."""
        return self._others == 0

    def moving(self, now: float) -> bool:
        """Whether chunks come, or may be about to."""
        return now - self._moved_at < _MOVING

    def attach(self, restore: Restore, listener: Listener) -> None:
        """Work for this restore until :meth:`detach`; nothing is asked before :meth:`allow`."""
        if self._serving is None:
            return
        self._restore, self._listener = restore, listener
        restore.kept = self._stock.keep
        restore.demand.follow(self)
        self._run(self._gather_news, "peers-news")
        for number in range(WORKERS):
            self._run(self._work, f"peers-{number}")

    def allow(self, on: bool) -> None:
        """Ask neighbours (and, for what none has, the server) from now on, or no more."""
        if on and not self._allowed:
            self._moved_at = time.monotonic()
            self._soon.set()
        self._allowed = on

    def detach(self) -> None:
        """The restore is over; waits for the requests in flight. Serving goes on."""
        restore, self._restore, self._listener = self._restore, None, None
        self._allowed, self._received = False, True
        if restore is not None:
            for thread in self._threads:
                if thread.name != "peers-hello":
                    thread.join(30)
            restore.demand.unfollow(self)

    def on_wanted(self, indexes: list[int]) -> None:
        """Of the demand: these have become wanted."""
        with self._lock:
            self._chooser.want(indexes)

    def on_done(self, index: int) -> None:
        """Of the demand: this one is on the disk."""
        with self._lock:
            self._chooser.settled(index)
        self._holdings.add(index)

    def _run(self, work: Any, name: str) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _going(self, restore: Restore | None) -> bool:
        return (
            restore is not None
            and restore is self._restore
            and not self._ending.is_set()
            and not restore.progress.stopping
        )

    def _work(self) -> None:
        restore = self._restore
        clients: dict[Address, PeerClient] = {}
        server = self._server.another(timeout=30.0)
        try:
            while self._going(restore):
                assert restore is not None
                ask = None
                if self._allowed:
                    with self._lock:
                        ask = self._chooser.next(time.monotonic())
                if ask is None:
                    restore.demand.wait(0.1)
                elif ask.peer is None:
                    self._from_server(restore, server, ask)
                else:
                    self._from_neighbour(restore, clients, ask)
                if ask is not None:
                    restore.demand.wake()  # a neighbour is free again, or told of more
        except Exception as error:
            if restore is not None:
                restore.progress.fail(error)
        finally:
            server.close()
            for client in clients.values():
                client.close()

    def _from_server(self, restore: Restore, server: Server, ask: Ask) -> None:
        result, index = Result.FAILED, -1
        try:
            given = server.grant(self._task, [restore.chunks[index].hash for index in ask.indexes])
            if given is None:
                result = Result.BUSY
            else:
                place, frame = given
                index = ask.indexes[place]
                if restore.demand.claim(index):
                    result = Result.OK
                    if restore.put(index, frame, source="http"):
                        self._moved_at = time.monotonic()
                else:
                    result = Result.USELESS
        except AgentError as error:
            # Plain HTTP tries what the server cannot give here, and says so if it cannot give it at all.
            self._console.log(f"peers: the server gave no chunk: {error.sentence}")
        except IndexError:
            self._console.log("peers: the server gave a chunk that was not asked for")
        finally:
            with self._lock:
                self._chooser.ended(ask, result, time.monotonic(), index=index)
            if result is Result.USELESS:
                self._skip(restore, index)

    def _from_neighbour(self, restore: Restore, clients: dict[Address, PeerClient], ask: Ask) -> None:
        assert ask.peer is not None
        (index,) = ask.indexes
        if not restore.demand.claim(index):
            with self._lock:
                self._chooser.ended(ask, Result.USELESS, time.monotonic())
            self._skip(restore, index)
            return
        client = clients.get(ask.peer)
        if client is None:
            client = clients[ask.peer] = self._client(ask.peer)
        result, why, put, news = Result.FAILED, "", False, None
        try:
            news, frame = client.chunk(index, ask.epoch, ask.position)
            put = True
            good = restore.put(index, frame, source="peers")  # gives the claim back
            result, why = (Result.OK, "") if good else (Result.LIED, "a chunk from it fails its hash")
            if good:
                self._moved_at = time.monotonic()
        except PeerError as error:
            result, why = error.result, error.why
        finally:
            now = time.monotonic()
            with self._lock:
                self._chooser.ended(ask, result, now, why)
                if news is not None and result is Result.OK:
                    self._chooser.heard(ask.peer, news, now)
            if not put:
                restore.demand.finish(index, good=False)

    def _skip(self, restore: Restore, index: int) -> None:
        """Somebody else has this chunk in hand, unless it came to nothing just now."""
        with self._lock:
            self._chooser.settled(index)
            if restore.demand.is_wanted(index):
                self._chooser.want([index])

    def _client(self, address: Address) -> PeerClient:
        return PeerClient(address, str(self._order["secret"]), len(self._manifest.chunks))

    def _gather_news(self) -> None:
        """Ask neighbours that gave us no chunk lately what they have."""
        restore = self._restore
        clients: dict[Address, PeerClient] = {}
        while self._going(restore):
            assert restore is not None
            due: list[Neighbour] = []
            if self._allowed:
                with self._lock:
                    due = self._chooser.stale(time.monotonic())
            for peer in due:
                client = clients.setdefault(peer.address, self._client(peer.address))
                try:
                    news = client.news(peer.epoch, peer.position)
                except PeerError as error:
                    with self._lock:
                        lied = error.result is Result.LIED
                        self._chooser.failed(peer, time.monotonic(), error.why, lied=lied)
                    continue
                with self._lock:
                    self._chooser.heard(peer.address, news, time.monotonic())
            self._ending.wait(0.1)
        for client in clients.values():
            client.close()


def _free_memory() -> int:
    """Bytes that programs may still take."""
    with open("/proc/meminfo", encoding="ascii") as file:
        free = dict(line.split(":", 1) for line in file).get("MemAvailable", "0 kB")
    return int(free.split()[0]) * 1024
