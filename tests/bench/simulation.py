"""Rooms of 30, 300 and 3,000 in virtual time: what repairs cost, beside the least that they can cost.

`python -m tests.bench.simulation` prints the table of docs/multicast-protocol.md and draws
docs/multicast-simulation.svg (some minutes). The cores are the real ones; only symbols are small.
"""

from __future__ import annotations

import math
import random
import time
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

from imaging.multicast.channels import Loss, bursty_loss, independent_loss
from imaging.multicast.peers import Peer, Peers
from imaging.multicast.reports import ReceiverState, Report
from imaging.multicast.sender import WIRE_OVERHEAD
from imaging.multicast.settings import SenderSettings
from imaging.multicast.simulate import Room
from tests.bench.harness import Entry, Measurement

SYMBOLS = 200  # of a chunk: one block
CHUNKS = 16
SYMBOL = 16  # bytes
DATAGRAMS = 8000  # a second: a gigabit a second would be ten times as many, and take ten times as long
ROOMS, SHARES = (30, 300, 3000), (0.001, 0.01, 0.05)
PICTURE = Path(__file__).resolve().parents[2] / "docs" / "multicast-simulation.svg"


@dataclass(frozen=True)
class Outcome:
    """Shares are of the image's symbols."""

    hosts: int
    share: float
    extra: float  # sent beyond the image
    bound: float  # what the ideal would be for independent losses
    resent: int  # chunks sent whole again
    reports: float  # a second
    report_bytes: float  # on the wire, each
    seconds: float  # virtual, from the beginning of the sweep
    cpu: float


def ideal(hosts: int, share: float, symbols: int) -> float:
    """The expected extra when every symbol sent helps whoever lacks one: a maximum of negative binomials.

    A host that needs `symbols` of symbols + m sent has them unless it lost more than m of them.
    """
    total, extra = 0.0, 0
    while True:
        enough = sum(_binomial(symbols + extra, lost, share) for lost in range(extra + 1))
        more = 1 - min(1.0, enough) ** hosts
        if more < 1e-9:
            return total / symbols
        total += more
        extra += 1


def _binomial(n: int, k: int, p: float) -> float:
    logarithm = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(logarithm + k * math.log(p) + (n - k) * math.log(1 - p))


def simulate(hosts: int, share: float, loss: Loss | None = None, seed: int = 1) -> Outcome:
    """One room. Raises RuntimeError when a host does not get everything."""
    rng = random.Random(seed)
    frames = [rng.randbytes(SYMBOLS * SYMBOL) for _ in range(CHUNKS)]
    rate = DATAGRAMS * (SYMBOL + 22 + WIRE_OVERHEAD) * 8
    room = Room(
        frames,
        seed,
        SenderSettings(rate=rate, gather=5, expected=hosts, symbol_size=SYMBOL),
        loss or independent_loss(share),
    )
    room.add_hosts(hosts)
    began = time.process_time()
    room.run(300)
    cpu = time.process_time() - began
    if any(len(host.frames) != CHUNKS for host in room.hosts):
        raise RuntimeError(f"{hosts} hosts at {share:.1%}: not all have everything")
    assert room.sender is not None
    counters = room.sender.counters
    whole = SYMBOLS * CHUNKS
    sent = counters.chunks_sent * SYMBOLS + counters.parity_sent
    return Outcome(
        hosts, share, sent / whole - 1, ideal(hosts, share, SYMBOLS), counters.chunks_resent,
        room.reports / room.now, room.report_bytes / room.reports, room.now, cpu,
    )  # fmt: skip


def bytes_per_receiver(chunks: int = 48_000, hosts: int = 500) -> float:
    """Memory of the sender for each receiver that wants every other chunk of 48 GiB."""
    peers = Peers()
    wants = int("10" * (chunks // 2), 2)
    tracemalloc.start()
    for number in range(hosts):
        peers[number] = Peer(("10.0.0.1", 40000), 0.0)
        report = Report(1, number, 0, 0, 0, 0, 1, 0, ReceiverState.RECEIVING, 0, chunks, wants, ())
        peers.hear(report, 0.0)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return size / hosts


def table(outcomes: list[Outcome]) -> str:
    lines = [
        "| hosts | each loses | sent beyond the image | ideal | reports/s at the sender | bytes each |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {o.hosts:,} | {o.share:.1%} | {o.extra:.2%} | {o.bound:.2%} | {o.reports:,.0f} "
        f"| {o.report_bytes:.0f} |"
        for o in outcomes
    ]
    return "\n".join(lines)


def picture(outcomes: list[Outcome]) -> str:
    """Bars of what was sent beyond the image, with the ideal as a mark, as SVG."""
    width, height, left, bottom = 640, 300, 56, 252
    top = max(max(o.extra, o.bound) for o in outcomes) * 1.15
    scale = 220 / top
    slot = (width - left - 16) / len(outcomes)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="11">',
        "<title>Datagrams sent beyond the image, by room and loss</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    step = 0.02 if top < 0.2 else 0.05
    for line in range(int(top / step) + 1):
        y = bottom - line * step * scale
        parts.append(f'<path d="M{left} {y:.1f}H{width - 16}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{line * step:.0%}</text>')
    for place, o in enumerate(outcomes):
        x = left + place * slot
        tall, mark = o.extra * scale, bottom - o.bound * scale
        parts.append(
            f'<rect x="{x + slot * 0.2:.1f}" y="{bottom - tall:.1f}" width="{slot * 0.6:.1f}" '
            f'height="{tall:.1f}" fill="#3a7ca5"/>'
        )
        parts.append(
            f'<path d="M{x + slot * 0.1:.1f} {mark:.1f}h{slot * 0.8:.1f}" stroke="#d1495b" stroke-width="2"/>'
        )
        middle = x + slot / 2
        parts.append(
            f'<text x="{middle:.1f}" y="{bottom - tall - 5:.1f}" text-anchor="middle">{o.extra:.1%}</text>'
        )
        parts.append(f'<text x="{middle:.1f}" y="{bottom + 16}" text-anchor="middle">{o.share:.1%}</text>')
    for group, hosts in enumerate(ROOMS):
        middle = left + (group + 0.5) * slot * len(SHARES)
        parts.append(f'<text x="{middle:.1f}" y="{bottom + 34}" text-anchor="middle">{hosts:,} hosts</text>')
    parts.append(
        f'<text x="{left + 8}" y="20">Datagrams beyond the image, each host losing so much independently; '
        "red: ideal</text></svg>"
    )
    return "\n".join(parts) + "\n"


def measure(found: Measurement) -> None:
    """Three thousand hosts that lose one percent each."""
    outcome = simulate(max(30, round(3000 * found.scale)), 0.01)
    found.ours.append(100 * outcome.extra)
    found.remark(
        f"{outcome.hosts} hosts in virtual time, {CHUNKS} chunks of {SYMBOLS} datagrams; "
        f"ideal {outcome.bound:.2%}; "
        f"{outcome.reports:.0f} reports/s of {outcome.report_bytes:.0f} bytes at the sender, "
        f"{bytes_per_receiver():.0f} bytes of memory for each receiver of 48,000 chunks; "
        f"{outcome.cpu:.0f} s of CPU time"
    )


ENTRIES = (
    Entry(
        "multicast_simulated",
        "% beyond the image",
        measure,
        goal=100 * ideal(3000, 0.01, SYMBOLS) * 1.15,
        lower=True,
    ),
)


def main() -> None:
    outcomes = []
    for hosts in ROOMS:
        for share in SHARES:
            outcomes.append(simulate(hosts, share))
            print(table(outcomes[-1:]).splitlines()[-1], f"{outcomes[-1]}", flush=True)
    bursts = simulate(30, 0.01, bursty_loss(0.01, 8))
    print(f"\n{table(outcomes)}\n\nin bursts of 8 on average: 30 hosts at 1 %: {bursts.extra:.2%}")
    print(f"memory of the sender per receiver of 48,000 chunks: {bytes_per_receiver():.0f} bytes")
    PICTURE.write_text(picture(outcomes), encoding="utf-8")


if __name__ == "__main__":
    main()
