"""What receivers cost their sender: time of a report, memory of a receiver and of a chunk."""

from __future__ import annotations

import random
import time
import tracemalloc
from typing import NamedTuple

from imaging.multicast.pacer import WIRE_OVERHEAD
from imaging.multicast.peers import Peer, Peers
from imaging.multicast.receiver import Receiver
from imaging.multicast.repairs import Repairs
from imaging.multicast.reports import ReceiverState, Repair, Report, encode_report
from imaging.multicast.sender import Sender
from imaging.multicast.settings import SenderSettings

CHUNKS = 48_000  # an image of 48 GiB


class ReportLoad(NamedTuple):
    """What one report costs its sender."""

    cpu: float  # s
    size: int  # bytes on the wire


def report_load(hosts: int, reports: int = 3000, seed: int = 1) -> ReportLoad:
    """Of a report in the middle of an image: seal, wants, union, twenty repairs."""
    rng = random.Random(seed)
    sender = Sender(1, bytes(32), CHUNKS, lambda index: bytes(300_000), SenderSettings(gather=0))
    spent, highest, datagram = 0.0, 1000, b""
    for number in range(-hosts, reports):
        place = CHUNKS // 2 + max(0, number) // max(1, hosts // 100)
        # All before this place is there, but for what went by of late.
        wants = (1 << CHUNKS) - (1 << place)
        repairs = tuple(Repair(place - 1 - rng.randrange(60), (rng.randint(1, 9),)) for _ in range(20))
        what = Report(
            1, number % hosts, 5 + (number + hosts) // hosts, highest, 100 * (number + hosts), number + hosts,
            CHUNKS - place, 10, ReceiverState.RECEIVING, 0, CHUNKS, wants, repairs,
        )  # fmt: skip
        datagram = encode_report(what, 2, _runs(place))
        now = (number + hosts) / max(20, min(2000, 7 * hosts))
        began = time.process_time()
        sender.receive(datagram, ("10.0.0.1", 40000), now)
        sender.wanted(now)
        if number >= 0:
            spent += time.process_time() - began
    assert not sender.counters.bad_reports
    assert len(sender.peers) == hosts
    return ReportLoad(spent / reports, len(datagram) + WIRE_OVERHEAD)


def _runs(place: int) -> bytes:
    """The run from `place` to the end, as `ranges.encode_span` writes it."""
    out = bytearray()
    for value in (place, CHUNKS - place - 1):
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        out.append(value)
    return bytes(out)


def bytes_per_receiver(hosts: int = 500) -> float:
    """Memory of the sender for each receiver that wants every other chunk."""
    peers = Peers()
    wants = int("10" * (CHUNKS // 2), 2)
    tracemalloc.start()
    for number in range(hosts):
        peers[number] = Peer(("10.0.0.1", 40000), 0.0)
        report = Report(1, number, 0, 0, 0, 0, 1, 0, ReceiverState.RECEIVING, 0, CHUNKS, wants, ())
        peers.hear(report, 0.0)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return size / hosts


def bytes_per_chunk(chunks: int = 10_000) -> float:
    """Memory of the sender for each chunk that it has sent and repaired."""
    repairs = Repairs(1.5)
    tracemalloc.start()
    for chunk in range(chunks):
        now, sequence = chunk * 0.004, chunk * 210
        repairs.whole_sent(chunk, 200, 1, sequence, now)
        repairs.ask(chunk, (3,), sequence + 5, now)
        repairs.take(lambda index: (200, 1), sequence + 6, now)
        repairs.release(now)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return size / chunks


def receiver_bytes() -> int:
    """Memory of a receiver that wants all chunks and has none of them."""
    tracemalloc.start()
    receiver = Receiver(1, 1, CHUNKS, 0.0)
    for index in range(CHUNKS):
        receiver.want(index, 0.0)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert receiver.wanted == CHUNKS
    return size
