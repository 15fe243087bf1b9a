"""Both ends of a transfer joined by a wire that loses, doubles and delays what it is told to."""

import heapq
import itertools
from collections.abc import Callable

from tftp.cut import Train
from tftp.packet import Ack, Data, Error, OptionAck, ReadRequest, parse
from tftp.transfer import Limits, ReadTransfer

LATENCY = 0.01


class Reader:
    """A TFTP client as RFC 7440 section 4 describes it, with EDK2's habit: ACK again for each block out of
    order."""

    def __init__(self, windowsize: int, blksize: int) -> None:
        self.windowsize, self.blksize = windowsize, blksize
        self.expected, self.in_window, self.parts = 1, 0, []
        self.done = False
        self.last: bytes | None = None
        self.received = 0

    def receive(self, datagram: bytes) -> list[bytes]:
        packet = parse(datagram)
        assert not isinstance(packet, Error), packet
        if isinstance(packet, OptionAck):
            return self._answer(0) if self.expected == 1 else []
        assert isinstance(packet, Data)
        self.received += 1
        if packet.block != self.expected & 0xFFFF:
            self.in_window = 0
            return self._answer(self.expected - 1)
        self.expected += 1
        self.parts.append(packet.payload)
        self.in_window += 1
        self.done = len(packet.payload) < self.blksize
        if self.done or self.in_window == self.windowsize:
            self.in_window = 0
            return self._answer(self.expected - 1)
        return []

    def _answer(self, block: int) -> list[bytes]:
        self.last = Ack(block & 0xFFFF).to_bytes()
        return [self.last]


def converse(
    content: bytes,
    blksize: int = 512,
    windowsize: int = 1,
    fate: Callable[[int, bool], list[float]] = lambda n, down: [LATENCY],
    patience: float = 300.0,
    short_way: bool = True,
) -> tuple[Reader, ReadTransfer, float, int]:
    """Read `content` over a wire where datagram `n` (counted per direction; `down` = to the reader) arrives
    after each
    of the delays `fate(n, down)` returns: none = lost, two = doubled. Returns both ends, the time it took and
    the number of datagrams the server sent.
    """
    options = (("blksize", str(blksize)), ("windowsize", str(windowsize)))
    now, sent = 0.0, {True: 0, False: 0}
    transfer = ReadTransfer(ReadRequest("f", "octet", options), content, now, Limits(), jitter=lambda: 0.5)
    reader = Reader(windowsize, blksize)
    wire: list[tuple[float, int, bool, bytes]] = []
    order = itertools.count()

    def put(datagram: bytes, down: bool) -> None:
        for delay in fate(sent[down], down):
            heapq.heappush(wire, (now + delay, next(order), down, datagram))
        sent[down] += 1

    while not transfer.finished:
        for train in transfer.datagrams_to_send(now):
            for datagram in train.datagrams():
                put(datagram, True)
        timer = transfer.next_timer()
        assert wire or timer is not None, "nobody would ever speak again"
        if wire and (timer is None or wire[0][0] <= timer):
            now, _, down, datagram = heapq.heappop(wire)
            if down:
                for answer in reader.receive(datagram):
                    put(answer, False)
            else:
                octets = transfer.answer(datagram, now) if short_way else None
                if octets is None:
                    transfer.receive(datagram, now)
                else:
                    for answer in Train(transfer.segment, octets).datagrams():
                        put(answer, True)
        else:
            assert timer is not None
            now = timer
            transfer.handle_timer(now)
        assert now < patience, "the conversation does not end"
    return reader, transfer, now, sent[True]
