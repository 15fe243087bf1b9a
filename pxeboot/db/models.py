"""The tables. Times are UTC; identifiers people see are names, those in URLs of long things are UUIDs.

`from __future__ import annotations` must stay out of this file: SQLModel's relationships break with it.
Table models do not validate: check at the edge (api schemas), not here.
"""

import uuid as uuidlib
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Column, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

NAMING = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
SQLModel.metadata.naming_convention = NAMING


def utcnow() -> datetime:
    """Now, aware, in UTC."""
    return datetime.now(UTC)


def new_id() -> str:
    """A random identifier for things with URLs of their own (operations, tasks)."""
    return uuidlib.uuid4().hex


def json_column() -> Any:
    """A JSON object that rows of an earlier release have empty."""
    return Column(JSON, nullable=False, server_default=text("'{}'"))


class HostState(StrEnum):
    """pending: registered, waits for approval; approved: may be given tasks; blocked: refused."""

    PENDING = "pending"
    APPROVED = "approved"
    BLOCKED = "blocked"


class TaskKind(StrEnum):
    """What one host can be asked to do."""

    CAPTURE = "capture"
    DEPLOY = "deploy"
    INVENTORY = "inventory"
    WIPE = "wipe"
    TEST = "test"
    SHELL = "shell"
    RESCUE = "rescue"


class TaskState(StrEnum):
    """The life of a task; the table of moves is `pxeboot.services.task_states`."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    BOOTING = "booting"
    RUNNING = "running"
    VERIFYING = "verifying"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class OperationState(StrEnum):
    """Derived from its tasks: partly = some failed."""

    RUNNING = "running"
    DONE = "done"
    PARTLY = "partly"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Group(SQLModel, table=True):
    """A set of hosts; a room is a group with seats."""

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True, index=True)
    description: str = ""
    name_template: str = ""  # e.g. "B204-##"; empty: the setting registration.name_template
    image_id: int | None = Field(default=None, foreign_key="image.id")  # what a reset deploys by default
    boot: dict[str, Any] = Field(
        default_factory=dict, sa_column=json_column()
    )  # services.boot_rules.BootRules
    dhcp_options: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())  # name -> value
    customise: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())  # after the image
    created_at: datetime = Field(default_factory=utcnow)


class Host(SQLModel, table=True):
    """A machine: SMBIOS UUID, serial and a set of MACs."""

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True, index=True)
    state: HostState = Field(default=HostState.PENDING, index=True)
    group_id: int | None = Field(default=None, foreign_key="group.id", index=True)
    image_id: int | None = Field(default=None, foreign_key="image.id")
    uuid: str = Field(default="", index=True)  # lower-case, hyphens
    serial: str = ""
    manufacturer: str = ""
    product: str = ""
    firmware: str = ""  # bios | uefi
    secure_boot: bool | None = None
    address: str = ""  # last seen IPv4
    reserved_address: str = Field(default="", sa_column_kwargs={"server_default": ""})  # by DHCP; empty: none
    boot: dict[str, Any] = Field(
        default_factory=dict, sa_column=json_column()
    )  # services.boot_rules.BootRules
    dhcp_options: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())  # name -> value
    customise: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())  # after the image
    inventory: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    held_manifest: str = ""  # what its disk was last proved to hold
    held_since: datetime | None = None
    created_at: datetime = Field(default_factory=utcnow)
    seen_at: datetime | None = None


class HostMac(SQLModel, table=True):
    """One MAC address of a host, lower-case with colons; a MAC belongs to one host."""

    __tablename__ = "host_mac"
    mac: str = Field(primary_key=True)
    host_id: int = Field(foreign_key="host.id", index=True, ondelete="CASCADE")


class BootEntry(SQLModel, table=True):
    """An entry an administrator added to the boot menus: of every machine, or of one group's.

    `kind` says what `params` mean; `pxeboot.services.boot_entries` has the list and checks them.
    """

    __tablename__ = "boot_entry"
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True, index=True)  # a word, used in scripts and by the API
    title: str  # what people read
    kind: str  # linux | iso | efi | memtest | firmware-setup | ...
    params: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())
    group_id: int | None = Field(default=None, foreign_key="group.id", index=True, ondelete="CASCADE")
    firmware: str = ""  # bios | uefi; empty: both
    position: int = 100
    enabled: bool = True
    hidden: bool = False  # not listed: reached by its key
    key: str = ""  # one letter
    password_hash: str = ""  # empty: no password
    created_at: datetime = Field(default_factory=utcnow)


class Image(SQLModel, table=True):
    """A named line of versions."""

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True, index=True)
    description: str = ""
    # The version a deploy takes when none is named; None: the newest. (A foreign key would be a circle.)
    current_number: int | None = None
    # How it is captured and deployed where a task does not say, and what is done to a disk after the image.
    params: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())
    customise: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())
    created_at: datetime = Field(default_factory=utcnow)


class ImageVersion(SQLModel, table=True):
    """One immutable version: exists only when its manifest and all chunks are in the store."""

    __tablename__ = "image_version"
    __table_args__ = (UniqueConstraint("image_id", "number", name="uq_image_version_number"),)
    id: int | None = Field(default=None, primary_key=True)
    image_id: int = Field(foreign_key="image.id", index=True)
    number: int
    manifest: str = Field(index=True)  # hex BLAKE3
    disk_bytes: int = 0
    used_bytes: int = 0
    stored_bytes: int = 0  # what this capture added to the store
    chunks: int = 0
    source_host: str = ""
    note: str = ""
    pinned: bool = False
    tags: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())  # tag -> who set it, and when
    summary: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())  # disks and systems
    created_at: datetime = Field(default_factory=utcnow)


class Script(SQLModel, table=True):
    """A shell script of an administrator's, run by agents before or after an image is written."""

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True, index=True)
    description: str = ""
    phase: str = "post"  # pre | post
    system: str = ""  # linux | windows | partition:N: mounted for it; empty: none
    seconds: int = 300  # its time limit
    on_error: str = "fail"  # fail | continue
    text: str = ""
    changed_at: datetime = Field(default_factory=utcnow)


class FileDrop(SQLModel, table=True):
    """A file put into deployed systems; its bytes lie in data_dir/files under their BLAKE3 hash."""

    __tablename__ = "file_drop"
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True, index=True)
    description: str = ""
    path: str  # in the system
    system: str = "linux"  # linux | windows | partition:N
    mode: str = ""  # octal; empty: 0644, or as the file before
    owner: str = ""  # user:group as numbers; empty: root, or as the file before
    template: bool = False  # rendered with the host's variables
    hash: str = Field(default="", index=True)
    size: int = 0
    changed_at: datetime = Field(default_factory=utcnow)


class Secret(SQLModel, table=True):
    """A password or key that tasks need, sealed; its value is given to agents alone."""

    name: str = Field(primary_key=True)
    sealed: str
    changed_at: datetime = Field(default_factory=utcnow)
    changed_by: str = ""


class Rescue(SQLModel, table=True):
    """Files that were copied out of a machine; the archive lies in data_dir/rescue."""

    id: str = Field(primary_key=True)  # of the task that made it
    host: str = Field(index=True)  # its name then
    operation_id: str = ""
    size: int = 0  # of the archive
    blake3: str = ""
    facts: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())  # what the agent told of it
    created_by: str = ""
    created_at: datetime = Field(default_factory=utcnow, index=True)
    expires_at: datetime | None = Field(default=None, index=True)  # None: kept until somebody deletes it


class Operation(SQLModel, table=True):
    """One request over one or many hosts: its tasks are its outcome."""

    id: str = Field(default_factory=new_id, primary_key=True)
    kind: str = Field(index=True)  # capture | deploy | reset | inventory | wipe …
    title: str = ""
    group_id: int | None = Field(default=None, foreign_key="group.id")
    image_id: int | None = Field(default=None, foreign_key="image.id")
    version_id: int | None = Field(default=None, foreign_key="image_version.id")
    transport: str = "multicast"  # multicast | peers | http
    params: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    state: OperationState = Field(default=OperationState.RUNNING, index=True)
    created_by: str = ""
    created_at: datetime = Field(default_factory=utcnow, index=True)
    finished_at: datetime | None = None
    schedule_id: int | None = Field(default=None, foreign_key="schedule.id")


class Task(SQLModel, table=True):
    """One thing one host must do."""

    __table_args__ = (
        Index("ix_task_host_state", "host_id", "state"),
        # A host does one thing at a time: the database itself refuses a second unfinished task.
        Index(
            "uq_task_active_host",
            "host_id",
            unique=True,
            sqlite_where=text("state NOT IN ('DONE', 'FAILED', 'CANCELLED')"),
        ),
    )
    id: str = Field(default_factory=new_id, primary_key=True)
    operation_id: str = Field(foreign_key="operation.id", index=True)
    host_id: int = Field(foreign_key="host.id", ondelete="CASCADE")
    version_id: int | None = Field(default=None, foreign_key="image_version.id")  # of a deploy
    kind: TaskKind
    state: TaskState = Field(default=TaskState.QUEUED, index=True)
    reason: str = ""  # of failed or cancelled: one sentence
    code: str = ""  # stable, of failed
    attempt: int = 0
    max_attempts: int = 3
    stage: str = ""
    message: str = ""  # what the agent last said
    done: int = 0  # of the stage, in `total`'s unit
    total: int = 0
    bytes_multicast: int = 0
    bytes_peers: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    bytes_http: int = 0
    # By which chunks come, or came last: multicast, peers, http; and why not by a better one.
    way: str = Field(default="", sa_column_kwargs={"server_default": ""})
    way_reason: str = Field(default="", sa_column_kwargs={"server_default": ""})
    verified: bool = False
    seconds: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    result: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    created_at: datetime = Field(default_factory=utcnow)
    started_at: datetime | None = None
    heard_at: datetime | None = None  # when its boot script was fetched, then the last word of its agent
    finished_at: datetime | None = None


class BootToken(SQLModel, table=True):
    """The one-time token a boot script carries; only its SHA-256 is kept."""

    __tablename__ = "boot_token"
    hash: str = Field(primary_key=True)
    mac: str = Field(index=True)
    address: str = ""
    mode: str = "task"  # task | register-quick | register-full
    host_id: int | None = Field(default=None, foreign_key="host.id", ondelete="CASCADE")
    task_id: str | None = Field(default=None, foreign_key="task.id", ondelete="CASCADE")
    created_at: datetime = Field(default_factory=utcnow)
    expires_at: datetime
    used_at: datetime | None = None


class AgentCredential(SQLModel, table=True):
    """What a token was exchanged for; good for one boot of one machine. SHA-256 kept."""

    __tablename__ = "agent_credential"
    hash: str = Field(primary_key=True)
    mac: str = ""
    address: str = ""
    mode: str = "task"
    host_id: int | None = Field(default=None, foreign_key="host.id", ondelete="CASCADE")
    task_id: str | None = Field(default=None, foreign_key="task.id", ondelete="CASCADE")
    attempt: int = 0  # of the task, when it checked in
    inventory: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    created_at: datetime = Field(default_factory=utcnow)
    expires_at: datetime


class MulticastSession(SQLModel, table=True):
    """One stream of one version; survives a restart of the daemon so that receivers find it again."""

    __tablename__ = "multicast_session"
    id: int = Field(primary_key=True)  # random 32 bit
    operation_id: str = Field(foreign_key="operation.id", index=True)
    manifest: str
    group_address: str
    port: int
    report_port: int
    address: str = Field(default="", sa_column_kwargs={"server_default": ""})  # ours that sends; "": usual
    # 32 bytes in hexadecimal while it is active; "" = without. For its agents and its sender alone.
    key: str = Field(default="", repr=False, sa_column_kwargs={"server_default": ""})
    encrypt: bool = Field(default=False, sa_column_kwargs={"server_default": text("0")})
    active: bool = True
    created_at: datetime = Field(default_factory=utcnow)


class TransferLog(SQLModel, table=True):
    """The record of a stream, `pxeboot.transfer.log.StreamLog`: of a session, or of an operation's
    downloads (0) or uploads (-1)."""

    __tablename__ = "transfer_log"
    operation_id: str = Field(primary_key=True, foreign_key="operation.id", ondelete="CASCADE")
    session_id: int = Field(primary_key=True)
    data: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())
    changed_at: datetime = Field(default_factory=utcnow)


class Schedule(SQLModel, table=True):
    """When an operation starts: once (`at`) or by cron expression in an IANA zone."""

    id: int | None = Field(default=None, primary_key=True)
    name: str = ""
    kind: str = "deploy"
    request: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    at: datetime | None = None
    cron: str = ""
    zone: str = "UTC"
    next_run_at: datetime | None = Field(default=None, index=True)
    last_run_at: datetime | None = None
    last_operation_id: str | None = None
    last_error: str = ""
    enabled: bool = True
    created_by: str = ""
    created_at: datetime = Field(default_factory=utcnow)


class User(SQLModel, table=True):
    """A person. Argon2id hash."""

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True, index=True)
    password_hash: str
    role: str = "admin"  # admin | technician | teacher | viewer
    language: str = ""
    created_at: datetime = Field(default_factory=utcnow)


class WebSession(SQLModel, table=True):
    """A signed-in browser; SHA-256 of the cookie."""

    __tablename__ = "web_session"
    hash: str = Field(primary_key=True)
    user_id: int = Field(foreign_key="user.id", ondelete="CASCADE")
    csrf: str
    created_at: datetime = Field(default_factory=utcnow)
    expires_at: datetime


class ApiToken(SQLModel, table=True):
    """`pxb_<prefix>_<secret>`: found by prefix, compared once by SHA-256 of the secret."""

    __tablename__ = "api_token"
    prefix: str = Field(primary_key=True)
    hash: str
    name: str
    role: str = "admin"
    created_at: datetime = Field(default_factory=utcnow)
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


class Event(SQLModel, table=True):
    """The journal: what each plane did, per host; bounded by the settings of section `journal`."""

    id: int | None = Field(default=None, primary_key=True)
    at: datetime = Field(default_factory=utcnow, index=True)
    plane: str
    kind: str = Field(index=True)
    host_id: int | None = Field(default=None, index=True)
    mac: str = Field(default="", index=True)
    operation_id: str | None = Field(default=None, index=True)
    task_id: str | None = None
    sentence: str = ""
    data: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))


class IdempotencyKey(SQLModel, table=True):
    """The answer to a request that may be sent twice (draft-ietf-httpapi-idempotency-key-header)."""

    __tablename__ = "idempotency_key"
    key: str = Field(primary_key=True)  # principal + ":" + header
    fingerprint: str
    status: int = 0  # 0: in flight
    body: str = ""
    location: str = ""
    created_at: datetime = Field(default_factory=utcnow)
