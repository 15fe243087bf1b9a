"""The way of a disk: to a store, onto a disk of noise, damaged, and put right again."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imaging.capture import capture
from imaging.chunks import hash_chunk, read_masked
from imaging.deploy import deploy, verify
from imaging.disk.loop import loop_device
from imaging.manifest import Manifest
from imaging.options import CaptureOptions
from imaging.store import ChunkStore
from tests.imaging.disks import run
from tests.imaging.matrix.trees import MIB

START = 1 * MIB


@contextmanager
def device(path: Path, sector: int, *, write: bool = False, offset: int = 0, size: int = 0) -> Iterator[str]:
    """A disk file, or a stretch of it, as a block device with sectors of that size."""
    with (
        open(path, "r+b" if write else "rb") as file,
        loop_device(file.fileno(), write=write, sector_size=sector, offset=offset, size=size) as name,
    ):
        yield name


def captured(
    path: Path, sector: int, store: ChunkStore, options: CaptureOptions = CaptureOptions()
) -> Manifest:
    """Captured into the store, and read back from it."""
    with device(path, sector) as disk:  # the loop device itself is read-only
        manifest = capture(
            disk,
            missing=store.missing,
            upload=lambda frames: [store.add_frame(*frame) for frame in frames],
            options=options,
        )
    store.put_manifest(manifest.to_bytes(), bytes(64))
    return Manifest.from_bytes(store.manifest(manifest.id)[0])


def noise_disk(path: Path, size: int) -> Path:
    """A disk that was another one before: no byte of it is zero for long."""
    block = os.urandom(MIB)
    with open(path, "wb") as file:
        for _ in range(size // MIB):
            file.write(block)
    return path


def damage(path: Path, seed: int = 3) -> None:
    """Two hundred writes anywhere, and the table gone."""
    dice = random.Random(seed)
    size = path.stat().st_size
    with open(path, "r+b") as file:
        file.write(bytes(64 << 10))
        for _ in range(200):
            file.seek(dice.randrange(size - 65536))
            file.write(dice.randbytes(dice.randrange(1, 65536)))


def used_hashes(path: Path, manifest: Manifest) -> list[bytes]:
    with open(path, "rb") as file:
        return [
            hash_chunk(read_masked(file.fileno(), ref.offset, ref.length, ref.runs))
            for ref in manifest.chunks
        ]


def partitioned(path: Path, size: int, sector: int) -> Path:
    """A disk file with one GPT partition of ``size`` bytes at START."""
    with open(path, "wb") as file:
        file.truncate(START + size + MIB)
    first, last = START // sector, (START + size) // sector - 1
    with device(path, sector, write=True) as whole:
        run("sgdisk", f"--new=1:{first}:{last}", "--typecode=1:8300", whole)
    return path


def put_back(target: Path, size: int, manifest: Manifest, store: ChunkStore, sector: int) -> Path:
    """Deploy onto noise, damage it, deploy again; the used bytes and the table are then right."""
    noise_disk(target, size)
    for spoil in (False, True):
        if spoil:
            damage(target)
        with device(target, sector, write=True) as disk:
            done = deploy(disk, manifest, lambda ref: store.frame(ref.hash))
            assert done.written
            assert verify(disk, manifest).ok
    assert used_hashes(target, manifest) == list(manifest.hashes)
    with device(target, sector) as disk:
        assert "No problems found" in run("sgdisk", "-v", disk)
    return target
