"""Chunks over HTTP: a few connections that take what is wanted in disk order, as many as are allowed."""

from __future__ import annotations

import threading

from imaging.agent.errors import AgentError
from imaging.agent.i18n import gettext as _
from imaging.agent.restore import Restore
from imaging.agent.server import Server

CONNECTIONS = 4


class Fetchers:
    """Up to ``CONNECTIONS`` threads; ``allow`` says how many may ask for a next chunk."""

    def __init__(self, restore: Restore, server: Server) -> None:
        self._restore = restore
        self._server = server
        self._allowed = 0
        self._closed = False
        self._threads: list[threading.Thread] = []

    @property
    def allowed(self) -> int:
        """How many connections may be at work."""
        return self._allowed

    def allow(self, connections: int) -> int:
        """Let so many connections work from now on; those beyond it finish their chunk and pause.

        Returns how many that are now.
        """
        more = min(connections, CONNECTIONS) > self._allowed
        self._allowed = min(connections, CONNECTIONS)
        if more:
            self._restore.demand.wake()
        while len(self._threads) < max(1, self._allowed):
            number = len(self._threads)
            thread = threading.Thread(target=self._run, args=(number,), name=f"http-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return self._allowed

    def close(self) -> None:
        """End all threads; waits for the chunks in flight as long as one call may take without a server."""
        self._closed = True
        for thread in self._threads:
            thread.join(self._server.timeout + 5)

    def _run(self, number: int) -> None:
        restore = self._restore
        server = self._server.another()
        try:
            while not self._closed and not restore.progress.stopping:
                # The first connection is always there for what multicast cannot bring.
                index = None
                if number < self._allowed:
                    index = restore.demand.claim_next()
                elif number == 0:
                    index = restore.demand.claim_urgent()
                if index is None:
                    restore.demand.wait(0.2)
                    continue
                self._one(server, index)
        except Exception as error:
            restore.progress.fail(error)
        finally:
            server.close()

    def _one(self, server: Server, index: int) -> None:
        restore = self._restore
        chunk = restore.chunks[index]
        try:
            frame = server.chunk(chunk.hash)
        except AgentError as error:
            restore.demand.finish(index, good=False)
            if error.status in (404, 410):
                raise AgentError(
                    error.code,
                    _("The server cannot give chunk {index} of {count} of this image: {reason}").format(
                        index=index, count=restore.demand.count, reason=error.sentence
                    ),
                    error.status,
                ) from error
            raise
        restore.put(index, frame, source="http")
