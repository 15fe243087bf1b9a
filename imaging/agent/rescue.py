"""The rescue task: chosen files as one compressed archive, piece by piece to the server."""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from imaging.agent.disks import Disk, human
from imaging.agent.errors import AgentError
from imaging.agent.progress import Progress
from imaging.agent.report import Result
from imaging.agent.server import Server
from imaging.disk.namespace import in_own_namespace
from imaging.other_options import RescueOptions
from imaging.rescue.archive import Archive
from imaging.rescue.sources import roots
from imaging.rescue.walk import Chooser, walk

_PIECE = 8 << 20
_LEVEL = 3
_MOST_TOLD = 200


class Upload:
    """Compresses what is written to it and sends it in pieces, one on its way while the next is made."""

    def __init__(self, server: Server, task: str, progress: Progress) -> None:
        import blake3
        import zstandard

        self.size = 0
        self._server, self._task, self._progress = server, task, progress
        self._hash = blake3.blake3()
        self._compress = zstandard.ZstdCompressor(level=_LEVEL, threads=-1, write_checksum=True).compressobj()
        self._pending = bytearray()
        self._pool = ThreadPoolExecutor(1)
        self._sending: Future[None] | None = None

    def write(self, data: bytes) -> int:
        """Take a piece of the archive. Raises ``AgentError``."""
        self._pending += self._compress.compress(data)
        if len(self._pending) >= _PIECE:
            self._send()
        return len(data)

    def finish(self) -> tuple[int, str]:
        """Send the rest; (bytes, BLAKE3) of the whole."""
        self._pending += self._compress.flush()
        self._send()
        self._settle()
        return self.size, self._hash.hexdigest()

    def close(self) -> None:
        """Let go of the thread."""
        self._pool.shutdown(cancel_futures=True)

    def _send(self) -> None:
        self._settle()
        data, self._pending = bytes(self._pending), bytearray()
        if data:
            self._hash.update(data)
            self._sending = self._pool.submit(self._server.put_rescue, self._task, self.size, data)
            self.size += len(data)
            self._progress.add(http=len(data))

    def _settle(self) -> None:
        if self._sending is not None:
            self._sending.result()
            self._sending = None


def rescue(
    task: dict[str, Any], options: RescueOptions, disks: Sequence[Disk], server: Server, progress: Progress
) -> Result:
    """Copy what ``options`` choose from the file systems of ``disks``, which are only read.

    Raises ``AgentError``: ``rescue-nothing``, ``rescue-too-large`` with numbers, ``rescue-full``.
    """
    id = str(task["id"])
    paths = [disk.path for disk in disks]
    name = archive_name(task)
    progress.enter("scan")
    files, total = in_own_namespace(lambda: _measure(paths, options, progress))
    progress.say(f"agent: rescue files={files} bytes={total}")
    if not files:
        raise AgentError(
            "rescue-nothing",
            f"Nothing on {len(disks)} disk(s) fits {', '.join(options.paths)}: check the patterns.",
        )
    if total > options.limit_mb * 1_000_000:
        raise AgentError(
            "rescue-too-large",
            f"{human(total)} in {files} files were chosen, more than the limit of "
            f"{human(options.limit_mb * 1_000_000)}: choose less, or raise limit_mb.",
        )
    server.rescue_room(id, total)
    progress.enter("upload", total)
    upload = Upload(server.another(), id, progress)
    try:
        archive = Archive(upload, progress.check, lambda done: progress.add(done=done))
        in_own_namespace(lambda: _copy(paths, options, archive, name))
        archive.close(name)
        size, hash = upload.finish()
    finally:
        upload.close()
    facts = {
        "name": name, "size": size, "blake3": hash, "files": archive.files, "folders": archive.folders,
        "links": archive.links, "bytes": archive.bytes, "unreadable_count": len(archive.unreadable),
        "unreadable": [[printable(path), reason] for path, reason in archive.unreadable[:_MOST_TOLD]],
        "paths": list(options.paths),
    }  # fmt: skip
    kept = server.finish_rescue(id, facts)
    progress.notes["rescue"] = facts | {"id": kept.get("id")}
    progress.say(f"agent: rescue kept={kept.get('id')} size={size} unreadable={len(archive.unreadable)}")
    return Result()


def archive_name(task: dict[str, Any]) -> str:
    """The top folder of the archive: the host's name, as a name on every system."""
    name = str((task.get("customise") or {}).get("hostname") or "rescue")
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).strip(".")[:63] or "rescue"


def printable(name: str) -> str:
    """A name for JSON: bytes that are no UTF-8 as ``\\xNN``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _measure(paths: Sequence[str], options: RescueOptions, progress: Progress) -> tuple[int, int]:
    """(files, bytes) of what is chosen."""
    files = total = 0

    def visit(prefix: str, root: int, ignore_case: bool) -> None:
        nonlocal files, total
        chooser = Chooser(options.paths, options.exclude, ignore_case=ignore_case)
        for entry in walk(root, chooser, lambda path, reason: None):
            progress.check()
            if stat.S_ISREG(entry.info.st_mode):
                files += 1
                total += entry.info.st_size
        progress.message = f"{prefix}: {files} files, {human(total)}"

    roots(paths, visit, lambda path, reason: progress.say(f"{path}: {reason}"))
    return files, total


def _copy(paths: Sequence[str], options: RescueOptions, archive: Archive, name: str) -> None:
    def visit(prefix: str, root: int, ignore_case: bool) -> None:
        archive.begin_root()
        chooser = Chooser(options.paths, options.exclude, ignore_case=ignore_case)
        top = f"{name}/{prefix}"
        for entry in walk(root, chooser, lambda path, reason: archive.missed(f"{top}/{path}", reason)):
            archive.add(entry, top)

    roots(paths, visit, lambda path, reason: archive.missed(f"{name}/{path}", reason))
