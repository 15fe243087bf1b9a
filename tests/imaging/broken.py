"""Disks that fail at one place: QEMU's storage daemon injects errors (blkdebug) into a file shown by FUSE.

Loop devices over such a file fail there as a worn-out disk does; the device mapper would do it, too, but not
every kernel that tests run on has it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imaging.disk.loop import loop_device

_SECONDS = 60.0


@contextlib.contextmanager
def broken_disk(file: Path, sector: int) -> Iterator[str]:
    """A block device over `file` on which one sector (of 512 bytes) can be neither read nor written."""
    if shutil.which("qemu-storage-daemon") is None or not os.access("/dev/fuse", os.W_OK):
        pytest.skip("needs qemu-storage-daemon and FUSE")
    seen = file.with_name(f"{file.name}.seen")
    seen.touch()
    faults = [
        {"event": "none", "iotype": kind, "errno": 5, "sector": sector, "immediately": True}
        for kind in ("read", "write")
    ]
    nodes = [
        {"driver": "file", "node-name": "file", "filename": str(file)},
        {"driver": "blkdebug", "node-name": "faulty", "image": "file", "inject-error": faults},
        {"driver": "raw", "node-name": "disk", "file": "faulty"},
    ]
    export = {"type": "fuse", "id": "out", "node-name": "disk", "mountpoint": str(seen), "writable": True}
    command = ["qemu-storage-daemon", *(word for node in nodes for word in ("--blockdev", json.dumps(node)))]
    daemon = subprocess.Popen([*command, "--export", json.dumps(export)], stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _SECONDS
        while seen.stat().st_size == 0:
            assert daemon.poll() is None, "qemu-storage-daemon ended"
            assert time.monotonic() < deadline, "qemu-storage-daemon shows nothing"
            time.sleep(0.02)
        fd = os.open(seen, os.O_RDWR)
        try:
            with contextlib.suppress(OSError), loop_device(fd, write=True) as device:  # its last fsync fails
                yield device
        finally:
            os.close(fd)
    finally:
        daemon.terminate()
        daemon.wait(_SECONDS)
