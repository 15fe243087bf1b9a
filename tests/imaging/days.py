"""A light and a heavy day of a machine in use, replayed on a real file system, and what they cost us.

A light day: a browser's cache of 4,000 files (240 MB), 48 MB of journal, every third file of /usr/lib read
(its access time is new), a few files of /etc rewritten. A heavy day: all that, 4,000 files of packages
replaced by others (137 MiB, as a package manager does: written beside, renamed over), 3 GiB of users' files,
and /usr/share/doc and /usr/share/locale deleted. Those are the amounts for a system of 6.1 GiB; they are
scaled to the system that there is.

    python -m tests.imaging.days DISK OFFSET PLACE plant|light|heavy BYTES

does one of them to the file system at OFFSET of a disk file, in the mount namespace of the caller, and prints
a number: bytes of files planted, or news. BYTES is how large the system is to be, or is.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from imaging.capture import capture
from imaging.chunks import compress
from imaging.deploy import deploy, verify
from imaging.manifest import ChunkRef, Manifest
from imaging.store import ChunkStore
from tests.bench.filling import files

MIB = 1 << 20
SYSTEM = 6.1 * 1024 * MIB
LARGE = 4_000_000_000  # /usr alone does not suffice
WORDS = b"the quick brown fox jumps over the lazy dog while all the world is a stage ".split()


def plant(root: Path, wanted: int) -> int:
    """A system of about so many bytes of files, of which it returns the number: this machine's own programs,
    libraries and documents, each file with the same chance, and settings.
    """
    every = [(path, path.stat().st_size) for path in files() if path.parts[1] == "usr" or wanted > LARGE]
    chance, dice, held = wanted / sum(size for _, size in every), random.Random(1), 0
    for path, size in every:
        if dice.random() < chance:
            target = root / path.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            held += size
    (root / "etc").mkdir()
    for number in range(200):
        text = f"# setting {number}\nvalue = {number * 7}\n" * 20
        (root / "etc" / f"{number:03d}.conf").write_text(text)
    return held


class Day:
    """Changes a mounted system as a day does; ``news`` counts what any store must keep of it, compressed.

    ``times``: whether reading a file changes its access time. (Windows leaves those alone.)
    """

    def __init__(self, root: Path, scale: float, seed: int, *, times: bool = True) -> None:
        self.root, self.scale, self.dice, self.times = root, scale, random.Random(seed), times
        self.news = 0

    def light(self) -> None:
        """Browser, journal, access times, settings."""
        for number in range(self.share(4000)):
            # What a browser keeps is compressed already: pictures, scripts.
            data = self.dice.randbytes(self.size(60_000))
            self.write(f"home/user/.cache/{number % 16:x}/{number:05d}", data)
        for number in range(6):
            self.write(f"var/log/journal/system@{number}.journal", self.text(self.share(8 * 1_000_000)))
        for file in self.files("usr/lib")[::3] if self.times else ():
            os.utime(file, ns=(self.dice.randrange(1 << 60), file.lstat().st_mtime_ns))
        for file in self.files("etc")[:12]:
            self.replace(file, file.read_bytes() + b"# changed\n")

    def heavy(self) -> None:
        """A light day, an upgrade, people's files, a deleted tree."""
        self.light()
        upgraded = self.files("usr")
        self.dice.shuffle(upgraded)
        left = self.share(137 * MIB)
        for file in upgraded[: self.share(4000)]:
            size = min(file.stat().st_size, 8 * left // self.share(4000) if left > 0 else 0)
            left -= size
            self.replace(file, bytes(byte ^ 0x55 for byte in file.read_bytes()[:size]))
        total = self.share(3 * 1024 * MIB)
        while total > 0:
            size = min(total, self.size(3_000_000))
            self.write(f"home/user/Documents/{total:012d}", self.dice.randbytes(size))
            total -= size
        for tree in ("usr/share/doc", "usr/share/locale"):
            shutil.rmtree(self.root / tree)

    # --- how ---

    def share(self, whole: int) -> int:
        """An amount, scaled."""
        return max(1, round(whole * self.scale))

    def size(self, mean: int) -> int:
        """A size as files have them: many small ones, few large ones."""
        return min(mean * 12, 1 + int(self.dice.expovariate(1 / mean)))

    def text(self, size: int) -> bytes:
        """Lines of a log: words and numbers."""
        line = b" ".join(self.dice.choices(WORDS, k=9)) + b" %d\n"
        pieces = [line % self.dice.getrandbits(60) for _ in range(size // 64)]
        return b"".join(pieces)[:size]

    def files(self, below: str) -> list[Path]:
        """Regular files, in a fixed order."""
        found = (self.root / below).rglob("*")
        return sorted(path for path in found if path.is_file() and not path.is_symlink())

    def write(self, name: str, data: bytes) -> None:
        """A new file."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.count(data)

    def replace(self, path: Path, data: bytes) -> None:
        """Another file in its place."""
        fresh = path.with_name(path.name + ".dpkg-new")
        fresh.write_bytes(data)
        fresh.replace(path)
        self.count(data)

    def count(self, data: bytes) -> None:
        for at in range(0, len(data), MIB):
            self.news += len(compress(data[at : at + MIB]))


class Cost(NamedTuple):
    """In bytes: the image as stored, what a second capture adds, how much of that is the day's own new
    content, and what a reset sends; chunks of the image, and those of them that a reset writes.
    """

    image: int
    stored: int
    news: int
    sent: int
    chunks: int
    written: int

    @property
    def sent_percent(self) -> float:
        """What a reset sends, of the image."""
        return 100 * self.sent / self.image

    @property
    def kept_again_percent(self) -> float:
        """What a second capture stores beyond the new files themselves, of the image."""
        return 100 * (self.stored - self.news) / self.image

    def told(self) -> str:
        """One line."""
        return (
            f"image {self.image / 1e6:.0f} MB; a reset sends {self.sent / 1e6:.2f} MB = "
            f"{self.sent_percent:.2f} % ({self.written} of {self.chunks} chunks); "
            f"a second capture stores {self.stored / 1e6:.1f} MB, "
            f"of which {self.news / 1e6:.1f} MB are new files: {self.kept_again_percent:.2f} % beyond them"
        )


def measure(disk: Path, manifest: Manifest, store: ChunkStore, news: int) -> Cost:
    """Capture a used disk again, without keeping it, and reset it to what it was; it is then proved."""
    added = 0

    def missing(hashes: Sequence[bytes]) -> list[bool]:
        return store.missing(hashes)

    def upload(frames: Sequence[tuple[bytes, bytes]]) -> None:
        nonlocal added
        added += sum(len(frame) for _, frame in frames)

    capture(disk, missing=missing, upload=upload)

    def fetch(ref: ChunkRef) -> bytes:
        return store.frame(ref.hash)

    done = deploy(disk, manifest, fetch, check=False)
    assert verify(disk, manifest).ok
    image = sum(len(store.frame(hash)) for hash in set(manifest.hashes))
    return Cost(image, added, news, done.fetched, len(manifest.chunks), done.written)


def main() -> None:
    """Mount, work, unmount."""
    disk, offset, place, what, size = sys.argv[1:]
    Path(place).mkdir()
    subprocess.run(["mount", "-o", f"loop,offset={offset}", disk, place], check=True)
    try:
        if what == "plant":
            number = plant(Path(place), int(size))
        else:
            day = Day(Path(place), int(size) / SYSTEM, 7)
            day.light() if what == "light" else day.heavy()
            number = day.news
    finally:
        subprocess.run(["umount", place], check=True)
    Path(place).rmdir()
    print(number)


if __name__ == "__main__":
    main()
