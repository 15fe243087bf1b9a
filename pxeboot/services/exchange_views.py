"""What is asked of and said about the exchange folder: files that come from, and go to, other programs."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pxeboot.services.views import View


class ExchangeFile(View):
    """A file or folder that could be imported; `format` as an import with `auto` would take it."""

    name: str
    format: str  # "" = its name does not say
    bytes: int  # of a folder: of the files in it
    modified: datetime


class ExchangeView(View):
    """The exchange folder, and the key that others see on bundles of ours."""

    folder: str
    key: str  # Ed25519, hexadecimal
    files: list[ExchangeFile]
    trouble: str = ""  # why the folder cannot be read


class ImportOrder(BaseModel):
    """What is imported, and as what."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(
        min_length=1, max_length=1000, description="A file or folder inside the exchange folder."
    )
    image: str = Field(min_length=1, max_length=80, description="Image that gets a new version.")
    format: Literal["auto", "raw", "qcow2", "vmdk", "vdi", "vhd", "vhdx", "fog", "clonezilla", "bundle"] = (
        "auto"
    )
    note: str = Field("", max_length=1000)
    whole: list[str] = Field(
        default_factory=list,
        max_length=16,
        description="Kinds of content without a map of used blocks that are taken whole (disk files).",
    )
    places: Literal["minimum", "original"] = Field(
        "minimum", description="FOG's resizable images: partitions as FOG shrank them, or as on the source."
    )
    trust: str = Field(
        "", max_length=64, description="Key of the server that signed a bundle, when it is not ours."
    )


class ExportOrder(BaseModel):
    """What is exported, where to, and how."""

    model_config = ConfigDict(extra="forbid")

    image: str = Field(min_length=1, max_length=140, description="`debian@3`, `debian@TAG` or `debian`.")
    to: str = Field(
        min_length=1, max_length=1000, description="A name inside the exchange folder; a folder ends in /."
    )
    format: Literal["raw", "qcow2", "vmdk", "vmdk-sparse", "vhdx", "bundle"] = "qcow2"
