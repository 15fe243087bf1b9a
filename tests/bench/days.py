"""What a day of use costs: a disk of several gigabytes in ext4 is used, captured again, and reset.

What the days are tells tests/imaging/days.py. Their files are made in a mount namespace of their own.
"""

from __future__ import annotations

import shutil
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

from imaging.store import ChunkStore
from tests.bench.harness import Entry, Measurement, NotMeasured
from tests.bench.images import START, captured
from tests.bench.lan import run
from tests.imaging.days import MIB, measure

MEGABYTES = 3000
LEAST = 300
#: A heavy day needs half of the system once more, the store a third of it, and files are written anew.
SPACE = 2.5


def measure_day(what: str, found: Measurement) -> None:
    """One light or heavy day, once: nothing in it depends on the clock."""
    wanted = found.megabytes(MEGABYTES, LEAST) * 1_000_000
    free = shutil.disk_usage(found.scratch).free
    if wanted * SPACE > free:
        raise NotMeasured(f"{found.scratch.parent} has less than {wanted * SPACE / 1e9:.1f} GB free")
    disk = found.scratch / "disk.img"
    size = wanted * 2 // MIB * MIB
    with open(disk, "wb") as file:
        file.truncate(size + 2 * MIB)
    run("sgdisk", f"--new=1:{START // 512}:{(START + size) // 512 - 1}", "--typecode=1:8300", str(disk))
    options = f"offset={START},lazy_itable_init=0,lazy_journal_init=0"
    run("mkfs.ext4", "-q", "-F", "-E", options, str(disk), f"{size // 1024}k")

    def in_system(work: str, amount: int) -> int:
        command = ("unshare", "--mount", "--propagation=private", sys.executable, "-m", "tests.imaging.days")
        place: Path = found.scratch / "mounted"
        return int(run(*command, str(disk), str(START), str(place), work, str(amount), timeout=150).stdout)

    found.say(f"making a system of {wanted // 1_000_000} MB")
    held = in_system("plant", wanted)
    manifest, _ = captured(disk, found.scratch / "store")
    found.say(f"a {what} day")
    news = in_system(what, held)
    with closing(ChunkStore(found.scratch / "store", readonly=True)) as store:
        cost = measure(disk, manifest, store, news)
    found.ours.append(cost.sent_percent)
    found.remark(f"{held // 1_000_000} MB of files in ext4")
    found.remark(cost.told())


ENTRIES = tuple(
    Entry(
        f"reset_{what}_day", "% of the image sent", partial(measure_day, what), goal=goal, lower=True,
        needs=("mkfs.ext4", "sgdisk", "unshare"),
    )
    for what, goal in (("light", 2.0), ("heavy", 5.0))
)  # fmt: skip
