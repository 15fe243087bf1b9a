"""By which way chunks come now, judged several times a second: multicast, then neighbours, then HTTP."""

from __future__ import annotations

from imaging.agent.console import Console
from imaging.agent.fetch import Fetchers
from imaging.agent.i18n import gettext as _
from imaging.agent.listen import Listener
from imaging.agent.peers import Peers
from imaging.agent.progress import Way
from imaging.agent.restore import Restore


def way_of(connections: int, *, ready: bool, alone: bool, moving: bool) -> tuple[Way, int]:
    """(the way, plain HTTP connections to use now).

    ``connections`` is how many would make up for what multicast does not bring (0: it does it alone),
    ``ready`` whether this host takes part in a swarm, ``alone`` whether it is the only one in it,
    ``moving`` whether chunks come by it. Alone in a swarm the server gives all, but notes what it gave.
    """
    if not connections:
        return "multicast", 0
    if ready and moving:
        return ("http" if alone else "peers"), 0
    return "http", max(1, connections // 2) if ready else connections


class Ladder:
    """Switches the ways of one restore on and off, and says which one it is and why."""

    def __init__(
        self, restore: Restore, listener: Listener, peers: Peers | None, fetchers: Fetchers, console: Console
    ) -> None:
        self._restore, self._listener, self._peers = restore, listener, peers
        self._fetchers, self._console = fetchers, console

    def step(self, now: float) -> None:
        """Look at all of them, and switch."""
        connections = self._listener.connections(now)
        peers = self._peers
        ready = peers is not None and peers.ready
        if peers is not None:
            peers.allow(ready and connections > 0)
        moving = peers is not None and (peers.moving(now) or not self._restore.demand.wanted)
        alone = peers is None or peers.alone
        way, connections = way_of(connections, ready=ready, alone=alone, moving=moving)
        before = self._fetchers.allowed
        allowed = self._fetchers.allow(connections)
        if allowed != before:
            self._console.log(f"http connections {before} -> {allowed}")
        reason = self._listener.reason
        if way == "http" and not alone:
            reason += " " + _("Neighbours have given nothing for a while.")
        elif way == "http" and peers is not None and peers.serving:
            reason += " " + _("No neighbour takes part.")
        self._restore.progress.goes_by(way, reason.strip())
