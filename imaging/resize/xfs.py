"""XFS: grown while mounted, never shrunk (there is no tool for it), renamed by xfs_db."""

from __future__ import annotations

import struct
import uuid

from imaging.disk.namespace import in_own_namespace
from imaging.errors import ResizeFailed
from imaging.resize.mounts import mounted
from imaging.resize.tools import LONG, SHORT, Log, run

# The reference's twin may be mounted, and a renewed one not yet be: nobody compares UUIDs here.
_OPTIONS = "nouuid"


def minimum(path: str, log: Log) -> int:
    """Its size: XFS does not shrink."""
    with open(path, "rb", buffering=0) as file:
        block = file.read(512)
    if block[:4] != b"XFSB":
        raise ResizeFailed("There is no XFS file system here any more: deploy the image again.")
    block_size, blocks = struct.unpack_from(">IQ", block, 4)  # sb_blocksize, sb_dblocks
    return int(block_size * blocks)


def grow(path: str, log: Log) -> None:
    def work() -> None:
        with mounted(path, "xfs", write=True, options=_OPTIONS) as directory:
            run("xfs_growfs", "-d", directory, seconds=LONG, log=log)

    in_own_namespace(work)


def renew(path: str, log: Log) -> str:
    new = str(uuid.uuid4())

    def replay() -> None:
        with mounted(path, "xfs", write=True, options=_OPTIONS):
            pass

    in_own_namespace(replay)  # xfs_db refuses while the log holds changes; mounting writes them down
    # What xfs_admin does, which is a shell script around xfs_db.
    run("xfs_db", "-x", "-p", "xfs_admin", "-c", f"uuid {new}", path, seconds=SHORT, log=log)
    return new
