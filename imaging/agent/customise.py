"""The agent's side of what is done after the image: files come from the server, steps go into the outcome."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any
from urllib.parse import quote

from imaging.agent.console import Console
from imaging.agent.disks import Disk
from imaging.agent.i18n import gettext as _
from imaging.agent.progress import Progress
from imaging.agent.server import Server
from imaging.customise import Customiser, from_task
from imaging.errors import CustomiseError
from imaging.manifest import Manifest


def prepare(
    task: dict[str, Any],
    disks: Sequence[Disk],
    manifest: Manifest,
    partitions: Collection[int] | None,
    server: Server,
    console: Console,
    progress: Progress,
) -> Customiser:
    """Read the task's order for these disks, before anything is written.

    ``partitions``: only these are deployed, and so only these are customised.

    Raises CustomiseError when the order makes no sense, or the server could not put it together.
    """
    order = from_task(task.get("customise"))

    def begin(step: str) -> None:
        progress.message = step

    customiser = Customiser(
        order,
        [(disk.path, image.sector_size) for disk, image in zip(disks, manifest.disks, strict=True)],
        only=None if partitions is None else frozenset(partitions),
        source=_FromServer(server, str(task["id"])),
        tell=console.say, begin=begin, check=progress.check,
    )  # fmt: skip
    # The same list: what was done is in the outcome also when a later step fails.
    progress.notes["customise"] = customiser.steps.records
    return customiser


def finish(customiser: Customiser, console: Console, progress: Progress) -> None:
    """Everything after the image. Raises CustomiseError and what ``Customiser.after`` raises."""
    progress.enter("customise")
    customiser.after()
    hostname = customiser.order.hostname
    if hostname:
        where = ",".join(str(number) for number in customiser.named) or "none"
        console.say(f"agent: hostname={hostname} partitions={where}")
        if not customiser.named:
            progress.message = _("The disk holds no system to give the host name to.")
            console.say(progress.message)


class _FromServer:
    """Files over the task plane, checked by their BLAKE3 hash before they count."""

    def __init__(self, server: Server, task: str) -> None:
        self._server, self._task = server, task

    def file(self, hash: str, size: int) -> Iterator[bytes]:
        path = f"/agent/v1/tasks/{self._task}/files/{hash}"
        return self._checked(path, size, hash, "a file drop")

    def driver(self, path: str, size: int) -> Iterator[bytes]:
        where = f"/agent/v1/tasks/{self._task}/drivers/{quote(path)}"
        return self._checked(where, size, None, f"the driver file {path}")

    def _checked(self, path: str, size: int, hash: str | None, what: str) -> Iterator[bytes]:
        import blake3

        hasher, length = blake3.blake3(), 0
        stream = self._server.stream(path)
        for data in stream:
            hasher.update(data)
            length += len(data)
            if length > size:
                break
            yield data
        # The server tells a driver file's hash with the file: trees of gigabytes are not hashed beforehand.
        expected = hash or stream.headers.get("x-pxeboot-blake3", "")
        if length != size or hasher.hexdigest() != expected:
            raise CustomiseError(
                f"The server's copy of {what} changed or was damaged on its way: deploy again."
            )
