"""What services hand out: plain frozen values, detached from any session.

Every name in a view is what people and scripts use (host and group names, `image@number`); row ids are
there for links only.
Times are aware UTC datetimes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, computed_field

T = TypeVar("T")


class View(BaseModel):
    """A detached value."""

    model_config = ConfigDict(frozen=True)


class Page(View, Generic[T]):
    """One page of a list; `next_cursor` is opaque, None on the last page."""

    items: list[T]
    next_cursor: str | None = None


class TaskView(View):
    """One thing one host must do, and how far it is."""

    id: str
    operation_id: str
    host_id: int
    host: str
    kind: str  # capture | deploy | inventory
    version: str | None = None  # image@number, of a deploy
    state: str  # pxeboot.db.models.TaskState
    reason: str = ""  # of failed and cancelled: one sentence
    code: str = ""  # stable, of failed
    attempt: int = 0
    max_attempts: int = 3
    stage: str = ""  # inventory scan receive write verify customise upload
    done: int = 0
    total: int = 0
    percent: int | None = None  # of the stage; None when its size is unknown
    message: str = ""
    bytes_multicast: int = 0
    bytes_peers: int = 0
    bytes_http: int = 0
    way: str = ""  # multicast | peers | http: by which chunks come, or came last
    way_reason: str = ""  # why not by a better one
    verified: bool = False
    seconds: dict[str, Any] = Field(default_factory=dict)  # per stage
    result: dict[str, Any] = Field(
        default_factory=dict
    )  # {"chunks": {"total", "kept", "written"}, "manifest", …}
    created_at: datetime
    started_at: datetime | None = None
    heard_at: datetime | None = None
    finished_at: datetime | None = None


class OperationView(View):
    """One request over many hosts; `tasks` is empty in lists, `counts` never is."""

    id: str
    kind: str  # of pxeboot.services.task_kinds.REQUESTS
    title: str
    group: str | None = None
    image: str | None = None  # name; of a capture also before the image exists
    version: str | None = None  # image@number
    transport: str = "multicast"
    params: dict[str, Any] = Field(default_factory=dict)
    state: str  # running | done | partly | failed | cancelled
    created_by: str = ""
    created_at: datetime
    finished_at: datetime | None = None
    schedule_id: int | None = None
    counts: dict[str, int] = Field(default_factory=dict)  # tasks per state
    percent: int = 0  # of all tasks, roughly: finished ones count 100
    tasks: list[TaskView] = Field(default_factory=list)


class HostView(View):
    """A machine."""

    id: int
    name: str
    state: str  # pending | approved | blocked
    group: str | None = None
    image: str | None = None  # its own default image; else its group's
    macs: list[str] = Field(default_factory=list)
    uuid: str = ""
    serial: str = ""
    manufacturer: str = ""
    product: str = ""
    firmware: str = ""  # bios | uefi
    secure_boot: bool | None = None
    address: str = ""  # last seen
    reserved_address: str = ""  # what DHCP gives it; empty: any
    boot: dict[str, Any] = Field(default_factory=dict)  # its own boot rules; pxeboot.boot.rules.BootRules
    dhcp_options: dict[str, Any] = Field(default_factory=dict)  # its own, by name
    inventory: dict[str, Any] = Field(default_factory=dict)
    held_manifest: str = ""
    held_version: str | None = None  # image@number of what its disk was last proved to hold
    held_since: datetime | None = None
    task: TaskView | None = None  # the one it is busy with
    created_at: datetime
    seen_at: datetime | None = None


class GroupView(View):
    """A set of hosts."""

    id: int
    name: str
    description: str = ""
    name_template: str = ""
    image: str | None = None  # what a reset deploys when no image is named
    boot: dict[str, Any] = Field(default_factory=dict)  # its boot rules; pxeboot.boot.rules.BootRules
    dhcp_options: dict[str, Any] = Field(default_factory=dict)  # by name
    hosts: int = 0
    created_at: datetime


class RuleView(View):
    """A boot rule that holds, and who said so."""

    value: str | int
    origin: Literal["host", "group", "site"]


class BootEntryView(View):
    """An entry an administrator added to the boot menus; its password is never shown."""

    id: int
    name: str
    title: str
    kind: str  # one of pxeboot.boot.rules.ENTRY_KINDS
    params: dict[str, str] = Field(default_factory=dict)
    group: str | None = None  # None: every machine's menu
    firmware: str = ""  # bios | uefi; empty: both
    position: int = 100
    enabled: bool = True
    hidden: bool = False  # not listed: reached by its key
    key: str = ""
    protected: bool = False  # asks for a password
    created_at: datetime


class VersionView(View):
    """One immutable version of an image."""

    id: int
    name: str  # image@number
    image: str
    number: int
    manifest: str
    disk_bytes: int = 0
    used_bytes: int = 0
    stored_bytes: int = 0
    chunks: int = 0
    source_host: str = ""
    note: str = ""
    pinned: bool = False
    tags: dict[str, Any] = Field(default_factory=dict)  # name -> {"by", "at"}
    current: bool = False  # what a deploy takes when no version is named
    by: str = ""  # who asked for it
    hosts: int = 0  # how many hosts were last proved to hold it
    summary: dict[str, Any] = Field(default_factory=dict)  # {"disks": [{"size", "partitions": […]}], …}
    created_at: datetime


class KeptVersion(View):
    """A version that a prune keeps, and why."""

    version: str
    reason: str


class RetentionPlan(View):
    """What a prune would do with versions: `image@number` each."""

    delete: list[str]
    keep: list[KeptVersion]
    numbers: dict[int, list[int]] = Field(default_factory=dict, exclude=True)  # image id -> to be deleted


class ImageView(View):
    """A named line of versions."""

    id: int
    name: str
    description: str = ""
    versions: int = 0
    latest: VersionView | None = None  # the newest
    current: VersionView | None = None  # what a deploy takes when no version is named
    held: bool = False  # rolled back: a new version does not become the current one
    params: dict[str, Any] = Field(default_factory=dict)  # capture, deploy: default options; keep
    created_at: datetime


class ScheduleView(View):
    """When an operation starts."""

    id: int
    name: str
    kind: str
    request: dict[str, Any]  # an OperationRequest
    at: datetime | None = None
    cron: str = ""
    zone: str = "UTC"
    next_run_at: datetime | None = None
    last_run_at: datetime | None = None
    last_operation_id: str | None = None
    last_error: str = ""
    enabled: bool = True
    created_by: str = ""
    created_at: datetime


class JobView(View):
    """Long work of the server itself."""

    id: str
    kind: str  # verify | prune | scrub | recompress | import | export
    title: str
    state: str = "waiting"  # waiting (for the job before it) | running | done | failed | cancelled
    done: int = 0
    total: int = 0  # 0: unknown
    message: str = ""
    result: dict[str, Any] = Field(default_factory=dict)
    error: str = ""  # of failed and cancelled: one sentence
    code: str = ""  # stable, of failed
    created_by: str = ""
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def percent(self) -> int | None:
        """None while its size is unknown."""
        return min(100, self.done * 100 // self.total) if self.total > 0 else None


class EventView(View):
    """One line of the journal."""

    id: int
    at: datetime
    plane: str
    kind: str
    sentence: str
    host: str | None = None
    host_id: int | None = None
    mac: str = ""
    operation_id: str | None = None
    task_id: str | None = None
    data: dict[str, Any] = Field(default_factory=dict)


class UserView(View):
    """A person."""

    id: int
    name: str
    role: str
    language: str = ""
    created_at: datetime


class ApiTokenView(View):
    """An API token, without its secret."""

    prefix: str
    name: str
    role: str
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


class ScriptView(View):
    """A shell script that agents run before or after an image is written."""

    name: str
    description: str = ""
    phase: str = "post"  # pre | post
    system: str = ""  # linux | windows | partition:N; empty: nothing is mounted for it
    seconds: int = 300
    on_error: str = "fail"  # fail | continue
    text: str = ""
    changed_at: datetime


class FileDropView(View):
    """A file that deployed systems get."""

    name: str
    description: str = ""
    path: str
    system: str = "linux"
    mode: str = ""
    owner: str = ""
    template: bool = False
    hash: str = ""  # BLAKE3; empty: nothing was uploaded yet
    size: int = 0
    changed_at: datetime


class SecretView(View):
    """That there is a secret; never what it is."""

    name: str
    changed_at: datetime
    changed_by: str = ""


class CustomiseView(View):
    """What an image, group or host itself says about the time after the image."""

    kind: str  # image | group | host
    name: str
    customise: dict[str, Any]  # pxeboot.services.customise_rules.CustomiseRules


class CustomiseResult(View):
    """What a host would get with its next deploy; secrets are named, never shown."""

    host: str
    image: str | None = None  # name, or image@number
    own: dict[str, Any]
    merged: dict[str, Any]
    origins: dict[str, str]  # by key like `windows.join.domain`, `scripts.printers`: shipped image group host
    order: dict[str, Any]  # TASK's `customise`, secrets masked
    secrets: dict[str, bool]  # by name: is it there?
    driver_folders: list[str]
    problems: list[str]  # why the task would fail


class DiskRule(BaseModel):
    """Which disk of the machine: the only internal one, the smallest or largest, or by what it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    rule: Literal["only", "smallest", "largest", "serial", "wwn", "path", "size", "model"] = "only"
    value: str = Field(default="", max_length=256)


class OperationRequest(BaseModel):
    """What to do with which hosts.

    `hosts` are names (or ids, or MACs); with `group` it is every host of that group. A capture names
    exactly one host and the image it adds a version to (made if new). A deploy names `debian` (its current
    version), `debian@3`, or `debian@golden` by tag. A reset may leave `image` out: each host's own default
    image, else its group's. `capture` and `deploy` are options over the image's defaults (docs/api.md).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["capture", "deploy", "reset", "inventory", "wipe", "test", "shell", "rescue"]
    group: str | None = None
    hosts: list[str] = Field(default_factory=list, max_length=5000)
    image: str | None = Field(default=None, max_length=140)
    transport: Literal["multicast", "peers", "http"] = "multicast"
    disk: DiskRule = DiskRule()
    capture: dict[str, Any] | None = Field(
        default=None,
        max_length=20,
        description="Options of a capture: partitions, whole, exclude_windows_files, disks.",
    )
    deploy: dict[str, Any] | None = Field(
        default=None,
        max_length=20,
        description="Options of a deploy: partitions, grow, shrink, identities, discard, disks, verify.",
    )
    wipe: dict[str, Any] | None = Field(
        default=None,
        max_length=20,
        description="Options of a wipe: disks, method, passes, fallback, verify, countdown.",
    )
    test: dict[str, Any] | None = Field(
        default=None,
        max_length=20,
        description="Options of a test: disks, memory, memory_mb, smart, surface.",
    )
    shell: dict[str, Any] | None = Field(
        default=None, max_length=20, description="Options of a debug shell: keys, minutes."
    )
    rescue: dict[str, Any] | None = Field(
        default=None,
        max_length=20,
        description="Options of a rescue: paths, exclude, disks, limit_mb.",
    )
    confirm: str | None = Field(
        default=None,
        max_length=80,
        description="Of a wipe: the host's name; for several hosts, how many they are.",
    )
    force_full: bool = False  # deploy, reset: write every chunk even if the disk already holds it
    set_hostname: bool = True  # deploy, reset: give the installed system the host's name
    then: Literal["reboot", "poweroff"] | None = None  # None: the setting tasks.then
    note: str = Field(default="", max_length=500)  # capture: kept with the version
    max_attempts: int | None = Field(default=None, ge=1, le=20)  # None: the setting tasks.max_attempts
    limit_mbit: float | None = Field(
        default=None,
        gt=0,
        le=1_000_000,
        description="Most it may send, in Mbit/s on the wire; null: no limit.",
    )
    priority: Literal["low", "normal", "high"] = Field(
        default="normal", description="Its part beside others: 1, 4 or 16 shares of what they compete for."
    )
