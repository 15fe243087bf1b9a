"""Images: capture and restore beside partclone and zstd, a scan, and a reset after one changed file.

The disk is a GPT with one ext4 partition, filled with this machine's own programs and libraries:
files as real disks hold them. All of it lies in memory, so that what is measured is the work and not a disk.
"""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from imaging.capture import capture
from imaging.deploy import deploy, scan, verify
from imaging.manifest import ChunkRef, Manifest
from imaging.store import ChunkStore
from tests.bench.harness import SOFT_LIMIT, Entry, Measurement, NotMeasured
from tests.bench.lan import run

MIB = 1 << 20
#: Of files: more than 4 GB are used then. (partclone ends a second or two late, however little it did.)
MEGABYTES = 4300
#: What a machine with less memory measures at least.
LEAST = 768
ROUNDS = 3
START = MIB  # of the partition
SHARED_PREFIX = "pxeboot-bench-"  # as all scratch of a run


@dataclass(frozen=True)
class Disk:
    """``size`` bytes at ``path``, of which ``partition`` from ``START`` are its one partition."""

    path: Path
    partition: int
    size: int

    def extracted(self, path: Path) -> Path:
        """The file system as a file of its own, for partclone."""
        parts = ("bs=1M", f"skip={START // MIB}", f"count={self.partition // MIB}", "conv=sparse")
        run("dd", f"if={self.path}", f"of={path}", *parts, "status=none", timeout=60)
        os.truncate(path, self.partition)
        return path


@dataclass
class Shared:
    """The disk that the entries of one run share: making it takes longer than most measurements."""

    folder: tempfile.TemporaryDirectory[str] | None = None
    disk: Disk | None = None
    remarks: list[str] = field(default_factory=list)

    def drop(self) -> None:
        """Give its memory back; the next entry makes another."""
        if self.folder is not None:
            self.folder.cleanup()
        self.folder, self.disk = None, None


SHARED = Shared()


def shared_disk(found: Measurement) -> Disk:
    """The run's disk, made when it is first asked for: only :func:`measure_reset` writes to it.

    Raises NotMeasured.
    """
    if SHARED.disk is None:
        SHARED.drop()
        SHARED.folder = tempfile.TemporaryDirectory(prefix=SHARED_PREFIX, dir=found.scratch.parent)
        SHARED.disk = make_disk(found, Path(SHARED.folder.name))
        SHARED.remarks = list(found.remarks)
    for text in SHARED.remarks:
        found.remark(text)
    return SHARED.disk


def make_disk(found: Measurement, folder: Path) -> Disk:
    """A disk as large as memory allows; raises NotMeasured when it is too small."""
    wanted = found.megabytes(MEGABYTES, 32) * 1_000_000
    free = shutil.disk_usage(found.scratch).free
    if wanted * 7 // 2 > free:
        smaller = free * 2 // 7
        if smaller < LEAST * 1_000_000:
            raise NotMeasured(f"{found.scratch.parent} has less than {LEAST * 7 // 2} MB free")
        found.remark(f"only {smaller // 1_000_000} MB of files, because {free // 1_000_000} MB were free")
        wanted = smaller
    disk = folder / "disk.img"
    found.say(f"making a disk with {wanted // 1_000_000} MB of files")
    size = (wanted * 5 // 4 // MIB + 64) * MIB  # a fifth of it is empty
    with open(disk, "wb") as file:
        file.truncate(size + 2 * MIB)
    run("sgdisk", f"--new=1:{START // 512}:{(START + size) // 512 - 1}", "--typecode=1:8300", str(disk))
    # All of the disk is written now, not by the kernel in some idle minute.
    options = f"offset={START},lazy_itable_init=0,lazy_journal_init=0"
    run("mkfs.ext4", "-q", "-F", "-L", "root", "-E", options, str(disk), f"{size // 1024}k")
    command = ("unshare", "--mount", "--propagation=private", sys.executable, "-m", "tests.bench.filling")
    held = int(run(*command, str(disk), str(START), str(folder), str(wanted), timeout=150).stdout)
    found.remark(f"{held // 1_000_000} MB of files in ext4, in memory")
    return Disk(disk, size, size + 2 * MIB)


def shell(script: str, *values: Path) -> float:
    """Run a pipe of the shell with ``$1 …``; its seconds. Raises RuntimeError when any part fails."""
    began = time.monotonic()
    run("bash", "-c", f"set -eo pipefail; {script}", "bench", *map(str, values), timeout=160)
    return time.monotonic() - began


def processor() -> tuple[float, float]:
    """Seconds of processor time that this process, and its children that ended, have used."""
    ours, theirs = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return ours.ru_utime + ours.ru_stime, theirs.ru_utime + theirs.ru_stime


class Processor:
    """Processor time of both sides: unlike the clock's, it means something on a busy machine too."""

    def __init__(self) -> None:
        self.ours: list[float] = []
        self.peer: list[float] = []
        self._at = processor()

    def after_ours(self) -> None:
        self._take(self.ours, 0)

    def after_peer(self) -> None:
        self._take(self.peer, 1)

    def skip(self) -> None:
        """What was done since the last call counts for nobody."""
        self._at = processor()

    def _take(self, values: list[float], side: int) -> None:
        now = processor()
        values.append(now[side] - self._at[side])
        self._at = now

    def remark(self) -> str:
        ours, peer = statistics.median(self.ours), statistics.median(self.peer)
        return f"processor time {ours:.1f} s, peer's {peer:.1f} s"


PARTCLONE_CAPTURE = 'partclone.extfs -c -a0 -L /dev/null -s "$1" -o - 2>/dev/null | zstd -q -3 -T0 -f -o "$2"'
LATE = "the peer's time includes up to 2 s that partclone waits for its progress thread"
PARTCLONE_RESTORE = 'zstd -q -d -c "$1" | partclone.restore -C -L /dev/null -s - -O "$2" 2>/dev/null'


def captured(disk: Path, store_path: Path, *, checked: bool = False) -> tuple[Manifest, float]:
    """Capture into a fresh store, durable: (manifest, seconds).

    ``checked``: the store opens and hashes each frame, as a server does with what another machine sends it.
    """
    began = time.monotonic()
    with closing(ChunkStore(store_path, reserve=0)) as store:

        def upload(frames: Sequence[tuple[bytes, bytes]]) -> None:
            for hash, frame in frames:
                store.add_frame(hash, frame, own=not checked)

        manifest = capture(disk, missing=store.missing, upload=upload)
        store.put_manifest(manifest.to_bytes(), bytes(64))
    return manifest, time.monotonic() - began


def stored(folder: Path) -> int:
    """Bytes in a store's packs."""
    return sum(file.stat().st_size for file in (folder / "packs").iterdir())


def measure_capture(found: Measurement) -> None:
    disk = shared_disk(found)
    partition = disk.extracted(found.scratch / "part.img")
    store, archive = found.scratch / "store", found.scratch / "archive.zst"
    sizes = ""
    used = Processor()
    for _ in found.rounds(ROUNDS):
        used.skip()
        manifest, seconds = captured(disk.path, store)
        found.ours.append(manifest.used / 1e6 / seconds)
        used.after_ours()
        found.peer.append(manifest.used / 1e6 / shell(PARTCLONE_CAPTURE, partition, archive))
        used.after_peer()
        share = stored(store) / archive.stat().st_size
        sizes = f"stored {stored(store) / 1e6:.0f} MB, {share:.3f} × of partclone -a0 | zstd -3 -T0"
        shutil.rmtree(store)
        archive.unlink()
    found.remark(f"{manifest.used / 1e6:.0f} MB used; {sizes}")
    found.remark(used.remark())
    found.remark("ours hashes, stores and syncs every chunk")
    found.remark(LATE)
    if time.monotonic() - found.began + 2 * seconds < SOFT_LIMIT:
        _, seconds = captured(disk.path, store, checked=True)
        found.remark(
            "with a server's check of each frame (decompressed and hashed again) in the same process "
            f"{manifest.used / 1e6 / seconds:.0f} MB/s"
        )


def blank(path: Path, size: int) -> Path:
    """An empty sparse file instead of whatever was there."""
    path.unlink(missing_ok=True)
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def measure_restore(found: Measurement) -> None:
    disk = shared_disk(found)
    archive = found.scratch / "archive.zst"
    manifest, _ = captured(disk.path, found.scratch / "store")
    shell(PARTCLONE_CAPTURE, disk.extracted(found.scratch / "part.img"), archive)
    (found.scratch / "part.img").unlink()
    with closing(ChunkStore(found.scratch / "store", readonly=True)) as store:
        used = Processor()
        for round in found.rounds(ROUNDS):
            target = blank(found.scratch / "ours.img", disk.size)
            used.skip()
            began = time.monotonic()
            deploy(target, manifest, lambda ref: store.frame(ref.hash), full=True, check=False)
            found.ours.append(manifest.used / 1e6 / (time.monotonic() - began))
            used.after_ours()
            if round == 0:
                began = time.monotonic()
                assert verify(target, manifest).ok, "what was restored differs from the image"
                seconds = time.monotonic() - began
                found.remark(f"ours checked every hash; reading it all back takes {seconds:.1f} s more")
            target.unlink()
            target = blank(found.scratch / "peer.img", disk.partition)
            used.skip()
            found.peer.append(manifest.used / 1e6 / shell(PARTCLONE_RESTORE, archive, target))
            used.after_peer()
            if round == 0:
                run("e2fsck", "-fn", str(target), timeout=120)  # so that a restore that did nothing shows
            target.unlink()
    found.remark(f"{manifest.used / 1e6:.0f} MB used; {used.remark()}")
    found.remark("peer: zstd -d | partclone.restore of an image made with -a0: it checks zstd's XXH64 only")
    found.remark(LATE)


def measure_scan(found: Measurement) -> None:
    disk = shared_disk(found)
    manifest, _ = captured(disk.path, found.scratch / "store")
    every = []
    for _ in found.rounds(ROUNDS + 2):
        for workers, values in ((1, found.ours), (None, every)):
            began = time.monotonic()
            assert not any(scan(disk.path, manifest, workers=workers)), "an unchanged disk differs"
            values.append(manifest.used / 1e9 / (time.monotonic() - began))
    found.remark(
        f"{manifest.used / 1e6:.0f} MB used; one thread; "
        f"with all {os.cpu_count()} cores {statistics.median(every):.2f} GB/s"
    )


def spent() -> tuple[float, float]:
    """Seconds of the clock and of the processor, to be subtracted."""
    return time.monotonic(), time.process_time()


def measure_reset(found: Measurement) -> None:
    """One file of 100 kB replaced by another, in the file system, as a program would."""
    try:
        resets(found, shared_disk(found))
    finally:
        SHARED.drop()  # it is not as it was, and entries to come need the memory


def resets(found: Measurement, disk: Disk) -> None:
    """The rounds of :func:`measure_reset`."""
    manifest, _ = captured(disk.path, found.scratch / "store")
    fresh = found.scratch / "changed"
    slowdowns, work, written = [], [], 0
    with closing(ChunkStore(found.scratch / "store", readonly=True)) as store:
        image = sum(len(store.frame(hash)) for hash in set(manifest.hashes))

        def fetch(ref: ChunkRef) -> bytes:
            return store.frame(ref.hash)

        for number in found.rounds(ROUNDS + 2):
            fresh.write_bytes(os.urandom(100_000))
            commands = f"cd usr\nrm bench{number}\nwrite {fresh} bench{number}\n"
            (found.scratch / "commands").write_text(commands)
            run("debugfs", "-w", "-f", str(found.scratch / "commands"), f"{disk.path}?offset={START}")
            # A scan before and a scan after, so that a machine that gets busier falsifies less.
            clock, changed = [spent()], 0
            changed += sum(scan(disk.path, manifest))
            clock.append(spent())
            result = deploy(disk.path, manifest, fetch, check=False)
            clock.append(spent())
            left = sum(scan(disk.path, manifest))
            clock.append(spent())
            assert (changed > 0, left) == (True, 0), "what was changed was not found, or not put right"
            before, reset, after = (
                tuple(map(float.__sub__, end, begin)) for begin, end in itertools.pairwise(clock)
            )
            found.ours.append(100 * result.fetched / image)
            slowdowns.append(2 * reset[0] / (before[0] + after[0]))
            work.append(2 * reset[1] / (before[1] + after[1]))
            written = result.written
        assert verify(disk.path, manifest).ok, "the reset disk differs from the image"
    found.remark(
        f"time {statistics.median(slowdowns):.2f} × that of a scan alone, processor time "
        f"{statistics.median(work):.2f} ×; {written} of {len(manifest.chunks)} chunks"
    )
    found.remark(f"{manifest.used / 1e6:.0f} MB used, image {image / 1e6:.0f} MB on the wire")


_PARTCLONE = ("partclone.extfs", "partclone.restore", "zstd", "mkfs.ext4", "sgdisk", "e2fsck")
ENTRIES = (
    Entry("capture", "MB/s of used data", measure_capture, "partclone", needs=_PARTCLONE),
    Entry("restore", "MB/s of used data", measure_restore, "partclone", needs=_PARTCLONE),
    Entry("scan", "GB/s and core", measure_scan, goal=1.5, needs=_PARTCLONE),
    Entry(
        "reset_one_file",
        "% of the image sent",
        measure_reset,
        goal=1.0,
        lower=True,
        needs=(*_PARTCLONE, "debugfs"),
    ),
)
