"""A TFTP reader (RFC 1350, 2348, 2349) with windows (RFC 7440), the same for every server.

    python -m tests.bench.tftp_client ADDRESS NAME BLKSIZE WINDOW COPIES BLAKE3

fetches NAME in COPIES transfers at once and prints `{"seconds": …}`; every copy must have the hash. It takes
one datagram per system call, as a loader's network stack does. For trusted servers on a private network: it
is a measuring instrument, no client for the world.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time

from blake3 import blake3

_RETRY, _LIMIT = 1.0, 160.0  # s


class Transfer:
    """One file on its way: socket in, acknowledgements out."""

    def __init__(self, address: str, name: str, blksize: int, window: int) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.sock.setblocking(False)
        self._server = (address, 69)
        options = {"blksize": blksize, "tsize": 0, "windowsize": window}
        words = [name, "octet", *(str(word) for pair in options.items() for word in pair)]
        self._last = b"\0\1" + b"".join(word.encode() + b"\0" for word in words)
        self.blksize, self.window = 512, 1  # until the server agrees to more
        self.expected, self._unacknowledged = 1, 0
        self.parts: list[bytes] = []
        self.heard = 0.0
        self.done = False

    def send(self, now: float) -> None:
        """Send the newest request or acknowledgement (again)."""
        self.heard = now
        self.sock.sendto(self._last, self._server)

    def receive(self, now: float) -> None:
        """Take all that has arrived. Raises RuntimeError on an error packet."""
        sock, parts, size = self.sock, self.parts, self.blksize + 4
        while True:
            try:
                if self.expected == 1 and not parts:
                    data, self._server = sock.recvfrom(65535)  # the server's port is known from now on
                    size = self._first(data)
                else:
                    data = sock.recv(size)
            except BlockingIOError:
                return
            self.heard = now
            if data[1] == 3:
                block = data[2] << 8 | data[3]
                if block != self.expected & 0xFFFF:
                    # A gap, or an old block. The end of the run that is whole, once per window (RFC 7440 §4).
                    if self._unacknowledged and (block - self.expected) & 0xFFFF < 0x8000:
                        self._acknowledge(self.expected - 1, now)
                    continue
                parts.append(data[4:])
                self.expected += 1
                self._unacknowledged += 1
                if len(data) < size:
                    self._acknowledge(block, now)
                    self.done = True
                    sock.close()
                    return
                if self._unacknowledged >= self.window:
                    self._acknowledge(block, now)
            elif data[1] == 5:
                raise RuntimeError(f"the server refuses: {data[4:-1].decode(errors='replace')}")

    def _first(self, data: bytes) -> int:
        """Learn from an OACK; the size of a full data packet."""
        if data[1] == 6:
            words = data[2:].decode().lower().split("\0")
            agreed = dict(zip(words[0::2], words[1::2], strict=False))
            self.blksize = int(agreed.get("blksize", 512))
            self.window = int(agreed.get("windowsize", 1))
            self._acknowledge(0, time.monotonic())
        return self.blksize + 4

    def _acknowledge(self, block: int, now: float) -> None:
        self._unacknowledged = 0
        self._last = b"\0\4" + (block & 0xFFFF).to_bytes(2, "big")
        self.send(now)


def fetch(address: str, name: str, blksize: int, window: int, copies: int) -> tuple[float, list[Transfer]]:
    """Fetch ``name`` that many times at once: (seconds, transfers). Raises RuntimeError, TimeoutError."""
    began = now = time.monotonic()
    running = [Transfer(address, name, blksize, window) for _ in range(copies)]
    everybody = list(running)
    with selectors.DefaultSelector() as selector:
        for transfer in running:
            selector.register(transfer.sock, selectors.EVENT_READ, transfer)
            transfer.send(now)
        looked = now
        while running:
            for key, _ in selector.select(0.1):
                transfer = key.data
                transfer.receive(now)
                if transfer.done:
                    selector.unregister(key.fileobj)
                    running.remove(transfer)
            now = time.monotonic()
            if now - looked > 0.1:
                looked = now
                if now - began > _LIMIT:
                    raise TimeoutError(f"{len(running)} of {copies} transfers not finished")
                for transfer in running:
                    if now - transfer.heard > _RETRY:
                        transfer.send(now)
    return time.monotonic() - began, everybody


def main() -> None:
    address, name, blksize, window, copies, digest = sys.argv[1:]
    seconds, transfers = fetch(address, name, int(blksize), int(window), int(copies))
    for transfer in transfers:
        if blake3(b"".join(transfer.parts)).hexdigest() != digest:
            raise SystemExit(f"a copy of {name} is not what the server has")
        transfer.parts.clear()
    print(json.dumps({"seconds": seconds, "window": transfers[0].window, "blksize": transfers[0].blksize}))


if __name__ == "__main__":
    main()
