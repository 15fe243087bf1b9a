"""Chunks by multicast: one session, whose frames are checked and written here, and when to leave it for
HTTP.
"""

from __future__ import annotations

import os
import queue
import random
import socket
import threading
import time
from typing import Any

from imaging.agent.console import Console
from imaging.agent.demand import Demand
from imaging.agent.errors import AgentError
from imaging.agent.fetch import CONNECTIONS
from imaging.agent.hearing import Hearing
from imaging.agent.i18n import gettext as _
from imaging.agent.leaving import Leaving
from imaging.agent.restore import Restore
from imaging.agent.server import Server
from imaging.multicast.thread import ReceiverStatus, ReceiverThread
from imaging.multicast.wire import SenderState

Session = dict[str, Any]

_USELESS = 8.0  # seconds of a stream that brings nothing we want, before HTTP helps out
_ASK_AGAIN = 5.0  # seconds (and up to as much again) between questions for a session
_CALL_SECONDS = 5.0


def http_connections(status: ReceiverStatus | None, wanted: int, useless: float) -> int:
    """How many HTTP connections to use beside the multicast session.

    ``status`` is the receiver's, ``None`` without a session; ``useless`` is for how many seconds the stream
    has brought nothing although ``wanted`` chunks are wanted.
    """
    if status is None or status.silent or status.ended or status.error:
        return CONNECTIONS
    if status.stalled or status.slow:
        return CONNECTIONS // 2
    if status.sender is SenderState.GATHERING or not status.heard:
        return 0  # before the first announce `silent` decides, after 3 s
    return CONNECTIONS // 2 if wanted and useless > _USELESS else 0


def own_address(host: str, port: int) -> str:
    """Our IPv4 address on the way to ``host``: the interface that can hear it. Raises OSError. Sends
    nothing.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, port or 9))
        return str(probe.getsockname()[0])


class Listener:
    """The multicast side of one deploy; survives the end of its session and the start of another one."""

    def __init__(
        self,
        restore: Restore,
        server: Server,
        console: Console,
        task: str,
        manifest: str,
        session: Session | None,
    ) -> None:
        self._restore = restore
        self._demand: Demand = restore.demand
        self._server = server.another(patience=0.0, timeout=_CALL_SECONDS)
        self._console = console
        self._task = task
        self._manifest = bytes.fromhex(manifest)
        self._session = session
        self._receiver: ReceiverThread | None = None
        self._scanning = False
        self._ask_at = 0.0
        self._useful_at = time.monotonic()
        self._frames: queue.SimpleQueue[tuple[ReceiverThread, int, bytes] | None] = queue.SimpleQueue()
        self._workers = [
            threading.Thread(target=self._work, name=f"multicast-{number}", daemon=True)
            for number in range(max(2, min(4, os.cpu_count() or 2)))
        ]
        self._hearing: Hearing | None = None
        self._heard = 0  # datagrams
        self._muted = False
        self._unavailable = ""
        self._leaving = Leaving(random.Random())
        self._out = False  # of the group, by our own decision
        self.reason = ""
        """Why HTTP or peers must help; empty while multicast does it alone."""
        self._demand.follow(self)

    def start(self, scanning: bool) -> None:
        """Join the session, if there is one; ``scanning`` = chunks not yet known are welcome."""
        self._scanning = scanning
        for worker in self._workers:
            worker.start()
        if self._session is not None:
            self._join(self._session)

    def scanned(self) -> None:
        """The scan is over: what is wanted now is all."""
        self._scanning = False
        if self._receiver is not None:
            self._receiver.scanning(self._muted)

    def close(self) -> None:
        """Leave the session and end the workers; frames not yet written are dropped."""
        self._drop()
        for _worker in self._workers:
            self._frames.put(None)
        for worker in self._workers:
            if worker.ident is not None:
                worker.join(30)
        self._demand.unfollow(self)
        self._server.close()

    def connections(self, now: float) -> int:
        """To be called often: keeps the session alive and says how many HTTP connections to use now."""
        receiver = self._receiver
        status = receiver.status if receiver is not None else None
        self._out = self._leaving.out(status, now)
        if self._out and receiver is not None:
            self._drop("too much is lost on its way here")
            receiver = status = None
        if status is not None and (status.sender is SenderState.GATHERING or not self._demand.wanted):
            self._useful_at = now
        if not self._out and (status is None or status.silent or status.ended or status.error):
            self._ask(now)
        if receiver is not None and status is not None:
            self._mute(receiver, status.silent)
        connections = http_connections(status, self._demand.wanted, now - self._useful_at)
        if self._leaving.on_trial(now):
            connections = max(connections, CONNECTIONS // 2)
        self.reason = self._explain(status, now) if connections else ""
        if self._hearing is not None and status is not None and status.received != self._heard:
            self._heard = status.received
            self._hearing.heard(now)
        return connections

    def server_sent(self, datagrams: int, now: float) -> None:
        """The server says how many datagrams of this session it has sent."""
        if self._hearing is not None:
            self._hearing.told(datagrams, now)

    def _explain(self, status: ReceiverStatus | None, now: float) -> str:
        """Why multicast does not do it alone, in the agent's language."""
        if self._out:
            return _(
                "Too much of the multicast stream is lost on its way to this machine: it has left the group."
            )
        if status is None:
            return self._unavailable or _("There is no multicast session.")
        if status.error or status.ended:
            return _("Multicast has ended: {reason}.").format(reason=status.error or status.ended)
        if status.silent and self._hearing is not None:
            return self._hearing.explain(now)
        if self._leaving.on_trial(now):
            return _("This machine has joined the group again and tries it.")
        if status.slow and not status.loss:
            return _("This machine does not keep up with the multicast stream.")
        if status.slow or status.stalled:
            return _("Too much of the multicast stream is lost on its way to this machine.")
        return _("The multicast stream brings nothing that this machine lacks.")

    def _mute(self, receiver: ReceiverThread, silent: bool) -> None:
        """Whoever hears nothing asks for nothing: else the server sends for somebody who is deaf, on the link
        that his neighbours and HTTP need. What passes by is taken all the same, and the announces tell when
        there is something to hear again.
        """
        if silent == self._muted:
            return
        self._muted = silent
        unknown, wanted = self._demand.open_indexes()
        receiver.scanning(silent or self._scanning)
        if silent:
            for index in wanted:
                receiver.got(index)
            receiver.welcome([*unknown, *wanted])
        else:
            self._useful_at = time.monotonic()
            receiver.want(wanted)

    # -- the session ---------------------------------------------------------------------------------------

    def _ask(self, now: float) -> None:
        """The stream is silent or over: has the server another one (it may have been restarted)?"""
        if now < self._ask_at:
            return
        self._ask_at = now + _ASK_AGAIN * random.uniform(1, 2)
        try:
            session = self._server.session(self._task)
        except AgentError:
            return  # away, or it knows us no more: HTTP and the progress calls deal with that
        if session is None:
            self._session = None
            self._drop()
        elif session != self._session or self._receiver is None or not self._receiver.is_alive():
            self._session = session
            self._drop()
            self._join(session)

    def _join(self, session: Session) -> None:
        try:
            host, port = session["report"]
            address = own_address(str(host), int(port))
            hearing = Hearing(str(session["group"]), address, time.monotonic())
            receiver = ReceiverThread(
                session,
                self._demand.count,
                lambda index, frame: self._frames.put((receiver, index, frame)),
                interface=address,
                on_lost=lambda index, reason: self._demand.urge(index),
                manifest=self._manifest,
            )
        except (OSError, ValueError, TypeError, KeyError) as error:
            # No multicast on this machine is no failure: HTTP brings the same chunks.
            self._unavailable = str(error) or type(error).__name__
            self._console.say(f"agent: multicast unavailable reason={self._unavailable}")
            return
        self._hearing, self._muted, self._unavailable = hearing, False, ""
        self._heard = 0
        receiver.scanning(self._scanning)
        # First the reference, then the picture: what becomes wanted in between is told twice, not never.
        self._receiver = receiver
        unknown, wanted = self._demand.open_indexes()
        receiver.welcome(unknown)
        receiver.want(wanted)
        receiver.start()
        self._useful_at = time.monotonic()
        self._console.say(
            f"agent: multicast session={session['id']} group={session['group']}:{session['port']}"
        )

    def _drop(self, why: str = "") -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.close()
            status = receiver.status
            why = why or status.ended or status.error
            self._console.say(
                f"agent: multicast left chunks={status.chunks} received={status.received} lost={status.lost} "
                f"rejected={status.rejected}" + (f" reason={why}" if why else "")
            )

    # -- chunks --------------------------------------------------------------------------------------------

    def on_wanted(self, indexes: list[int]) -> None:
        """Of the demand: these have become wanted."""
        receiver = self._receiver
        if receiver is not None and self._muted:
            receiver.welcome(indexes)
        elif receiver is not None:
            receiver.want(indexes)

    def on_done(self, index: int) -> None:
        """Of the demand: this one is on the disk."""
        receiver = self._receiver
        if receiver is not None:
            receiver.got(index)

    def _work(self) -> None:
        restore = self._restore
        try:
            while (item := self._frames.get()) is not None:
                receiver, index, frame = item
                if restore.progress.stopping:
                    continue
                if not self._demand.claim(index):
                    # Somebody else has it or is at it; should that fail, it becomes wanted and asked for
                    # again.
                    receiver.got(index)
                elif restore.put(index, frame, source="multicast"):
                    self._useful_at = time.monotonic()
                else:
                    receiver.reject(index)
        except Exception as error:
            restore.progress.fail(error)
