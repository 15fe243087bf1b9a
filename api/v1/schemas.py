"""What the admin API takes; what it gives are the views of `pxeboot.services.views`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pxeboot.boot.rules import ENTRY_KINDS
from pxeboot.services.views import (
    EventView,
    GroupView,
    HostView,
    ImageView,
    OperationRequest,
    RuleView,
    VersionView,
)

Name = Field(min_length=1, max_length=80)


class Body(BaseModel):
    """A request body; unknown members are mistakes."""

    model_config = ConfigDict(extra="forbid")


class HostCreate(Body):
    """A host added by hand."""

    name: str = Name
    macs: list[str] = Field(min_length=1, max_length=16)
    group: str | None = None
    image: str | None = None
    state: Literal["pending", "approved", "blocked"] = "approved"
    uuid: str = Field("", max_length=36)
    serial: str = Field("", max_length=120)


class BootRulesChange(Body):
    """Boot rules of a host or group; only the members given are changed, null inherits."""

    default: str | None = Field(
        None,
        max_length=80,
        description="What an idle machine boots: local, windows, linux, menu or entry:NAME.",
    )
    local_boot: str | None = Field(
        None,
        max_length=80,
        description="How its own disk is started: auto, sanboot, search, firmware, windows, linux or "
        "partition:hd0,gpt3.",
    )
    menu: Literal["", "never", "always"] | None = Field(
        None, description="Whether an idle machine is shown the menu."
    )
    menu_seconds: int | None = Field(
        None, description="Seconds until the menu takes its default; 0 waits for ever."
    )


Options = dict[str, Any]
OPTIONS = Field(
    None,
    max_length=100,
    description="DHCP options by name or number; null removes one. Only those given are changed.",
)


class HostUpdate(Body):
    """Only the members given are changed; null clears group, image, reservation, boot rules and options.

    Boot rules, options and the reserved address need the role admin.
    """

    name: str | None = Field(None, min_length=1, max_length=80)
    group: str | None = None
    image: str | None = None
    state: Literal["pending", "approved", "blocked"] | None = None
    macs: list[str] | None = Field(None, min_length=1, max_length=16)
    serial: str | None = Field(None, max_length=120)
    boot: BootRulesChange | None = None
    reserved_address: str | None = Field(None, max_length=15, description="The IPv4 address DHCP gives it.")
    dhcp_options: Options | None = OPTIONS


class HostDetail(HostView):
    """A host with the boot rules that hold for it."""

    effective_boot: dict[str, RuleView]


class HostsNamed(Body):
    """Several hosts, by name, id or MAC."""

    hosts: list[str] = Field(min_length=1, max_length=5000)


class HostResult(BaseModel):
    """What became of one host of a request over many."""

    host: str
    ok: bool
    code: str = ""
    reason: str = ""


class HostResults(BaseModel):
    """One result per host: one bad name never fails the others."""

    results: list[HostResult]


class GroupCreate(Body):
    """A new group."""

    name: str = Name
    description: str = Field("", max_length=500)
    name_template: str = Field("", max_length=80, description="Names of its new hosts, e.g. B204-##.")
    image: str | None = None


class GroupUpdate(Body):
    """Only the members given are changed; null clears image, boot rules and options."""

    name: str | None = Field(None, min_length=1, max_length=80)
    description: str | None = Field(None, max_length=500)
    name_template: str | None = Field(None, max_length=80)
    image: str | None = None
    boot: BootRulesChange | None = None
    dhcp_options: Options | None = OPTIONS


class GroupDetail(GroupView):
    """A group with the boot rules that hold for its hosts unless they have their own."""

    effective_boot: dict[str, RuleView]


class BootEntryCreate(Body):
    """A new entry of the boot menus."""

    name: str = Field(min_length=1, max_length=31, description="A word, used in scripts and rules.")
    title: str = Field(min_length=1, max_length=60, description="What people read.")
    kind: str = Field(max_length=40, description=f"One of {', '.join(ENTRY_KINDS)}.")
    params: dict[str, str] = Field(default_factory=dict, max_length=20)
    group: str | None = Field(None, description="Whose machines see it; null: all machines.")
    firmware: Literal["", "bios", "uefi"] = ""
    position: int | None = Field(None, ge=0, le=100_000, description="Place in the menu; default: last.")
    enabled: bool = True
    hidden: bool = Field(False, description="Not listed: reached by its key alone.")
    key: str = Field("", max_length=1)
    password: str | None = Field(None, max_length=64, description="Never shown again.")


class BootEntryUpdate(Body):
    """Only the members given are changed; `params` as a whole; null clears group and password."""

    name: str | None = Field(None, min_length=1, max_length=31)
    title: str | None = Field(None, min_length=1, max_length=60)
    kind: str | None = Field(None, max_length=40)
    params: dict[str, str] | None = Field(None, max_length=20)
    group: str | None = None
    firmware: Literal["", "bios", "uefi"] | None = None
    position: int | None = Field(None, ge=0, le=100_000)
    enabled: bool | None = None
    hidden: bool | None = None
    key: str | None = Field(None, max_length=1)
    password: str | None = Field(None, max_length=64)


class GroupReset(Body):
    """What a reset may say; all of it may be left out."""

    image: str | None = Field(
        None, max_length=140, description="`debian`, `debian@3` or `debian@TAG`; default: the group's image."
    )
    transport: Literal["multicast", "peers", "http"] = "multicast"
    force_full: bool = False
    then: Literal["reboot", "poweroff"] | None = None
    deploy: dict[str, Any] | None = Field(
        None, max_length=20, description="Options over the image's defaults (docs/api.md)."
    )
    limit_mbit: float | None = Field(None, gt=0, le=1_000_000, description="Most it may send, in Mbit/s.")
    priority: Literal["low", "normal", "high"] = "normal"


class ImageCreate(Body):
    """A new line of versions."""

    name: str = Name
    description: str = Field("", max_length=500)


class ImageUpdate(Body):
    """Only the members given are changed, also those of `params`; null takes one of these away."""

    name: str | None = Field(None, min_length=1, max_length=80)
    description: str | None = Field(None, max_length=500)
    params: dict[str, Any] | None = Field(
        None,
        max_length=10,
        description="`capture`, `deploy`: default options; `keep`: newest versions that a prune keeps.",
    )


class ImageDetail(ImageView):
    """An image with its versions, newest first."""

    history: list[VersionView]


class Rollback(Body):
    """Which version becomes the current one."""

    version: str | None = Field(
        None,
        max_length=70,
        description="Number or tag; `latest`: follow the newest again; null: the one before the current one.",
    )


class TagSet(Body):
    """Which version gets the tag."""

    version: str = Field(min_length=1, max_length=70, description="Number or tag, as text.")


class VerifyOrder(Body):
    """What is read again."""

    image: str | None = Field(None, max_length=140, description="`debian@3`; null: the whole store.")


class PruneOrder(Body):
    """Whose versions are looked at."""

    image: str | None = Field(None, max_length=80, description="One image; null: all.")


class ScrubOrder(Body):
    """How a scrub begins."""

    restart: bool = Field(False, description="Begin anew, even if the last one was stopped half-way.")


class ScheduleCreate(Body):
    """When an operation starts: exactly one of `at` and `cron`."""

    name: str = Field("", max_length=120)
    operation: OperationRequest
    at: datetime | None = Field(None, description="RFC 3339; without an offset it is a time in `zone`.")
    cron: str | None = Field(None, max_length=120, description='Five fields, e.g. "30 6 * * 1-5".')
    zone: str = Field("UTC", max_length=64, description="IANA time zone, e.g. Europe/Paris.")


class ScheduleUpdate(Body):
    """Only the members given are changed."""

    name: str | None = Field(None, max_length=120)
    enabled: bool | None = None


class TokenCreate(Body):
    """A new API token."""

    name: str = Name
    role: Literal["viewer", "teacher", "technician", "admin"] = "admin"
    days: int | None = Field(None, ge=1, le=3650, description="Expires after so many days; default: never.")


class TokenMade(BaseModel):
    """The only answer that holds the secret."""

    token: str
    prefix: str
    name: str
    role: str
    expires_at: datetime | None = None


class ExplainAnswer(BaseModel):
    """What a host would boot now and why, and what it did last."""

    host: str
    action: str
    reason: str
    sentences: list[str]
    events: list[EventView]
