"""Fills an ext4 file system with this machine's own files.

Run as `python -m tests.bench.filling DISK OFFSET SCRATCH BYTES`, in a mount namespace of its own (the
caller's `unshare --mount`), so that nothing stays mounted when it is killed. Prints how many bytes of files
there are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

MIB = 1 << 20
SOURCES = ("/usr/lib", "/usr/bin", "/usr/share", "/usr/local", "/opt")


def files() -> Iterator[Path]:
    """This machine's own regular files, each content once."""
    seen = set()
    for source in SOURCES:
        for folder, folders, names in os.walk(source):
            folders.sort()
            for name in sorted(names):
                file = Path(folder, name)
                facts = file.lstat()
                if not file.is_symlink() and file.is_file() and (facts.st_dev, facts.st_ino) not in seen:
                    seen.add((facts.st_dev, facts.st_ino))
                    yield file


def fill(tree: Path, wanted: int) -> int:
    """Copy about ``wanted`` bytes of files; how many there are.

    When they do not suffice, they come again with all bytes exchanged for others: as compressible as before,
    and nothing that is there already.
    """
    total = 0
    for turn in range(16):
        exchange = bytes(byte ^ turn for byte in range(256))
        for file in files():
            size = file.stat().st_size
            if total + size > wanted:
                if wanted - total < MIB:
                    return total
                continue
            target = tree / str(turn) / str(file).lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if turn:
                target.write_bytes(file.read_bytes().translate(exchange))
            else:
                shutil.copyfile(file, target)
            total += size
    return total


def main() -> None:
    """Mount, fill, unmount."""
    disk, offset, scratch, wanted = sys.argv[1:]
    place = Path(scratch, "mounted")
    place.mkdir()
    subprocess.run(["mount", "-o", f"loop,offset={offset}", disk, str(place)], check=True)
    try:
        held = fill(place, int(wanted))
    finally:
        subprocess.run(["umount", str(place)], check=True)
    place.rmdir()
    print(held)


if __name__ == "__main__":
    main()
