"""What a day of use costs: a reset sends next to nothing, a second capture keeps little but the new files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imaging.store import ChunkStore
from tests.imaging.days import MIB, SYSTEM, Day, measure, plant
from tests.imaging.disks import run
from tests.imaging.matrix.filesystems import mounted
from tests.imaging.matrix.way import START, captured, device, partitioned

pytestmark = pytest.mark.disk

#: For each: megabytes, commands that make, mount and check it, and the days. NTFS has the light one only:
#: ntfs-3g strews the directories over the disk, and a heavy day changes most of them (docs/benchmarks.md).
SYSTEMS = {
    "ext4": (
        400,
        ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"),
        ("mount",),
        ("e2fsck", "-fn"),
        ("light", "heavy"),
    ),
    "ntfs": (200, ("mkntfs", "-q", "-Q", "-F"), ("ntfs-3g",), ("ntfsfix", "-n"), ("light",)),
}
MOST = {"light": 2.0, "heavy": 5.0}  # % of the image


@pytest.mark.parametrize("kind", SYSTEMS)
def test_a_light_and_a_heavy_day(kind: str, tmp_path: Path) -> None:
    megabytes, make, mount, check, days = SYSTEMS[kind]
    size = megabytes * 2 * MIB
    disk = partitioned(tmp_path / "disk.img", size, 512)

    @contextmanager
    def system() -> Iterator[Path]:
        with (
            device(disk, 512, write=True, offset=START, size=size) as part,
            mounted(part, tmp_path / "mnt", *mount) as root,
        ):
            yield root

    with device(disk, 512, write=True, offset=START, size=size) as part:
        run(*make, part)
    with system() as root:
        held = plant(root, megabytes * 1_000_000)
    with ChunkStore(tmp_path / "store", reserve=0) as store:
        manifest = captured(disk, 512, store)
        for what in days:
            with system() as root:
                day = Day(root, held / SYSTEM, 7, times=kind != "ntfs")
                getattr(day, what)()
            cost = measure(disk, manifest, store, day.news)
            print(f"{kind}, {what} day: {cost.told()}")
            assert cost.sent_percent <= MOST[what], cost.told()
            # A chunk of old files that a new one came to lie in: the same to a reset, another to a capture.
            assert cost.kept_again_percent <= MOST[what] + 3, cost.told()
            assert cost.written > 3, "something did change"
            with device(disk, 512, offset=START, size=size) as part:
                run(*check, part)
