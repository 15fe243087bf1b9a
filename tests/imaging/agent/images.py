"""Small real disks for the agent's tests: GPT by sgdisk, file systems only as bytes (they are captured
whole).
"""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from imaging.capture import capture
from imaging.manifest import Manifest
from imaging.options import CaptureOptions
from tests.imaging.agent.room import Room

SIZE = 24 << 20


def make_disk(path: Path, size: int = SIZE, seed: int = 1) -> Path:
    """A GPT disk with two partitions of unknown content: 10 MiB of noise and zeros, 4 MiB of text."""
    with open(path, "wb") as file:
        file.truncate(size)
    subprocess.run(
        ["sgdisk", "-n", "1:2048:+10M", "-c", "1:noise", "-n", "2:0:+4M", "-c", "2:text", str(path)],
        check=True, capture_output=True,
    )  # fmt: skip
    noise = random.Random(seed)
    with open(path, "r+b") as file:
        for chunk in range(10):
            file.seek((1 + chunk) << 20)
            file.write(noise.randbytes(1 << 20) if chunk % 3 else bytes(1 << 20))
        file.seek(11 << 20)
        file.write(
            (b"All the world's a stage, and all the men and women merely players. " * 70000)[: 4 << 20]
        )
    return path


def blank(path: Path, size: int = SIZE) -> Path:
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def store_image(room: Room, disk: Path) -> Manifest:
    """Capture a disk straight into the room's store, as an agent did some day before."""
    manifest = capture(
        disk,
        missing=room.store.missing,
        upload=lambda frames: [room.store.add_frame(hash, frame) for hash, frame in frames],
        options=CaptureOptions(whole=("unknown",)),
    )
    room.put_manifest(manifest.to_bytes())
    return manifest


def content(path: Path) -> bytes:
    """The two partitions' bytes."""
    data = path.read_bytes()
    return data[1 << 20 : 15 << 20]


def partitions(path: Path) -> str:
    """What sgdisk says of the table, both copies checked; fails when there is none."""
    done = subprocess.run(["sgdisk", "-v", "-p", str(path)], check=True, capture_output=True, text=True)
    assert "Creating new GPT" not in done.stdout, "no partition table"
    return done.stdout
