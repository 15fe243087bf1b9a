"""What the calls about the time after the image take."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from api.v1.schemas import Body


class ScriptCreate(Body):
    """A new script."""

    name: str = Field(max_length=63)
    description: str = Field("", max_length=500)
    phase: Literal["pre", "post"] = "post"
    system: str = Field(
        "", max_length=20, description="linux, windows or partition:N; empty: none is mounted"
    )
    seconds: int = Field(300, ge=1, le=7200)
    on_error: Literal["fail", "continue"] = "fail"
    text: str = Field(max_length=300_000)


class ScriptUpdate(Body):
    """What changes of a script."""

    description: str | None = Field(None, max_length=500)
    phase: Literal["pre", "post"] | None = None
    system: str | None = Field(None, max_length=20)
    seconds: int | None = Field(None, ge=1, le=7200)
    on_error: Literal["fail", "continue"] | None = None
    text: str | None = Field(None, max_length=300_000)


class FileCreate(Body):
    """A new file drop; its bytes follow by PUT."""

    name: str = Field(max_length=63)
    description: str = Field("", max_length=500)
    path: str = Field(max_length=500, description="in the system, like /etc/motd or C:\\School\\readme.txt")
    system: str = Field("linux", max_length=20, description="linux, windows or partition:N")
    mode: str = Field("", max_length=5, description="octal, like 0644")
    owner: str = Field("", max_length=20, description="numbers, like 0:0")
    template: bool = Field(False, description="fill it in with the host's variables")


class FileUpdate(Body):
    """What changes of a file drop."""

    description: str | None = Field(None, max_length=500)
    path: str | None = Field(None, max_length=500)
    system: str | None = Field(None, max_length=20)
    mode: str | None = Field(None, max_length=5)
    owner: str | None = Field(None, max_length=20)
    template: bool | None = None


class SecretValue(Body):
    """A secret; it is never given back."""

    value: str = Field(min_length=1, max_length=65536, repr=False)


class DriverFolders(BaseModel):
    """The folders of drivers, and where they lie on the server."""

    place: str
    folders: list[str]
