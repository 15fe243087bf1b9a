"""The deploy task: bring disks to what a signed manifest says, and prove it by reading them back.

The disk is the state: whatever it holds already is kept, so a deploy that was cut off goes on where it was.
Chunks come by multicast where a session is heard, else from neighbours, else over HTTP (`ladder`); all are
checked by the same hashes before they are written.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from imaging.agent import customise
from imaging.agent.afterwards import afterwards
from imaging.agent.console import Console
from imaging.agent.demand import Demand
from imaging.agent.disks import Disk, human
from imaging.agent.errors import AgentError
from imaging.agent.fetch import Fetchers
from imaging.agent.ladder import Ladder
from imaging.agent.listen import Listener
from imaging.agent.peers import Peers
from imaging.agent.progress import Progress
from imaging.agent.report import Result
from imaging.agent.restore import Restore
from imaging.agent.scan import Scan, nothing_in_common
from imaging.agent.server import Server
from imaging.deploy import Verification, verify_assigned
from imaging.errors import PlacementRefused, SignatureInvalid, VerifyFailed
from imaging.manifest import CHUNK_SIZE, Manifest
from imaging.options import DeployOptions
from imaging.target import Assignment, Target, assign

Task = dict[str, Any]

_VERIFY_ROUNDS = 3


def deploy(
    task: Task,
    disks: Sequence[Disk],
    server: Server,
    console: Console,
    progress: Progress,
    key: bytes,
    *,
    simulated: bool,
    lingering: list[Peers],
) -> Result:
    """Deploy the task's manifest to ``disks``, one per disk of the image; every chunk has been read back and
    is right on return. What serves the neighbours is put into ``lingering``: the caller's to close.

    Raises ``AgentError`` and ``ImagingError`` with the codes listed in docs/agent.md. Nothing is written
    before manifest, signature, and the sizes, sector sizes and tables of all disks have been checked.
    """
    options = DeployOptions.from_task(task.get("deploy"))
    manifest = fetch_manifest(server, str(task["manifest"]), key)
    console.say(f"agent: image chunks={len(manifest.chunks)} used={human(manifest.used)}")
    with contextlib.ExitStack() as spills:
        assignments = plan(manifest, disks, options, console, spills)
        customiser = customise.prepare(task, disks, manifest, options.partitions, server, console, progress)
        customiser.before()
        peers = Peers(task.get("peers"), server, console, progress, str(task["id"]), manifest)
        lingering.append(peers)
        peers.start(assignments)
        receive(task, manifest, assignments, server, console, progress, discard=options.discard, peers=peers)
        if options.verify:
            prove(task, manifest, assignments, server, console, progress)
        peers.read_disks(False)
        for disk, given in zip(disks, assignments, strict=True):
            assert given.placement is not None
            afterwards(
                task, manifest, given.placement, disk, console, progress,
                number=given.number, spill=given.spill, simulated=simulated,
            )  # fmt: skip
    customise.finish(customiser, console, progress)
    peers.read_disks(True)
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


def plan(
    manifest: Manifest, disks: Sequence[Disk], options: DeployOptions, console: Console,
    spills: contextlib.ExitStack,
) -> list[Assignment]:  # fmt: skip
    """Which disk of the image goes where, and how; temporary files it needs are closed with ``spills``.

    Raises ``AgentError`` ``manifest-several-disks`` when the task does not name a disk for each, and what
    :func:`imaging.target.assign` raises.
    """
    if len(manifest.disks) != len(disks):
        raise AgentError(
            "manifest-several-disks",
            f"This image has {len(manifest.disks)} disks, and the task says for {len(disks)} where they go: "
            "give one rule per disk of the image.",
        )
    if options.partitions is not None and len(disks) > 1:
        raise PlacementRefused(
            "Single partitions can be deployed from images of one disk only: deploy the whole image."
        )
    assignments = []
    for number, disk in enumerate(disks):
        given = assign(manifest, number, disk.path, options, spill_limit=_spill_limit())
        placement = given.placement
        assert placement is not None
        if placement.cut is not None:
            given.spill = _spill(placement.cut.spill, spills)
        if not placement.is_identity:
            places = " ".join(f"{p.number}:{p.start}+{p.size}" for p in placement.partitions)
            cut = placement.cut.number if placement.cut else "none"
            grown = ",".join(map(str, placement.grown)) or "none"
            only = "all" if placement.only is None else ",".join(map(str, placement.only))
            console.say(f"agent: placed disk={disk.path} written={only} grown={grown} cut={cut} {places}")
        assignments.append(given)
    return assignments


def _spill(size: int, spills: contextlib.ExitStack) -> int:
    """An empty sparse temporary file (memory, in the boot environment) as an open file."""
    file = spills.enter_context(tempfile.TemporaryFile(prefix="pxeboot-spill-"))  # noqa: SIM115
    os.ftruncate(file.fileno(), size)
    return file.fileno()


def _spill_limit() -> int:
    """Bytes of a partition's cut-off end that this machine can hold: half of its free memory."""
    with open("/proc/meminfo", encoding="ascii") as file:
        free = dict(line.split(":", 1) for line in file).get("MemAvailable", "0 kB")
    return int(free.split()[0]) * 1024 // 2


def receive(
    task: Task, manifest: Manifest, assignments: Sequence[Assignment], server: Server, console: Console,
    progress: Progress, *, wanted: list[int] | None = None, discard: bool = False, peers: Peers | None = None,
) -> None:  # fmt: skip
    """Find out what the disks lack, and get and write it, then their tables.

    ``wanted`` = only these chunks, without a scan; ``discard`` = tell the disks first what they need not
    keep; ``peers`` = neighbours to take chunks from.
    """
    demand = Demand(len(manifest.chunks))
    with contextlib.ExitStack() as opened:
        targets = {
            given.number: opened.enter_context(Target(manifest, given, write=True)) for given in assignments
        }
        restore = Restore(manifest, targets, demand, progress)
        session = task.get("session")
        if wanted is not None:
            demand.only(wanted)
            session = None
        else:
            demand.skip(restore.foreign())
            progress.chunks["total"] = demand.count - demand.skipped
        progress.enter("scan", _bytes(demand))
        if discard:
            for given in assignments:
                size = targets[given.number].discard(progress.check)
                console.say(f"agent: discarded disk={given.path} bytes={size}")
        full = wanted is not None or bool(task.get("force_full")) or nothing_in_common(restore)
        _transfer(task, manifest, restore, server, console, progress, session, full=full, peers=peers)
        progress.enter("write")
        # Only the chunks' bytes so far. The tables come last, all disks' content being on the medium.
        for target in targets.values():
            target.sync()
        for target in targets.values():
            target.finish()


def _transfer(
    task: Task, manifest: Manifest, restore: Restore, server: Server, console: Console, progress: Progress,
    session: dict[str, Any] | None, *, full: bool, peers: Peers | None,
) -> None:  # fmt: skip
    demand = restore.demand
    scan = None if full else Scan(restore)
    listener = Listener(restore, server, console, str(task["id"]), manifest.id, session)
    fetchers = Fetchers(restore, server)
    ladder = Ladder(restore, listener, peers, fetchers, console)
    try:
        if peers is not None:
            peers.attach(restore, listener)
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
                    progress.enter("receive", _bytes(demand))
                progress.done = (demand.done - demand.skipped) * CHUNK_SIZE
            ladder.step(time.monotonic())
            demand.wait(0.2)
        if progress.stage != "receive":  # what was wanted came while the rest was scanned
            progress.enter("receive", _bytes(demand))
    except BaseException as error:
        progress.fail(error)  # the other threads must not work on, nor their own end count as the reason
        raise
    finally:
        if peers is not None:
            peers.detach()
        fetchers.close()
        listener.close()
        if scan is not None:
            scan.join(30)
    progress.check()


def prove(
    task: Task, manifest: Manifest, assignments: Sequence[Assignment], server: Server, console: Console,
    progress: Progress,
) -> None:  # fmt: skip
    """Read the disks back past the caches; chunks that read back wrong are fetched and written again.

    Raises VerifyFailed after ``_VERIFY_ROUNDS`` rounds.
    """
    for round in range(1, _VERIFY_ROUNDS + 1):
        result = _read_back(manifest, assignments, progress)
        if result.ok:
            progress.verified = True
            return
        if round == _VERIFY_ROUNDS:
            where = ", ".join(given.path for given in assignments)
            raise VerifyFailed(
                f"{len(result.bad)} of {len(manifest.chunks)} chunks read back wrong from {where} after "
                f"{round} writes{'' if result.table_ok else ', and so does the partition table'}: "
                "replace the disk or its cable."
            )
        console.say(f"agent: verify bad={len(result.bad)} table={'ok' if result.table_ok else 'bad'}")
        receive(task, manifest, assignments, server, console, progress, wanted=result.bad)


def _read_back(manifest: Manifest, assignments: Sequence[Assignment], progress: Progress) -> Verification:
    progress.enter("verify", manifest.used)
    bad: list[int] = []
    table_ok = True
    before = 0
    for given in assignments:

        def tell(stage: str, done: int, total: int, before: int = before) -> None:
            progress.stage_at(stage, before + done, manifest.used)

        result = verify_assigned(given, manifest, tell)
        bad += result.bad
        table_ok = table_ok and result.table_ok
        before += manifest.disks[given.number].used
    return Verification(bad, table_ok)


def network_first(console: Console) -> None:
    """Keep the network first in the firmware's boot order, as well as it can be done.

    (Swap needs nothing: its header, and so its UUID, is in the image.)
    """
    from imaging.agent.firmware import keep_network_first

    if sentence := keep_network_first():
        console.say(sentence)


def _bytes(demand: Demand) -> int:
    return (demand.count - demand.skipped) * CHUNK_SIZE
