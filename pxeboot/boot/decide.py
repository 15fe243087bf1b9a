"""The one place where "what does this machine boot now" is decided, with a sentence that says why.

`decide` is a pure function of facts. Its rules, first match wins:

1. no host known under this MAC: ignored if the site says so; local disk while an exam runs there; else a
menu; 2. host blocked: refused, visibly;
3. host not approved yet: local disk;
4. a task wants it, attempts are left and this machine can run the boot environment: the agent;
5. everything else: local disk.

A machine that is to do nothing boots its own disk: a fault of ours must never keep a room from working.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias

__all__ = [
    "Action",
    "BootDecision",
    "BootPolicy",
    "Client",
    "ExamFacts",
    "Firmware",
    "HostFacts",
    "Loader",
    "Mode",
    "TaskFacts",
    "decide",
]

Action: TypeAlias = Literal["local", "menu", "agent", "refuse"]
Firmware: TypeAlias = Literal["bios", "uefi-x64", "uefi-ia32", "uefi-arm64", "unknown"]
Loader: TypeAlias = Literal["firmware", "ipxe", "grub"]
Mode: TypeAlias = Literal["task", "register-quick", "register-full"]

# The boot environment is built for amd64, which a 64-bit PC runs under BIOS, too.
_CAN_RUN_AGENT: Final = frozenset({"bios", "uefi-x64"})


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What we know of a registered machine."""

    name: str
    state: Literal["pending", "approved", "blocked"]


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """The task that is this host's turn, if any.

    `attempt` counts the attempts begun: used up ones while the task is `queued`, and with the current one
    while it is `booting`, `running` or `verifying`.
    """

    id: int | str
    kind: str
    """`capture`, `deploy`, `inventory` …"""
    state: str
    attempt: int
    max_attempts: int
    not_before: datetime | None = None
    """When a `scheduled` task is due."""


@dataclass(frozen=True, slots=True)
class ExamFacts:
    """An exam that holds the machine's room from `begins` until `ends` (aware, UTC)."""

    name: str
    begins: datetime
    ends: datetime

    def runs(self, now: datetime) -> bool:
        """Whether `now` is inside; the end is not."""
        return self.begins <= now < self.ends


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks. `mac` is lower case with colons; `loader` is the program that will read our answer."""

    mac: str
    firmware: Firmware = "unknown"
    loader: Loader = "firmware"


@dataclass(frozen=True, slots=True)
class BootPolicy:
    """The site's settings that a decision depends on."""

    unknown_host: Literal["menu", "ignore"] = "menu"
    menu_seconds: int = 20
    validity: timedelta = timedelta(minutes=10)
    """How long a decision holds at most: facts change without telling a loader that waits in a menu."""


@dataclass(frozen=True, slots=True)
class BootDecision:
    """What a machine boots now.

    `reason` is a full sentence for people. `mode` and `task_id` belong to `agent`. `menu_seconds` belongs to
    `menu`: after so long it takes the local disk. `silent` means that DHCP should not answer its wish to boot
    at all. `valid_until` (aware) is when to decide anew.
    """

    action: Action
    reason: str
    valid_until: datetime
    mode: Mode | None = None
    task_id: int | str | None = None
    menu_seconds: int = 0
    silent: bool = False


def decide(
    host: HostFacts | None,
    exam: ExamFacts | None,
    task: TaskFacts | None,
    client: Client,
    now: datetime,
    policy: BootPolicy | None = None,
) -> BootDecision:
    """Return what the machine that asks boots at `now` (aware). See the module for the rules."""
    policy = policy or BootPolicy()
    until = now + policy.validity
    if exam is not None:
        until = min([until, *(edge for edge in (exam.begins, exam.ends) if edge > now)])
    if task is not None and task.not_before is not None and task.not_before > now:
        until = min(until, task.not_before)
    exam_runs = exam is not None and exam.runs(now)

    if host is None:
        return _unknown(exam if exam_runs else None, client, until, policy)
    if host.state == "blocked":
        reason = f"{host.name} is blocked: an administrator has forbidden it to boot from this server."
        return BootDecision("refuse", reason, until)
    if host.state == "pending":
        reason = f"{host.name} waits for approval by an administrator, so it boots its own disk."
        return BootDecision("local", reason, until)
    if task is not None:
        return _with_task(host, task, client, until)
    if exam is not None and exam_runs:
        reason = f"The exam {exam.name} runs and no task waits for {host.name}, so it boots its own disk."
        return BootDecision("local", reason, until)
    return BootDecision("local", f"No task waits for {host.name}, so it boots its own disk.", until)


def _unknown(exam: ExamFacts | None, client: Client, until: datetime, policy: BootPolicy) -> BootDecision:
    if policy.unknown_host == "ignore":
        reason = f"Nobody has registered {client.mac}, and unknown machines are ignored (boot.unknown_host)."
        return BootDecision("local", reason, until, silent=True)
    if exam is not None:
        reason = f"Nobody has registered {client.mac}, and no menu is shown during the exam {exam.name}."
        return BootDecision("local", reason, until)
    if client.firmware not in _CAN_RUN_AGENT and client.firmware != "unknown":
        reason = (
            f"Nobody registered {client.mac}, and our boot environment does not run on {client.firmware}, "
            "so it boots its own disk."
        )
        return BootDecision("local", reason, until)
    reason = f"Nobody has registered {client.mac}: a menu offers to register it or to boot its own disk."
    return BootDecision("menu", reason, until, menu_seconds=policy.menu_seconds)


def _with_task(host: HostFacts, task: TaskFacts, client: Client, until: datetime) -> BootDecision:
    what = f"task {task.id} ({task.kind})"

    def local(reason: str) -> BootDecision:
        return BootDecision("local", reason, until)

    match task.state:
        case "queued" | "booting" | "running" | "verifying":
            pass
        case "scheduled":
            return local(f"The {what} of {host.name} is not due yet, so it boots its own disk.")
        case _:
            return local(f"The {what} of {host.name} is {task.state}, so it boots its own disk.")
    # While it boots, the attempt it is in counts already, and a loader asks more than once (HEAD, then GET):
    # the answer must not change in between. What stays away is ended by the control plane.
    begun = task.attempt - 1 if task.state == "booting" else task.attempt
    if begun >= task.max_attempts:
        times = "once" if task.max_attempts == 1 else f"{task.max_attempts} times"
        return local(f"The {what} of {host.name} was tried {times} in vain, so it boots its own disk.")
    if client.firmware not in _CAN_RUN_AGENT and client.firmware != "unknown":
        return local(
            f"The {what} waits for {host.name}, but the boot environment does not run on {client.firmware}, "
            "so it boots its own disk."
        )
    number = max(begun, 0) + 1
    again = "; it came back while an attempt was under way" if task.state in ("running", "verifying") else ""
    reason = f"The {what} waits for {host.name} (attempt {number} of {task.max_attempts}{again})."
    return BootDecision("agent", reason, until, mode="task", task_id=task.id)
