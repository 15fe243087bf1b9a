"""What the server must know of each kind of request and task: two tables; a new kind is a line in each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from imaging.options import CaptureOptions, DeployOptions
from imaging.other_options import RescueOptions, ShellOptions, TestOptions, WipeOptions
from pxeboot.db.models import Task, TaskKind


@dataclass(frozen=True)
class Ended:
    """What an agent says at the end of a task, beside what the server knows of it."""

    task: Task
    verified: bool
    manifest: str | None
    expected: str  # the manifest it was given
    must_verify: bool  # False: whoever asked for the task did without
    told: dict[str, Any] = field(default_factory=dict)  # what else it says


def _never(_: Ended) -> str:
    return ""


def _deploy_doubt(said: Ended) -> str:
    if said.must_verify and not said.verified:
        return "The agent reported success without having verified the disk."
    if said.manifest != said.expected:
        return "The agent reported success for another image than it was given."
    return ""


def _capture_doubt(said: Ended) -> str:
    if "version" not in said.task.result:
        return "The agent reported success, but no manifest arrived, so there is no new version."
    return ""


def _wipe_doubt(said: Ended) -> str:
    disks = said.told.get("wipe")
    if not isinstance(disks, list) or not disks:
        return "The agent reported success without a record of any disk."
    if not all(isinstance(disk, dict) and disk.get("verified") is True for disk in disks):
        return "The agent reported success, but not every disk was proved to be wiped."
    return ""


def _rescue_doubt(said: Ended) -> str:
    if "rescue_id" not in said.task.result:
        return "The agent reported success, but no whole archive arrived."
    return ""


AnyOptions = (
    type[CaptureOptions]
    | type[DeployOptions]
    | type[WipeOptions]
    | type[TestOptions]
    | type[ShellOptions]
    | type[RescueOptions]
)


@dataclass(frozen=True)
class Kind:
    """One kind of task, as the control plane sees it."""

    options: AnyOptions | None = None
    brings_manifest: bool = False  # its agent may send a manifest, which becomes a version
    changes_disk: bool = False  # from check-in on the disk holds nothing that was proved before
    by_multicast: bool = False  # it may get a multicast session
    proves_disk: bool = False  # when it is done, the disk is known to hold its manifest
    doubt: Callable[[Ended], str] = _never  # why an outcome that says ok cannot be true; "" when it can


KINDS: dict[TaskKind, Kind] = {
    TaskKind.CAPTURE: Kind(
        options=CaptureOptions, brings_manifest=True, proves_disk=True, doubt=_capture_doubt
    ),
    TaskKind.DEPLOY: Kind(
        options=DeployOptions, changes_disk=True, by_multicast=True, proves_disk=True, doubt=_deploy_doubt
    ),
    TaskKind.INVENTORY: Kind(),
    TaskKind.WIPE: Kind(options=WipeOptions, changes_disk=True, doubt=_wipe_doubt),
    TaskKind.TEST: Kind(options=TestOptions),
    # Whoever is root there may write to the disk.
    TaskKind.SHELL: Kind(options=ShellOptions, changes_disk=True),
    TaskKind.RESCUE: Kind(options=RescueOptions, doubt=_rescue_doubt),
}


@dataclass(frozen=True)
class Asked:
    """One kind of request: the task it becomes, and what it must name.

    `image`: `new` names the image that gets a version, `version` one that exists, `own` may leave it out
    (each host has its own), `none` has none.
    """

    task: TaskKind
    title: str
    image: Literal["new", "version", "own", "none"] = "none"
    one_host: bool = False
    confirm: bool = False  # it destroys data: whoever asks says the host's name, or how many hosts, once more
    by_person: bool = False  # not by a schedule: somebody waits for it, or has to confirm it


REQUESTS: dict[str, Asked] = {
    "capture": Asked(TaskKind.CAPTURE, "Capture {image} from {where}", image="new", one_host=True),
    "deploy": Asked(TaskKind.DEPLOY, "Deploy {version} to {where}", image="version"),
    "reset": Asked(TaskKind.DEPLOY, "Reset {where} to {version}", image="own"),
    "inventory": Asked(TaskKind.INVENTORY, "Inventory of {where}"),
    "wipe": Asked(TaskKind.WIPE, "Wipe {where}", confirm=True, by_person=True),
    "test": Asked(TaskKind.TEST, "Test {where}"),
    "shell": Asked(TaskKind.SHELL, "Debug shell on {where}", by_person=True),
    "rescue": Asked(TaskKind.RESCUE, "Rescue files of {where}", by_person=True),
}
