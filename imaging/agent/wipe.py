"""The wipe task: look at all disks first, let somebody at the console stop it, wipe them side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from imaging.agent.console import Console
from imaging.agent.disks import Disk
from imaging.agent.errors import AgentError
from imaging.agent.i18n import gettext as _
from imaging.agent.progress import Progress
from imaging.agent.report import Result
from imaging.other_options import WipeOptions
from imaging.wipe import abilities
from imaging.wipe.run import Target, look
from imaging.wipe.run import wipe as wipe_disk

_SIDE_BY_SIDE = 8
_TOLD_EVERY = 10.0


def wipe(options: WipeOptions, disks: Sequence[Disk], console: Console, progress: Progress) -> Result:
    """Wipe ``disks``; the outcome's ``wipe`` has a record of each.

    Raises WipeRefused before anything was changed, ``AgentError`` ``wipe-stopped`` (somebody at the console
    said so), ``wipe-failed`` when a disk is not proved to be wiped.
    """
    targets = [
        Target(
            each.path, each.size, each.serial, each.wwn, each.model, each.transport, each.rotational,
            file=each.transport == "file" and not each.path.startswith("/dev/"),
        )
        for each in disks
    ]  # fmt: skip
    able = [look(target, [each.path for each in targets]) for target in targets]
    for target, can in zip(targets, able, strict=True):
        methods, notes = abilities.choose(options.method, can, fallback=options.fallback)
        console.say(_("{disk} will be wiped by {method}.").format(disk=target.path, method=methods[0]))
        for note in notes:
            console.say(note)
    if options.countdown:
        _count_down(options.countdown, disks, console, progress)
    counter = _Counter(progress, sum(_work(options, target) for target in targets))
    records: list[dict[str, Any]] = []
    # The same list: what was done is in the outcome also when the task is stopped half-way.
    progress.notes["wipe"] = records
    progress.enter("wipe", counter.total)

    def one(target: Target, can: abilities.Abilities) -> dict[str, Any]:
        return wipe_disk(target, options, can, progress=counter.add, check=progress.check, tell=progress.say)

    with ThreadPoolExecutor(min(len(targets), _SIDE_BY_SIDE)) as pool:
        futures = [pool.submit(one, target, can) for target, can in zip(targets, able, strict=True)]
        for future in futures:
            records.append(future.result())
    for record in records:
        said = "true" if record["verified"] else "false"
        console.say(f"agent: wipe disk={record['path']} method={record['method'] or '-'} verified={said}")
    failed = [record for record in records if not record["verified"]]
    progress.verified = not failed
    if failed:
        raise AgentError(
            "wipe-failed",
            " ".join(f"{record['path']} ({record['serial']}): {record['error']}" for record in failed),
        )
    return Result()


def _work(options: WipeOptions, target: Target) -> int:
    """Bytes that are counted for a disk: written, then read where all of it is."""
    passes = options.passes if options.method in ("auto", "overwrite") or options.fallback else 1
    return target.size * (passes + (options.verify == "full"))


def _count_down(seconds: int, disks: Sequence[Disk], console: Console, progress: Progress) -> None:
    console.say(
        _("ALL DATA on {count} disk(s) of this machine will be destroyed in {seconds} seconds.").format(
            count=len(disks), seconds=seconds
        )
    )
    console.say(_("Press Enter here to stop it."))
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        progress.check()
        told = _("It begins in {seconds} seconds, unless somebody stops it.")
        progress.message = told.format(seconds=round(left))
        began = time.monotonic()
        if console.stopped_within(min(left, _TOLD_EVERY)):
            raise AgentError("wipe-stopped", "Somebody stopped the wipe at the machine's console.")
        # A console that cannot be read from answers at once.
        time.sleep(max(0.0, min(left, 1.0) - (time.monotonic() - began)))
        if (left := deadline - time.monotonic()) > 1:
            console.say(_("{seconds} seconds left; Enter stops it.").format(seconds=round(left)))


class _Counter:
    """Bytes done by several threads, told as one stage."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.total = total
        self._progress = progress

    def add(self, done: int) -> None:
        self._progress.add(done=done)
