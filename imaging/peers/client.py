"""The HTTP end that takes: one keep-alive connection to one neighbour, every wait limited."""

from __future__ import annotations

import http.client
import socket
import struct
import time

from imaging.chunks import MAX_FRAME
from imaging.peers.choose import Address, Result
from imaging.peers.news import News, NewsError, parse

CONNECT_SECONDS = 2.0
STALL_SECONDS = 3.0  # without a byte
CHUNK_SECONDS = 15.0  # for a whole chunk: a slower neighbour is no help
_PIECE = 256 << 10


class PeerError(Exception):
    """A neighbour did not give what was asked: how, and why in words."""

    def __init__(self, result: Result, why: str) -> None:
        super().__init__(why)
        self.result, self.why = result, why


class PeerClient:
    """Not thread-safe."""

    def __init__(self, address: Address, secret: str, count: int) -> None:
        """``count``: chunks in the image."""
        self.address = address
        self._count = count
        self._headers = {"Authorization": f"Bearer {secret}"}
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def news(self, epoch: int, position: int) -> News:
        """What it holds now. Raises PeerError."""
        data = self._get(f"/peer/v1/have?epoch={epoch}&from={position}", 64 + self._count // 2)
        try:
            return parse(data, self._count)
        except NewsError as error:
            raise PeerError(Result.LIED, str(error)) from None

    def chunk(self, index: int, epoch: int, position: int) -> tuple[News, bytes]:
        """A frame, not yet checked, and the news that came with it. Raises PeerError."""
        data = self._get(
            f"/peer/v1/chunks/{index}?epoch={epoch}&from={position}", MAX_FRAME + 64 + self._count // 2
        )
        try:
            (size,) = struct.unpack_from(">I", data)
            return parse(memoryview(data)[4 : 4 + size], self._count), data[4 + size :]
        except (NewsError, struct.error) as error:
            raise PeerError(Result.LIED, str(error)) from None

    def _get(self, path: str, limit: int) -> bytes:
        deadline = time.monotonic() + CHUNK_SECONDS
        try:
            if self._connection is None:
                connection = http.client.HTTPConnection(*self.address, timeout=CONNECT_SECONDS)
                connection.connect()
                connection.sock.settimeout(STALL_SECONDS)
                connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._connection = connection
            self._connection.request("GET", path, headers=self._headers)
            answer = self._connection.getresponse()
            length = answer.length
            if length is None or length > limit:
                raise PeerError(Result.LIED, "its answer has no sensible length")
            if answer.status == 503:
                answer.read()
                raise PeerError(Result.BUSY, "it is busy")
            if answer.status == 404:
                answer.read()
                raise PeerError(Result.MISSING, "it does not hold the chunk")
            if answer.status != 200:
                raise PeerError(Result.FAILED, f"it answered {answer.status}")
            data = bytearray()
            while len(data) < length:
                piece = answer.read(min(_PIECE, length - len(data)))
                if not piece:
                    raise PeerError(Result.FAILED, "it broke off")
                data += piece
                if time.monotonic() > deadline:
                    raise PeerError(Result.FAILED, f"it needs more than {CHUNK_SECONDS:.0f} s for a chunk")
            answer.read()
            return bytes(data)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise PeerError(Result.FAILED, str(error) or type(error).__name__) from None
        except PeerError as error:
            if error.result not in (Result.BUSY, Result.MISSING):
                self.close()
            raise
