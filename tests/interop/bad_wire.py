"""A TFTP wire that doubles and swaps datagrams, both ways, for clients that somebody else wrote.

    python -m tests.interop.bad_wire LISTEN SERVER

Stands between a client that asks LISTEN and the server on SERVER, both on port 69, until it is killed. Prints
"ready" first. One socket per transfer and side, so that transfer identifiers stay what they are.
"""

import random
import selectors
import socket
import sys

CHANCE = random.Random(1350)


class Side:
    """One end of a transfer's wire: what arrives at it leaves from `other`, some of it twice or late."""

    def __init__(self, address: str, target: tuple[str, int]) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((address, 0))
        self.target = target
        self.other = self
        self.held: bytes | None = None

    def arrived(self) -> None:
        data, self.target = self.sock.recvfrom(70_000)  # a server answers from another port than it was asked
        self.other.carry(data)

    def carry(self, data: bytes) -> None:
        fate = CHANCE.random()
        if fate < 0.05 and self.held is None and data[1] == 3:  # a lone ACK held would be a loss
            self.held = data
            return
        for _ in range(2 if fate > 0.9 else 1):
            self.sock.sendto(data, self.target)
        self.release()

    def release(self) -> None:
        if self.held is not None:
            self.sock.sendto(self.held, self.target)
            self.held = None


def main(listen: str, server: str) -> None:
    door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    door.bind((listen, 69))
    transfers: dict[tuple[str, int], Side] = {}
    sides: list[Side] = []
    with selectors.DefaultSelector() as selector:
        selector.register(door, selectors.EVENT_READ)
        print("ready", flush=True)
        while True:
            ready = selector.select(0.02)
            if not ready:  # nobody speaks: what is held has waited long enough
                for side in sides:
                    side.release()
            for key, _ in ready:
                if key.data is not None:
                    key.data.arrived()
                    continue
                request, client = door.recvfrom(2048)
                if client not in transfers:
                    near, far = Side(listen, client), Side(listen, (server, 69))
                    near.other, far.other = far, near
                    transfers[client] = far
                    for side in (near, far):
                        sides.append(side)
                        selector.register(side.sock, selectors.EVENT_READ, side)
                transfers[client].sock.sendto(request, (server, 69))


if __name__ == "__main__":
    main(*sys.argv[1:])
