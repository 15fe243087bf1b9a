"""The capture task: read the disks once, send what the server lacks, then the manifest that makes it a
version.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from imaging.agent.disks import Disk
from imaging.agent.progress import Progress
from imaging.agent.report import Result
from imaging.agent.server import Server
from imaging.capture import capture_disks
from imaging.chunks import DEFAULT_LEVEL
from imaging.options import CaptureOptions


def capture(task: dict[str, Any], disks: Sequence[Disk], server: Server, progress: Progress) -> Result:
    """Capture ``disks`` for ``task`` into one image. They are only read.

    Raises ``AgentError`` for what the server refuses (``store-full`` …), ``ImagingError`` for what the disk
    does not allow.
    """
    id = str(task["id"])
    options = CaptureOptions.from_task(task.get("capture"))
    level = task.get("level")
    # The upload runs in a thread of its own: one connection for the questions, one for the data.
    uploader = server.another()

    def missing(hashes: Sequence[bytes]) -> list[bool]:
        progress.check()
        return server.missing(id, list(hashes))

    def upload(frames: Sequence[tuple[bytes, bytes]]) -> None:
        progress.check()
        body = b"".join(hash + len(frame).to_bytes(4, "big") + frame for hash, frame in frames)
        uploader.put_chunks(id, body)
        progress.add(http=len(body), written=len(frames))

    def tell(sentence: str) -> None:
        progress.message = sentence
        progress.say(sentence)

    progress.enter("scan", sum(disk.size for disk in disks))
    try:
        manifest = capture_disks(
            [disk.path for disk in disks],
            missing=missing,
            upload=upload,
            progress=progress.stage_at,
            tell=tell,
            options=options,
            level=level if isinstance(level, int) and 1 <= level <= 19 else DEFAULT_LEVEL,
            room=lambda needed: server.room(id, needed),
        )
    finally:
        uploader.close()
    progress.chunks["total"] = len(manifest.chunks)
    # Chunks that come twice were asked for once.
    progress.chunks["kept"] = len(manifest.chunks) - progress.chunks["written"]
    progress.check()
    server.put_manifest(id, manifest.to_bytes())
    return Result(manifest.id)
