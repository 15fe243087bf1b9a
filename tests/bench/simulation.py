"""Rooms of 30, 300 and 3,000 in virtual time: what repairs cost, beside the least that they can cost.

`python -m tests.bench.simulation` prints the tables of docs/multicast-protocol.md and draws
docs/multicast-simulation.svg (some minutes). The cores are the real ones; only symbols are small. Given a
number, it is the seed.
"""

from __future__ import annotations

import itertools
import math
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imaging.multicast.channels import Loss, Wire, bursty_loss, independent_loss, no_loss
from imaging.multicast.sender import WIRE_OVERHEAD
from imaging.multicast.settings import SenderSettings
from imaging.multicast.simulate import Room
from tests.bench.harness import Entry, Measurement
from tests.bench.simulation_load import bytes_per_chunk, bytes_per_receiver, receiver_bytes, report_load
from tests.bench.simulation_picture import Bar, picture

SYMBOLS = 200  # of a chunk: one block
SYMBOL = 16  # bytes
DATAGRAMS = 8000  # a second: a gigabit a second would be ten times as many, and take ten times as long
STEP = 0.25  # s of virtual time between two looks
SHARES = (0.001, 0.01, 0.05)
#: Hosts, and chunks that are enough for a mean.
ROOMS = {30: 128, 300: 64, 3000: 16}
#: What the table in the design says (30 hosts, k = 200, thousands of trials).
KNOWN = {(30, 0.001): 0.0072, (30, 0.01): 0.0270, (30, 0.05): 0.0900}
PICTURE = Path(__file__).resolve().parents[2] / "docs" / "multicast-simulation.svg"


@dataclass(frozen=True)
class Outcome:
    """Shares are of the image's symbols."""

    name: str
    hosts: int
    share: float
    extra: float  # sent beyond the image
    least: float  # that any code could do with in this room
    resent: int  # chunks sent whole again
    peak: float  # reports a second, in the busiest quarter of one
    steady: float  # on average, the first second and the last quarter left out
    report_bytes: float  # on the wire, each
    seconds: float  # virtual
    cpu: float


@dataclass(frozen=True)
class Scene:
    """What a room goes through: each host has its own `loss`, what is `shared` is lost by all."""

    name: str
    hosts: int
    share: float
    least: float  # see Outcome
    loss: Loss = no_loss
    shared: Loss = no_loss
    symbols: int = SYMBOLS  # of a chunk
    chunks: int = 64
    pace: int = DATAGRAMS


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


def resending(hosts: int, share: float) -> float:
    """What it would cost to send the lost symbols again until nobody lacks any."""
    total, times = 0.0, 1
    while (more := 1 - (1 - share**times) ** hosts) > 1e-9:
        total += more
        times += 1
    return total


def sampled(hosts: int, loss: Loss, blocks: int, symbols: int, trials: int, seed: int = 1) -> float:
    """The same as `ideal` for any loss: a frame goes out in one piece, what repairs it some time later."""
    rng = random.Random(seed)
    total = 0
    for _ in range(trials):
        worst = [0] * blocks
        for _ in range(hosts):
            lost, later = [0] * blocks, _fates(loss, rng)
            for place, arrives in zip(range(blocks * symbols), _fates(loss, rng), strict=False):
                lost[place % blocks] += not arrives
            for block, lacks in enumerate(lost):
                sent = 0
                while lacks:
                    lacks -= next(later)
                    sent += 1
                worst[block] = max(worst[block], sent)
        total += sum(worst)
    return total / (trials * blocks * symbols)


def _fates(loss: Loss, rng: random.Random) -> Iterator[bool]:
    """Whether each datagram arrives, from anywhere in the pattern on."""
    wire = Wire(loss, random.Random(rng.random()))
    wire.through(rng.randrange(1 << 14))
    while True:
        arrive = [False] * 64
        for first, end in wire.through(64):
            arrive[first:end] = [True] * (end - first)
        yield from arrive


def simulate(scene: Scene, seed: int = 1) -> Outcome:
    """One room. Raises RuntimeError when a host does not get everything."""
    rng = random.Random(seed)
    frames = [rng.randbytes(scene.symbols * SYMBOL) for _ in range(scene.chunks)]
    rate = scene.pace * (SYMBOL + 22 + WIRE_OVERHEAD) * 8
    settings = SenderSettings(rate, SYMBOL, gather=5, expected=scene.hosts)
    room = Room(frames, seed, settings, scene.loss, scene.shared)
    room.add_hosts(scene.hosts)
    began = time.process_time()
    seen = [0]
    while any(host.finished_at is None for host in room.hosts) and len(seen) * STEP < 300:
        room.run(len(seen) * STEP)
        seen.append(room.reports)
    cpu = time.process_time() - began
    if any(len(host.frames) != scene.chunks for host in room.hosts):
        raise RuntimeError(f"{scene.name}: not all have everything")
    assert room.sender is not None
    counters = room.sender.counters
    whole = scene.symbols * scene.chunks
    sent = counters.chunks_sent * scene.symbols + counters.parity_sent
    middle = seen[4:-1] if len(seen) > 6 else seen
    return Outcome(
        scene.name, scene.hosts, scene.share, sent / whole - 1, scene.least, counters.chunks_resent,
        max(new - old for old, new in itertools.pairwise(seen)) / STEP,
        (middle[-1] - middle[0]) / (STEP * (len(middle) - 1)),
        room.report_bytes / room.reports, room.now, cpu,
    )  # fmt: skip


def rooms() -> list[Scene]:
    """The table: each host loses independently."""
    return [
        Scene(
            f"{hosts:,}", hosts, share, ideal(hosts, share, SYMBOLS), independent_loss(share), chunks=chunks
        )
        for hosts, chunks in ROOMS.items()
        for share in SHARES
    ]


def others() -> list[Scene]:
    """Losses of other kinds, and chunks of other sizes."""
    bursts, alone = bursty_loss(0.01, 8), independent_loss(0.05)
    one, four = sampled(30, bursts, 1, 200, 400), sampled(30, bursts, 4, 181, 100)
    return [
        Scene("in bursts of 8 on average", 30, 0.01, one, bursts, chunks=256),
        Scene("the same, chunks of four blocks", 30, 0.01, four, bursts, symbols=724, chunks=64),
        Scene("lost by all alike", 30, 0.01, 0.01 / 0.99, shared=independent_loss(0.01), chunks=128),
        Scene("lost by all alike", 30, 0.05, 0.05 / 0.95, shared=independent_loss(0.05), chunks=128),
        Scene("chunks of 232 symbols, one block", 30, 0.05, ideal(30, 0.05, 232), alone, symbols=232),
        Scene("chunks of 232 symbols, one block", 300, 0.05, ideal(300, 0.05, 232), alone, symbols=232),
        Scene("chunks of 724 symbols, four blocks", 30, 0.05, ideal(30, 0.05, 181), alone, symbols=724),
    ]


def loads() -> list[Scene]:
    """Long enough for the rush at the start to be over: of reports, the data may come slowly."""
    return [
        Scene(
            "", hosts, 0.01, ideal(hosts, 0.01, 50), independent_loss(0.01), symbols=50, chunks=100, pace=1000
        )
        for hosts in ROOMS
    ]


def cost_table(outcomes: list[Outcome]) -> str:
    lines = [
        "| hosts | each loses | sent beyond the image | least possible | more than that | knowledge table "
        "| lost symbols sent again |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for o in outcomes:
        known = f"{KNOWN[o.hosts, o.share]:.2%}" if (o.hosts, o.share) in KNOWN else ""
        lines.append(
            f"| {o.hosts:,} | {o.share:.1%} | {o.extra:.2%} | {o.least:.2%} | {o.extra / o.least - 1:+.1%} "
            f"| {known} | {resending(o.hosts, o.share):.1%} |"
        )
    return "\n".join(lines)


def other_table(outcomes: list[Outcome]) -> str:
    lines = [
        "| losses | hosts | share | sent beyond the image | least possible | more than that "
        "| chunks sent again |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {o.name} | {o.hosts} | {o.share:.0%} | {o.extra:.2%} | {o.least:.2%} "
        f"| {o.extra / o.least - 1:+.1%} | {o.resent} |"
        for o in outcomes
    ]
    return "\n".join(lines)


def load_table(outcomes: list[Outcome]) -> str:
    lines = [
        "| hosts | reports/s in the first quarter second | later | bytes each | kbit/s | µs of CPU each "
        "| share of one core |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for o in outcomes:
        load = report_load(o.hosts)
        lines.append(
            f"| {o.hosts:,} | {o.peak:,.0f} | {o.steady:,.0f} | {load.size} "
            f"| {o.steady * load.size * 8 / 1000:,.0f} | {load.cpu * 1e6:.0f} | {o.steady * load.cpu:.1%} |"
        )
    return "\n".join(lines)


def measure(found: Measurement) -> None:
    """Three thousand hosts that lose one percent each."""
    hosts = max(30, round(3000 * found.scale))
    least = ideal(hosts, 0.01, SYMBOLS)
    outcome = simulate(Scene("", hosts, 0.01, least, independent_loss(0.01), chunks=16))
    found.ours.append(100 * outcome.extra)
    found.remark(
        f"{hosts} hosts in virtual time, 16 chunks of {SYMBOLS} datagrams; least possible {least:.2%}; "
        f"{outcome.steady:.0f} reports/s of {outcome.report_bytes:.0f} bytes at the sender, "
        f"{report_load(hosts).cpu * 1e6:.0f} µs each; "
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
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    strange = []
    for scene in others():
        strange.append(simulate(scene, seed))
        print(strange[-1], flush=True)
    outcomes = []
    for scene in rooms():
        outcomes.append(simulate(scene, seed))
        print(outcomes[-1], flush=True)
    print(f"\n{cost_table(outcomes)}\n\n{other_table(strange)}")
    print(f"\n{load_table([simulate(scene, seed) for scene in loads()])}\n")
    print(f"memory of the sender for each receiver of 48,000 chunks: {bytes_per_receiver():,.0f} bytes")
    print(f"memory of the sender for each chunk sent and repaired: {bytes_per_chunk():,.0f} bytes")
    print(f"memory of a receiver of 48,000 chunks before any symbol: {receiver_bytes():,.0f} bytes")
    bars = [Bar(f"{o.hosts:,} hosts", f"{o.share:.1%}", o.extra, o.least, KNOWN.get((o.hosts, o.share)))
            for o in outcomes]  # fmt: skip
    PICTURE.write_text(picture(bars), encoding="utf-8")
    late = [o for o in (*outcomes, *strange) if o.extra > 1.15 * o.least]
    print("\nall within 15 % of the least possible" if not late else f"\nNOT within 15 %: {late}")


if __name__ == "__main__":
    main()
