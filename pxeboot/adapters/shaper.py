"""Downloads and uploads through token buckets, on the event loop: nothing blocks, a new rate holds at
once."""

from __future__ import annotations

import asyncio
from math import inf

from starlette.responses import FileResponse, Response
from starlette.types import Message, Receive, Scope, Send

from pxeboot.transfer.bucket import Bucket, piece

#: What a byte of a chunk costs on the wire: 1448 of 1538 bytes of a full Ethernet frame are TCP payload.
WIRE_COST = 1538 / 1448


class Gate:
    """The bucket of one flow and the timer that opens it. Event loop only."""

    def __init__(self, rate: float = inf) -> None:
        self._bucket: Bucket[asyncio.Future[None]] = Bucket(rate)
        self._timer: asyncio.TimerHandle | None = None

    @property
    def rate(self) -> float:
        """Bit/s on the wire."""
        return self._bucket.rate

    @property
    def passed(self) -> int:
        """Bytes on the wire since it was made."""
        return self._bucket.passed

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return self._bucket.waiting

    def change(self, rate: float) -> None:
        """Another rate, at once."""
        self._bucket.change(rate, asyncio.get_running_loop().time())
        self._open()

    async def enter(self, size: int) -> None:
        """Wait for the turn of so many bytes."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._bucket.ask(int(size * WIRE_COST), turn, loop.time())
        self._open()
        if turn.done():
            return
        try:
            await turn
        finally:
            if turn.cancelled():
                self._bucket.give_up(turn)
                self._open()

    def _open(self) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for turn in self._bucket.pass_on(loop.time()):
            if not turn.done():
                turn.set_result(None)
        if (at := self._bucket.next_time()) < inf:
            self._timer = loop.call_at(max(at, loop.time() + 0.0005), self._open)


class PacedResponse(Response):
    """A body that is sent in pieces, each when its flow's gate lets it pass."""

    gate: Gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = bytes(self.body)
        if len(body) <= piece(self.gate.rate):  # fast enough: no need to cut it, nor to watch its client
            await self.gate.enter(len(body))
            await send({"type": "http.response.body", "body": body})
            return
        # A client that has gone must not use up what others wait for; the server would not tell us by `send`.
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await self._send_pieces(body, send, gone)
        finally:
            gone.cancel()

    async def _send_pieces(self, body: bytes, send: Send, gone: asyncio.Task[None]) -> None:
        at = 0
        while at < len(body) and not gone.done():
            part = body[at : at + piece(self.gate.rate)]
            await self.gate.enter(len(part))
            at += len(part)
            await send({"type": "http.response.body", "body": part, "more_body": at < len(body)})


class PacedFile(FileResponse):
    """A file, or the part of it that was asked for; each piece waits for its turn. Its own class ends it when
    the client goes."""

    gate: Gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def paced(message: Message) -> None:
            if body := message.get("body"):
                await self.gate.enter(len(body))
            await send(message)

        await super().__call__(scope, receive, paced)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
