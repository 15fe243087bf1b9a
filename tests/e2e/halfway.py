"""A deploy looked at from outside while it is under way: what a disk holds, and which processes send."""

from __future__ import annotations

from pathlib import Path

from imaging.deploy import scan
from imaging.manifest import Manifest
from imaging.store import ChunkStore
from pxeboot.lab.server import Server
from tests.e2e.killing import children


def on_disk(disk: Path) -> int:
    """Bytes that have been written into a disk file that was all hole."""
    return disk.stat().st_blocks * 512


def frames(store: Path, manifest: str, disk: Path) -> tuple[int, int]:
    """Bytes of the frames of an image that a disk holds, and of those that it lacks."""
    with ChunkStore(store, readonly=True) as opened:
        image = Manifest.from_bytes(opened.manifest(manifest)[0])
        sizes = [len(opened.frame(chunk.hash)) for chunk in image.chunks]
    lacked = sum(size for size, wanted in zip(sizes, scan(disk, image), strict=True) if wanted)
    return sum(sizes) - lacked, lacked


def senders(server: Server) -> list[int]:
    """Process ids of a daemon's multicast senders."""
    return [
        pid
        for pid in children(server.pid)
        if b"imaging.multicast.send" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
