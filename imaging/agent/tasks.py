"""One task from the server's order to its delivered outcome, whatever happens in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from imaging.agent.choice import choose, choose_all
from imaging.agent.console import Console
from imaging.agent.disks import Disk, file_disk, given_paths, list_disks
from imaging.agent.errors import AgentError
from imaging.agent.i18n import gettext as _
from imaging.agent.peers import Peers
from imaging.agent.progress import Progress
from imaging.agent.report import Result, deliver, outcome, print_failure
from imaging.agent.server import Server
from imaging.options import ALL_DISKS, CaptureOptions, DeployOptions, DiskRule
from imaging.other_options import RescueOptions, ShellOptions, TestOptions, WipeOptions

Task = dict[str, Any]


def perform(
    task: Task, server: Server, console: Console, key: bytes, disk: str | None, *, simulated: bool
) -> tuple[int, str]:
    """Do one task (ARCHITECTURE §4 TASK) and deliver its outcome; returns (exit status, then).

    ``key`` is the server's Ed25519 public key, ``disk`` a disk or file to use instead of the task's rule.
    """
    id, kind = str(task["id"]), str(task.get("kind"))
    then = "poweroff" if task.get("then") == "poweroff" else "reboot"
    image = task.get("image") or {}
    console.say(f"agent: task id={id} kind={kind} attempt={task.get('attempt', 1)}")
    if kind == "deploy":
        console.say(_("Deploying image {name}, version {version}.").format(
            name=image.get("name", "?"), version=image.get("version", "?")))  # fmt: skip
    elif kind == "capture":
        console.say(_("Capturing this machine's disk as image {name}.").format(name=image.get("name", "?")))
    result: Result | None = None
    error: BaseException | None = None
    lingering: list[Peers] = []
    with Progress(id, server, console) as progress:
        try:
            result = _dispatch(kind, task, server, console, key, disk, progress, simulated, lingering)
        except (Exception, KeyboardInterrupt) as caught:
            # A failure that stopped other threads may reach us second hand; the first reason counts.
            error = progress.reason or caught
            print_failure(console, error)
    body = outcome(result, error, progress)
    try:
        then = deliver(server, console, id, body, then)
    except AgentError as lost:
        print_failure(console, lost)
        return 1, then
    finally:
        for peers in lingering:
            if error is None:
                peers.linger()
            peers.close()
    if error is None:
        console.say(_("Done."))
    else:
        console.say(_("Failed: {reason}").format(reason=body["reason"]))
    return 0, then


def _dispatch(
    kind: str, task: Task, server: Server, console: Console, key: bytes, disk: str | None, progress: Progress,
    simulated: bool, lingering: list[Peers],
) -> Result:  # fmt: skip
    if kind == "inventory":
        return Result()
    if kind in OTHERS:
        return _other(kind, task, server, console, disk, progress)
    if kind not in ("capture", "deploy"):
        raise AgentError(
            "task-unknown", f"This agent does not know the task {kind!r}: update the boot environment."
        )
    if kind == "capture":
        from imaging.agent.capture import capture

        sources = find_sources(task, disk)
        for source in sources:
            console.say(_("Disk: {disk}.").format(disk=source.described()))
        return capture(task, sources, server, progress)
    from imaging.agent.deploy import deploy

    targets = find_targets(task, disk)
    for target in targets:
        console.say(_("Disk: {disk}.").format(disk=target.described()))
    return deploy(task, targets, server, console, progress, key, simulated=simulated, lingering=lingering)


OTHERS: dict[str, Any] = {
    options.NAME: options for options in (WipeOptions, TestOptions, ShellOptions, RescueOptions)
}


def _other(
    kind: str, task: Task, server: Server, console: Console, disk: str | None, progress: Progress
) -> Result:
    """Wipe, test, shell and rescue. Imported when needed: a deploy should not wait for them."""
    options = OTHERS[kind].from_task(task.get(kind))
    if kind == "shell":
        from imaging.agent.shell import shell

        return shell(task, options, server, console, progress)
    disks = find_all(task, options.disks, disk)
    for each in disks:
        console.say(_("Disk: {disk}.").format(disk=each.described()))
    if kind == "wipe":
        from imaging.agent.wipe import wipe

        return wipe(options, disks, console, progress)
    if kind == "test":
        from imaging.agent.health import test

        return test(options, disks, progress)
    from imaging.agent.rescue import rescue

    return rescue(task, options, disks, server, progress)


def find_disk(task: Task, given: str | None) -> Disk:
    """The disk of a task: the one named to the agent, else by the task's rule. Raises ``AgentError``."""
    if given is not None:
        return file_disk(given)
    rule = task.get("disk") or {}
    return choose(list_disks(), str(rule.get("rule") or "only"), str(rule.get("value") or ""))


def find_targets(task: Task, given: str | None) -> list[Disk]:
    """The disks of a deploy, one per disk of the image: those named to the agent (``FILE,FILE``), else by
    the options' rules, else by the task's own. Raises ``AgentError``, OptionsError.
    """
    if given is not None:
        return [file_disk(path) for path in given_paths(given)]
    rules = DeployOptions.from_task(task.get("deploy")).disks
    return [find_disk(task, None)] if rules is None else choose_all(list_disks(), rules)


def find_sources(task: Task, given: str | None) -> list[Disk]:
    """The disks of a capture, in the image's order: those named to the agent (``FILE,FILE``), else by the
    options' rules (``all`` = every internal disk), else by the task's own. Raises ``AgentError``,
    OptionsError.
    """
    return find_all(task, CaptureOptions.from_task(task.get("capture")).disks, given)


def find_all(task: Task, rules: Sequence[DiskRule] | None, given: str | None) -> list[Disk]:
    """The disks that rules mean, ``(ALL_DISKS,)`` = every internal one, None = by the task's own rule; those
    named to the agent come before. Raises ``AgentError``.
    """
    if given is not None:
        return [file_disk(path) for path in given_paths(given)]
    if rules is None:
        return [find_disk(task, None)]
    seen = list_disks()
    if tuple(rules) == (ALL_DISKS,):
        # None at all: the sentence of the rule "only" says what was seen.
        return [disk for disk in seen if not disk.why_not_internal()] or [choose(seen, "only")]
    return choose_all(seen, rules)
