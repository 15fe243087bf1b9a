"""The deploy task: bring one disk to what a signed manifest says, and prove it by reading it back.

The disk is the state: whatever it holds already is kept, so a deploy that was cut off goes on where it was.
Chunks come by multicast where a session is heard, over HTTP where not; both are checked by the same hashes
before they are written.
"""

from __future__ import annotations

import time
from typing import Any

from imaging.agent import customise
from imaging.agent.console import Console
from imaging.agent.demand import Demand
from imaging.agent.disks import Disk, human
from imaging.agent.errors import AgentError
from imaging.agent.fetch import Fetchers
from imaging.agent.listen import Listener
from imaging.agent.progress import Progress
from imaging.agent.report import Result
from imaging.agent.restore import Restore
from imaging.agent.scan import Scan, nothing_in_common
from imaging.agent.server import Server
from imaging.deploy import DiskWriter, check_target, verify
from imaging.disk.device import Disk as OpenDisk
from imaging.errors import SignatureInvalid, VerifyFailed
from imaging.manifest import CHUNK_SIZE, Manifest

Task = dict[str, Any]

_VERIFY_ROUNDS = 3


def deploy(
    task: Task,
    disk: Disk,
    server: Server,
    console: Console,
    progress: Progress,
    key: bytes,
    *,
    simulated: bool,
) -> Result:
    """Deploy the task's manifest to ``disk``; every chunk has been read back and is right on return.

    Raises ``AgentError`` and ``ImagingError`` with the codes listed in docs/agent.md. Nothing is written
    before manifest, signature, disk size and sector size have been checked.
    """
    manifest = fetch_manifest(server, str(task["manifest"]), key)
    if len(manifest.disks) != 1:
        raise AgentError(
            "manifest-several-disks",
            f"This image has {len(manifest.disks)} disks; this agent restores images of one disk.",
        )
    disks = [(disk.path, manifest.disks[0].sector_size)]
    customiser = customise.prepare(task, disks, server, console, progress)
    customiser.before()
    progress.chunks["total"] = len(manifest.chunks)
    console.say(f"agent: image chunks={len(manifest.chunks)} used={human(manifest.used)}")
    receive(task, manifest, disk, server, console, progress)
    prove(task, manifest, disk, server, console, progress)
    customise.finish(customiser, console, progress)
    if not simulated:
        network_first(console)
    return Result(manifest.id)


def fetch_manifest(server: Server, id: str, key: bytes) -> Manifest:
    """The manifest of this identity, signed by the server's key.

    Raises SignatureInvalid, ManifestError, or ``AgentError`` ``manifest-foreign`` when the bytes are another
    manifest than the task names.
    """
    from imaging.ed25519 import verify as verify_signature

    data, signature = server.manifest(id)
    if not verify_signature(key, data, signature):
        raise SignatureInvalid(
            "The image's manifest is not signed by this server's key: nothing was written."
        )
    manifest = Manifest.from_bytes(data)
    if manifest.id != id:
        raise AgentError("manifest-foreign", "The server sent another manifest than the task names.")
    return manifest


def receive(
    task: Task, manifest: Manifest, disk: Disk, server: Server, console: Console, progress: Progress,
    wanted: list[int] | None = None,
) -> None:  # fmt: skip
    """Find out what the disk lacks, and get and write it; ``wanted`` = only these chunks, without a scan."""
    image = manifest.disks[0]
    demand = Demand(len(manifest.chunks))
    with OpenDisk(disk.path, write=True, sector_size=image.sector_size) as target:
        check_target(target, image)
        restore = Restore(manifest, target.fd, demand, progress)
        session = task.get("session")
        if wanted is not None:
            demand.only(wanted)
            session = None
        progress.enter("scan", _bytes(manifest))
        full = wanted is not None or bool(task.get("force_full")) or nothing_in_common(restore)
        _transfer(task, manifest, restore, server, console, progress, session, full=full)
        progress.enter("write")
        target.sync()
    # Only the chunks' bytes so far; this writes both copies of the partition table for this disk's size.
    with DiskWriter(disk.path, manifest, bytes(len(manifest.chunks))) as writer:
        writer.finish()


def _transfer(
    task: Task, manifest: Manifest, restore: Restore, server: Server, console: Console, progress: Progress,
    session: dict[str, Any] | None, *, full: bool,
) -> None:  # fmt: skip
    demand = restore.demand
    scan = None if full else Scan(restore)
    listener = Listener(restore, server, console, str(task["id"]), manifest.id, session)
    fetchers = Fetchers(restore, server)
    try:
        if full:
            demand.want_all()
        # The receiver first: what passes by while we scan need not be read, nor asked for later.
        listener.start(scanning=not full)
        if scan is not None:
            scan.start()
        while not demand.complete:
            progress.check()
            if scan is not None and scan.running:
                progress.done = scan.scanned * CHUNK_SIZE
            else:
                if scan is not None:
                    scan = None
                    listener.scanned()
                if progress.stage != "receive":
                    progress.enter("receive", _bytes(manifest))
                progress.done = demand.done * CHUNK_SIZE
            before = fetchers.allowed
            now = fetchers.allow(listener.connections(time.monotonic()))
            if now != before:
                console.log(f"http connections {before} -> {now}")
            demand.wait(0.2)
    except BaseException as error:
        progress.fail(error)  # the other threads must not work on, nor their own end count as the reason
        raise
    finally:
        fetchers.close()
        listener.close()
        if scan is not None:
            scan.join(30)
    progress.check()


def prove(
    task: Task, manifest: Manifest, disk: Disk, server: Server, console: Console, progress: Progress
) -> None:
    """Read the whole disk back past the caches; chunks that read back wrong are fetched and written again.

    Raises VerifyFailed after ``_VERIFY_ROUNDS`` rounds.
    """
    for round in range(1, _VERIFY_ROUNDS + 1):
        progress.enter("verify", manifest.used)
        result = verify(disk.path, manifest, progress.stage_at)
        if result.ok:
            progress.verified = True
            return
        if round == _VERIFY_ROUNDS:
            raise VerifyFailed(
                f"{len(result.bad)} of {len(manifest.chunks)} chunks read back wrong from {disk.path} after "
                f"{round} writes{'' if result.table_ok else ', and so does the partition table'}: "
                "replace the disk or its cable."
            )
        console.say(f"agent: verify bad={len(result.bad)} table={'ok' if result.table_ok else 'bad'}")
        receive(task, manifest, disk, server, console, progress, wanted=result.bad)


def network_first(console: Console) -> None:
    """Keep the network first in the firmware's boot order, as well as it can be done.

    (Swap needs nothing: its header, and so its UUID, is in the image.)
    """
    from imaging.agent.firmware import keep_network_first

    if sentence := keep_network_first():
        console.say(sentence)


def _bytes(manifest: Manifest) -> int:
    return len(manifest.chunks) * CHUNK_SIZE
