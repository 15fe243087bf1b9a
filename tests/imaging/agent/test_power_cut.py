"""Power cuts of a host whose disk forgets what was not flushed: it resumes, and "done" is true for ever.

The agent is killed and its disk loses half of what no flush had put away (tests/forgetful), at any write or
flush of a deploy that also makes file systems larger or smaller, gives a name or new identities; and once
more in the moment in which the server hears that all is done.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from imaging.capture import capture
from imaging.deploy import verify
from imaging.disk.device import Disk
from imaging.disk.table import read_table
from imaging.manifest import Manifest
from tests.forgetful import ForgetfulDisk
from tests.imaging.agent.room import Json, Room
from tests.imaging.customise.windows import NAMES, value, windows_tree
from tests.imaging.disks import MIB, PARTITIONS, SIZE, make_disk, run
from tests.imaging.matrix.filesystems import mounted, unseen
from tests.imaging.matrix.trees import describe
from tests.imaging.matrix.way import device
from tests.imaging.resize.samples import check

pytestmark = [pytest.mark.disk, pytest.mark.timeout(1200)]

ROOT, NTFS = 3, 4
HIVE = "Windows/System32/config/SYSTEM"
SEED, CUTS = 5, 4
#: What is ordered, and the bytes of the disk it is for.
ORDERS: dict[str, tuple[Json, int]] = {
    "as it was": ({}, SIZE),
    "grown and named": (
        {"deploy": {"grow": [ROOT, NTFS]}, "customise": {"hostname": "b204-07"}},
        SIZE + 96 * MIB,
    ),
    "shrunk and with new identities": ({"deploy": {"shrink": True, "identities": "renew"}}, SIZE - 16 * MIB),
}


class Outcomes(list[Any]):
    """What the server was told; in the moment of a "done" the power fails."""

    def __init__(self, disk: ForgetfulDisk) -> None:
        super().__init__()
        self.disk, self.lost = disk, -1

    def append(self, outcome: Any) -> None:
        super().append(outcome)
        if outcome["ok"]:
            self.lost = self.disk.cut()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Linux, and a Windows beside it."""
    folder = tmp_path_factory.mktemp("source")
    disk = make_disk(folder / "source.img", folder)
    install_windows(disk, folder)
    return disk


@unseen
def install_windows(disk: Path, scratch: Path) -> None:
    _, start, size = PARTITIONS["ntfs"]
    with (
        device(disk, 512, write=True, offset=start, size=size) as part,
        mounted(part, scratch / "mnt", "ntfs-3g") as root,
    ):
        windows_tree(root, "complete")


@pytest.fixture
def manifest(room: Room, source: Path) -> Manifest:
    def upload(frames: Any) -> None:
        for hash, frame in frames:
            room.store.add_frame(hash, frame)

    made = capture(source, missing=room.store.missing, upload=upload)
    room.put_manifest(made.to_bytes())
    return made


@contextmanager
def agent(room: Room, disk: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "imaging.agent", "--simulated", "--disk", str(disk), "--patience", "20"]
    process = subprocess.Popen(
        [*command, "--cmdline", room.cmdline()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with the tools it called


def boot(room: Room, disk: ForgetfulDisk, stop: int = 0) -> int:
    """The machine runs until it says that it is done, or until the power fails at the request ``stop`` to its
    disk; returns how many blocks were forgotten.
    """
    disk.power_on(stop)
    heard = Outcomes(disk)
    room.outcomes = heard
    with agent(room, disk.path) as process:
        while process.poll() is None and not disk.stopped and heard.lost < 0:
            time.sleep(0.01)
    # Dead before its disk is: it must not hear of an error. Waiting for it comes last, its disk may hold it.
    lost = disk.cut() if heard.lost < 0 else heard.lost
    process.wait(60)
    assert heard.lost >= 0 or disk.stopped, f"the agent ended with {process.returncode}: {heard}"
    return lost


@contextmanager
def opened(path: Path, number: int) -> Iterator[str]:
    """One partition as a device, to be looked at only."""
    with Disk(path) as disk:
        p = next(p for p in read_table(disk)[1] if p.number == number)
    with device(path, 512, offset=p.start, size=p.size) as part:
        yield part


@unseen
def linux(path: Path, scratch: Path) -> dict[str, Any]:
    with opened(path, ROOT) as part:
        check(part, "ext4")
        with mounted(part, scratch / "mnt", "mount", "-t", "ext4", "-o", "ro,noload") as root:
            return describe(root, times=False)


@unseen
def windows(path: Path, scratch: Path) -> tuple[dict[str, Any], str]:
    """All files, and the computer's name."""
    hive = scratch / "SYSTEM"
    with opened(path, NTFS) as part:
        check(part, "ntfs")
        with mounted(part, scratch / "mnt", "ntfs-3g", "-o", "ro") as root:
            hive.write_bytes((root / HIVE).read_bytes())
            found = describe(root, times=False)
    found.pop(HIVE)
    return found, value(hive, rf"{NAMES.format(1)}\ComputerName", "ComputerName")


def holds(disk: Path, source: Path, manifest: Manifest, order: Json, scratch: Path) -> None:
    """The disk is what the server believes it to be, to the last byte where nothing was to be changed."""
    assert "No problems found" in run("sgdisk", "-v", disk)
    if not order:
        assert verify(disk, manifest).ok
        return
    named = "customise" in order
    before, after = linux(source, scratch), linux(disk, scratch)
    assert before.keys() == after.keys()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == ({"etc/hostname", "etc/hosts"} if named else set())
    assert windows(disk, scratch) == (windows(source, scratch)[0], "B204-07" if named else "REFERENCE")


@pytest.mark.parametrize("what", ORDERS)
def test_it_goes_on_after_a_power_cut_and_what_is_done_stays_done(
    what: str, room: Room, source: Path, manifest: Manifest, tmp_path: Path
) -> None:
    (order, size), medium, dice = ORDERS[what], tmp_path / "medium", random.Random(SEED)
    other = dice.randbytes(MIB)

    def somebodys_disk() -> None:
        medium.write_bytes(other * (size // MIB))

    room.order("deploy", manifest=manifest.id, **order)
    with ForgetfulDisk(medium) as disk:
        somebodys_disk()
        assert boot(room, disk) == 0, "done was said before all was on the medium"
        requests = disk.requests
        holds(medium, source, manifest, order, tmp_path)
        forgotten = 0
        for _ in range(CUTS):
            somebodys_disk()
            forgotten += boot(room, disk, stop=dice.randrange(1, requests))
            assert boot(room, disk) == 0
            holds(medium, source, manifest, order, tmp_path)
        assert forgotten > 0, "no cut lost anything: this proves nothing"
