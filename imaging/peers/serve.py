"""The HTTP end that gives: a small server on one address, for neighbours who know the operation's secret.

``GET /peer/v1/have?epoch=E&from=N`` answers news (`imaging.peers.news`); ``GET /peer/v1/chunks/I?…`` (the
same query) answers a u32 (big-endian), so many bytes of news, and the frame. 401 without the secret, 403 from
another subnet, 404 for what this host does not hold, 503 when it is busy.
"""

from __future__ import annotations

import hmac
import socketserver
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, IPv4Network
from typing import Any
from urllib.parse import parse_qs, urlsplit

from imaging.peers.pace import Pace
from imaging.peers.stock import Stock

CONNECTIONS = 48  # open at a time; one more is closed at once
SENDING = 8  # chunks on their way at a time
IDLE_SECONDS = 20.0  # a neighbour that says nothing, or takes nothing, for so long is let go


class PeerServer(ThreadingHTTPServer):
    """Serves from construction to :meth:`close`. Raises OSError when the address cannot be had."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(
        self,
        address: str,
        port: int,
        secret: str,
        stock: Stock,
        network: IPv4Network | None,
        mbit: float | None = None,
    ) -> None:
        """Bind ``address`` only; a busy ``port`` makes it any free one. ``network``: who may ask (None: all)
        among those who know the secret. ``mbit``: Mbit/s of all chunks together; None: any.
        """
        self.pace = Pace(mbit and mbit * 1e6)
        self.secret, self.stock, self.network = f"Bearer {secret}", stock, network
        self.sending = threading.BoundedSemaphore(SENDING)
        self._connections = threading.BoundedSemaphore(CONNECTIONS)
        try:
            super().__init__((address, port), _Handler)
        except OSError:
            if not port:
                raise
            super().__init__((address, 0), _Handler)
        self._thread = threading.Thread(
            target=self.serve_forever, args=(0.2,), name="peers-serve", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def close(self) -> None:
        """Stop; connections that are open end with the process."""
        self.shutdown()
        self.server_close()
        self._thread.join(5)

    # -- socketserver ----------------------------------------------------------------------------------------

    def server_bind(self) -> None:
        """Without HTTPServer's look-up of our name, which may ask a name server."""
        self.allow_reuse_address = True
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._connections.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread to be had
            self._connections.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A neighbour went away in the middle: nobody's fault, and it asks again."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = IDLE_SECONDS
    server_version, sys_version = "pxeboot", ""
    server: PeerServer

    def log_message(self, format: str, *args: Any) -> None:
        """Neighbours ask many times a second; what they got is counted."""

    def do_GET(self) -> None:
        try:
            self._answer()
        except (OSError, TimeoutError):
            self.close_connection = True

    def _answer(self) -> None:
        server = self.server
        if server.network is not None and IPv4Address(self.client_address[0]) not in server.network:
            self._send(403, close=True)
            return
        if not hmac.compare_digest(self.headers.get("Authorization", "").encode(), server.secret.encode()):
            self._send(401, close=True)
            return
        parts = urlsplit(self.path)
        asked = parse_qs(parts.query)
        epoch, position = _number(asked.get("epoch")), _number(asked.get("from"))
        words = parts.path.split("/")[1:]
        if words == ["peer", "v1", "have"]:
            self._send(200, server.stock.holdings.since(epoch, position))
        elif len(words) == 4 and words[:3] == ["peer", "v1", "chunks"] and words[3].isascii():
            self._chunk(_number(words[3:]), epoch, position)
        else:
            self._send(404)

    def _chunk(self, index: int, epoch: int, position: int) -> None:
        server = self.server
        if not server.sending.acquire(blocking=False):
            self._send(503)
            return
        try:
            frame = server.stock.frame(index)
            if frame is None:
                self._send(404)
                return
            news = server.stock.holdings.since(epoch, position)
            self._send(200, struct.pack(">I", len(news)) + news, frame)
            server.stock.sent(len(frame))
        finally:
            server.sending.release()

    def _send(self, status: int, first: bytes = b"", second: bytes = b"", *, close: bool = False) -> None:
        head = f"HTTP/1.1 {status} {'OK' if status == 200 else 'No'}\r\nContent-Length: "
        head += f"{len(first) + len(second)}\r\nContent-Type: application/octet-stream\r\n"
        if close:
            self.close_connection = True
            head += "Connection: close\r\n"
        self.wfile.write(head.encode() + b"\r\n" + first)
        if second:
            for piece in self.server.pace.pieces(second):
                self.wfile.write(piece)


def _number(words: list[str] | None) -> int:
    """A plain number of at most 20 digits, else 0 for nothing and -1 for nonsense."""
    if not words:
        return 0
    word = words[0]
    return int(word) if word.isascii() and word.isdigit() and len(word) <= 20 else -1
