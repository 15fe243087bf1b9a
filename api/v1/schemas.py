"""What the admin API takes; what it gives are the views of `pxeboot.services.views`."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pxeboot.services.views import EventView, ImageView, OperationRequest, VersionView

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


class HostUpdate(Body):
    """Only the members given are changed; null clears group and image."""

    name: str | None = Field(None, min_length=1, max_length=80)
    group: str | None = None
    image: str | None = None
    state: Literal["pending", "approved", "blocked"] | None = None
    macs: list[str] | None = Field(None, min_length=1, max_length=16)
    serial: str | None = Field(None, max_length=120)


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
    """Only the members given are changed."""

    name: str | None = Field(None, min_length=1, max_length=80)
    description: str | None = Field(None, max_length=500)
    name_template: str | None = Field(None, max_length=80)
    image: str | None = None


class GroupReset(Body):
    """What a reset may say; all of it may be left out."""

    image: str | None = Field(
        None, max_length=80, description="`debian` or `debian@3`; default: the group's image."
    )
    transport: Literal["multicast", "http"] = "multicast"
    force_full: bool = False
    then: Literal["reboot", "poweroff"] | None = None


class ImageCreate(Body):
    """A new line of versions."""

    name: str = Name
    description: str = Field("", max_length=500)


class ImageUpdate(Body):
    """Only the members given are changed."""

    name: str | None = Field(None, min_length=1, max_length=80)
    description: str | None = Field(None, max_length=500)


class ImageDetail(ImageView):
    """An image with its versions, newest first."""

    history: list[VersionView]


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
