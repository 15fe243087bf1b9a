"""The one place where "what does this machine boot now" is decided, with a sentence that says why.

`decide` is a pure function of facts. Its rules, first match wins:

1. no host known under this MAC: what `unknown_host` says (nothing at all, a menu, registration, or a message
and the local disk); local disk while an exam runs there;
2. host blocked: refused, visibly;
3. host not approved yet: local disk;
4. a task wants it, attempts are left and this machine can run the boot environment: the agent;
5. an exam runs: what the exam says, else as 6, but never a menu;
6. idle: what the boot rules of host, group and site say (`pxeboot.boot.rules`): local disk, one of its
systems, an extra entry, or a menu.

A machine that is to do nothing boots its own disk: a fault of ours must never keep a room from working. How
it does that (`BootDecision.local`) is a boot rule too. Every reason names the rule and who said it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias

from pxeboot.boot.rules import ENTRY_KINDS, NO_RULES, BootRules, MenuEntry

__all__ = [
    "Action",
    "BootDecision",
    "BootPolicy",
    "Choice",
    "Client",
    "ExamFacts",
    "Firmware",
    "HostFacts",
    "Loader",
    "Mode",
    "RulesInForce",
    "TaskFacts",
    "UnknownHost",
    "decide",
]

Action: TypeAlias = Literal["local", "menu", "agent", "entry", "refuse"]
Firmware: TypeAlias = Literal[
    "bios",
    "uefi-x64",
    "uefi-ia32",
    "uefi-arm64",
    "uefi-arm32",
    "uefi-riscv64",
    "uefi-loongarch64",
    "unknown",
]
Loader: TypeAlias = Literal["firmware", "ipxe", "grub", "agent"]
Choice: TypeAlias = Literal["register-quick", "register-full"]
Mode: TypeAlias = Literal["task"] | Choice
UnknownHost: TypeAlias = Literal["ignore", "menu", "register", "quarantine"]

# The boot environment is built for amd64, which a 64-bit PC runs under BIOS, too.
_CAN_RUN_AGENT: Final = frozenset({"bios", "uefi-x64"})
# Kinds of entries that need no program made for one processor.
_ANYWHERE: Final = frozenset({"firmware-setup", "shell", "reboot", "poweroff", "efi"})
_BUILT_IN: Final = BootRules(local_boot="auto", default="local", menu="never", menu_seconds=20)
_SYSTEMS: Final = {"windows": "Windows", "linux": "Linux"}


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What we know of a registered machine: `rules` are its own, `group_rules` its group's."""

    name: str
    state: Literal["pending", "approved", "blocked"]
    group: str = ""
    rules: BootRules = NO_RULES
    group_rules: BootRules = NO_RULES


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
    """An exam that holds the machine's room from `begins` until `ends` (aware, UTC).

    `default` is what an idle machine boots meanwhile, as in `BootRules`: "" leaves it to the rules.
    """

    name: str
    begins: datetime
    ends: datetime
    default: str = ""

    def runs(self, now: datetime) -> bool:
        """Whether `now` is inside; the end is not."""
        return self.begins <= now < self.ends


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks. `mac` is lower case with colons; `loader` will read our answer; `choice`: at our menu."""

    mac: str
    firmware: Firmware = "unknown"
    loader: Loader = "firmware"
    choice: Choice | None = None


@dataclass(frozen=True, slots=True)
class BootPolicy:
    """The site's settings that a decision depends on, and the extra menu entries of this machine."""

    unknown_host: UnknownHost = "menu"
    menu_seconds: int = 20
    """The menus' time-out where no rule says another; 0 waits for ever."""
    validity: timedelta = timedelta(minutes=10)
    """How long a decision holds at most: facts change without telling a loader that waits in a menu."""
    rules: BootRules = NO_RULES
    entries: tuple[MenuEntry, ...] = ()
    quarantine_message: str = ""
    """What `quarantine` shows; "": a sentence of ours."""


@dataclass(frozen=True, slots=True)
class BootDecision:
    """What a machine boots now.

    `reason` is a full sentence for people. `mode` and `task_id` belong to `agent`, `entry` to `entry`.
    `local` is how the own disk is started, wherever that happens (`rules.LOCAL_BOOTS` or `partition:…`).
    `valid_until` (aware) is when to decide anew. `silent` means that DHCP should not answer its wish to boot
    at all. `message` is shown before anything else happens.

    To `menu` belong `menu_seconds` (after so long it takes `default`; 0: never), `registers` (offer
    registration), `systems` (offer Windows and Linux by name) and `entries`. `default` is `local`, `windows`,
    `linux` or the name of an entry.
    """

    action: Action
    reason: str
    valid_until: datetime
    mode: Mode | None = None
    task_id: int | str | None = None
    menu_seconds: int = 0
    silent: bool = False
    local: str = "auto"
    entries: tuple[MenuEntry, ...] = ()
    entry: MenuEntry | None = None
    default: str = "local"
    registers: bool = False
    systems: bool = False
    message: str = ""


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
    running = exam if exam is not None and exam.runs(now) else None
    said = RulesInForce(host, policy)
    decision = _decide(host, running, task, client, until, policy, said)
    if decision.local == "auto":
        decision = replace(decision, local=said.local_boot)
    return decision


def _decide(
    host: HostFacts | None,
    exam: ExamFacts | None,
    task: TaskFacts | None,
    client: Client,
    until: datetime,
    policy: BootPolicy,
    said: RulesInForce,
) -> BootDecision:
    if host is None:
        return _unknown(exam, client, until, policy, said)
    if host.state == "blocked":
        reason = f"{host.name} is blocked: an administrator has forbidden it to boot from this server."
        return BootDecision("refuse", reason, until)
    if host.state == "pending":
        reason = f"{host.name} waits for approval by an administrator, so it boots its own disk{said.how}."
        return BootDecision("local", reason, until)
    if task is not None:
        return _with_task(host, task, client, until)
    return _idle(host, exam, client, until, policy, said)


class RulesInForce:
    """The boot rules of one machine, and who says what: host over group over site over what we ship."""

    def __init__(self, host: HostFacts | None, policy: BootPolicy) -> None:
        self._levels = [("the site", policy.rules)]
        if host is not None:
            group = f"group {host.group}" if host.group else "its group"
            self._levels = [(f"host {host.name}", host.rules), (group, host.group_rules), *self._levels]
        self._rules = BootRules()
        for _who, rules in self._levels:
            self._rules = self._rules.over(rules)
        self._never = self._rules.menu == "never"  # somebody says so
        built_in = replace(_BUILT_IN, menu_seconds=policy.menu_seconds)
        self._rules = self._rules.over(built_in)

    @property
    def local_boot(self) -> str:
        return self._rules.local_boot

    @property
    def default(self) -> str:
        return self._rules.default

    @property
    def menu(self) -> bool:
        return self._rules.menu == "always" or (self._rules.default == "menu" and not self._never)

    @property
    def menu_seconds(self) -> int:
        return self._rules.menu_seconds or 0

    def origin(self, key: str) -> str:
        """`group B204 says default = windows`; "" when nobody says anything."""
        for who, rules in self._levels:
            value = getattr(rules, key)
            if value is not None and value != "":
                return f"{who} says {key} = {value}"
        return ""

    def told(self) -> list[tuple[str, str, str]]:
        """Every rule as (name, value, who says it)."""
        out = []
        for key in ("default", "local_boot", "menu", "menu_seconds"):
            who = next(
                (who for who, rules in self._levels if getattr(rules, key) not in (None, "")), "built in"
            )
            out.append((key, str(getattr(self._rules, key)), who))
        if self.menu and self._rules.menu != "always":  # nobody speaks of a menu: it is shown as the default
            out[2] = ("menu", "always", out[0][2])
        return out

    @property
    def how(self) -> str:
        """How the own disk is started, if anybody says it: the end of a sentence."""
        origin = self.origin("local_boot")
        return f" ({origin})" if origin else ""


def _unknown(
    exam: ExamFacts | None, client: Client, until: datetime, policy: BootPolicy, said: RulesInForce
) -> BootDecision:
    setting = f"boot.unknown_host = {policy.unknown_host}"
    if policy.unknown_host == "ignore":
        reason = f"Nobody has registered {client.mac}, and unknown machines are ignored ({setting})."
        return BootDecision("local", reason, until, silent=True)
    if exam is not None:
        reason = f"Nobody has registered {client.mac}, and no menu is shown during the exam {exam.name}."
        return BootDecision("local", reason, until)
    if policy.unknown_host == "quarantine":
        message = policy.quarantine_message or f"{client.mac} is not registered here."
        reason = f"Nobody has registered {client.mac}: it sees a message and boots its own disk ({setting})."
        return BootDecision("local", reason, until, message=message)
    if client.firmware not in _CAN_RUN_AGENT and client.firmware != "unknown":
        reason = (
            f"Nobody registered {client.mac}, and our boot environment does not run on {client.firmware}, "
            "so it boots its own disk."
        )
        return BootDecision("local", reason, until)
    if policy.unknown_host == "register":
        reason = f"Nobody has registered {client.mac}, so it registers itself ({setting})."
        return BootDecision("agent", reason, until, mode="register-quick")
    if client.choice is not None:
        reason = f"Nobody has registered {client.mac}, and at its menu somebody chose to ({client.choice})."
        return BootDecision("agent", reason, until, mode=client.choice)
    reason = f"Nobody has registered {client.mac}: a menu offers to register it or to boot its own disk."
    return BootDecision(
        "menu",
        reason,
        until,
        menu_seconds=said.menu_seconds,
        registers=True,
        entries=_offered(client, policy),
    )


def _idle(
    host: HostFacts,
    exam: ExamFacts | None,
    client: Client,
    until: datetime,
    policy: BootPolicy,
    said: RulesInForce,
) -> BootDecision:
    """An approved machine without a task: the exam's word, then the boot rules."""
    if exam is not None:
        why = f"The exam {exam.name} runs and no task waits for {host.name}"
        default = exam.default or said.default
        origin = f"the exam says default = {exam.default}" if exam.default else said.origin("default")
    else:
        why, default, origin = f"No task waits for {host.name}", said.default, said.origin("default")
    because = f", and {origin}" if origin and default != "local" else ""
    entries = _offered(client, policy)
    kind, _, name = default.partition(":")
    entry = next((each for each in entries if each.name == name), None) if kind == "entry" else None
    if default == "menu" and (exam is not None or not said.menu):
        why_not = "no menu is shown during an exam" if exam is not None else said.origin("menu")
        because = f", and {why_not}"
    if kind == "entry" and entry is None:
        because += f", but it has no such entry on {client.firmware}"
    elif entry is not None and entry.protected and (exam is not None or not said.menu):
        # Only a menu asks for it, and nobody may get round that by switching the machine on.
        because += ", but that needs a password that nobody is asked for without a menu"
        entry = None
    if exam is None and said.menu:
        origin = said.origin("menu") if said.origin("menu").endswith("always") else said.origin("default")
        return BootDecision(
            "menu",
            f"No task waits for {host.name}, and {origin or 'the site shows a menu'}.",
            until,
            menu_seconds=said.menu_seconds,
            entries=entries,
            default=entry.name if entry else default if default in _SYSTEMS else "local",
            systems=True,
        )
    if entry is not None:
        return BootDecision("entry", f"{why}{because}.", until, entry=entry, default=entry.name)
    if default in _SYSTEMS:
        reason = f"{why}{because}, so it boots {_SYSTEMS[default]} from its own disk."
        return BootDecision("local", reason, until, local=default)
    return BootDecision("local", f"{why}{because}, so it boots its own disk{said.how}.", until)


def _offered(client: Client, policy: BootPolicy) -> tuple[MenuEntry, ...]:
    """The entries that work on this machine. Unknown firmware (somebody asks why) hides none."""
    if client.firmware == "unknown":
        return policy.entries
    family = "bios" if client.firmware == "bios" else "uefi"
    return tuple(
        entry
        for entry in policy.entries
        if entry.kind in ENTRY_KINDS
        and entry.firmware in ("", family)
        and ENTRY_KINDS[entry.kind].firmware in ("", family)
        and (client.firmware in _CAN_RUN_AGENT or entry.kind in _ANYWHERE)
        and (entry.protected or not ENTRY_KINDS[entry.kind].protected_only)
    )


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
