"""`python -m tests.bench [--only name,name] [--scale 0.1] [--out bench.json]`: measure, print, write."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from tests.bench import (
    days,
    dhcp,
    dhcp_latency,
    images,
    later,
    multicast,
    multicast_kills,
    multicast_trouble,
    peers,
    share,
    simulation,
    store,
    storm,
    tftp,
)
from tests.bench.harness import Entry, Measurement, Result, failed, progress, run_entry, table, write_json
from tests.bench.lan import sweep

ROOT = Path(__file__).resolve().parents[2]
ENTRIES: tuple[Entry, ...] = (
    *dhcp.ENTRIES,
    *dhcp_latency.ENTRIES,
    *tftp.ENTRIES,
    *storm.ENTRIES,
    *images.ENTRIES,
    *days.ENTRIES,
    *store.ENTRIES,
    *multicast.ENTRIES,
    *multicast_trouble.ENTRIES,
    *multicast_kills.ENTRIES,
    *simulation.ENTRIES,
    *share.ENTRIES,
    *peers.ENTRIES,
    *later.ENTRIES,
)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", default="", help="names, separated by commas (default: all)")
    parser.add_argument("--scale", type=float, default=1.0, help="smaller images and periods, to try it out")
    parser.add_argument("--out", type=Path, default=ROOT / "bench.json")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    chosen = parser.parse_args(words)
    names = [name for name in chosen.only.split(",") if name]
    known = [entry.name for entry in ENTRIES]
    if unknown := [name for name in names if name not in known]:
        parser.error(f"unknown: {', '.join(unknown)}; known: {' '.join(known)}")
    if not 0 < chosen.scale <= 1:
        parser.error("--scale is above 0 and at most 1")
    chosen.entries = [entry for entry in ENTRIES if not names or entry.name in names]
    return chosen


def measured(entry: Entry, position: str, scale: float) -> Result:
    say = progress(sys.stdout, position, entry.name)
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="pxeboot-bench-", dir=memory) as scratch,
        tempfile.TemporaryDirectory(prefix="pxeboot-bench-", dir="/var/tmp") as disk,
    ):
        Path(disk).chmod(0o755)  # peers that drop their rights read their files here
        Path(scratch).chmod(0o755)
        result = run_entry(entry, Measurement(scale, Path(scratch), Path(disk), say))
    if result.ours is None:
        say(result.note)
    return result


def main() -> int:
    chosen = arguments()
    if chosen.list:
        print("\n".join(entry.name for entry in chosen.entries))
        return 0
    # A plain kill must take namespaces and files away as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    sweep()
    results: list[Result] = []
    for position, entry in enumerate(chosen.entries, 1):
        results.append(measured(entry, f"[{position:2}/{len(chosen.entries)}]", chosen.scale))
        write_json(chosen.out, results)  # what is measured is kept when the rest is interrupted
    print(f"\n{table(results)}\n\nwritten to {chosen.out}")
    return 1 if any(failed(result) for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
