"""`/api/v1/server`: what the boot services of this server count, for whoever looks after it."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.v1.deps import ServicesDep, Viewer
from pxeboot import __version__

router = APIRouter(tags=["server"])


class ListenerView(BaseModel):
    """One port of one interface."""

    interface: str
    port: int
    open: bool = Field(description="False: another program has the port, and we do without.")
    counters: dict[str, int]


class ChosenView(BaseModel):
    """Another DHCP server that a machine took an address from."""

    subnet: str
    server: str
    at: datetime


class DhcpView(BaseModel):
    """DHCP since the daemon started (or its listeners last changed)."""

    listeners: list[ListenerView] = []
    counters: dict[str, int] = Field(default={}, description="docs/booting.md says what each means.")
    chosen_elsewhere: list[ChosenView] = []


class TftpView(BaseModel):
    """TFTP since the daemon started."""

    running: int = Field(default=0, description="Transfers under way.")
    counters: dict[str, int] = {}


class ServerView(BaseModel):
    """The boot services; empty where the daemon has no interface that faces machines."""

    version: str
    dhcp: DhcpView
    tftp: TftpView


@router.get("/server", operation_id="getServer")
async def get_server(these: ServicesDep, who: Viewer) -> ServerView:
    """Counters and listeners of DHCP and TFTP."""
    found = these.status() if these.status is not None else {"dhcp": {}, "tftp": {}}
    return ServerView.model_validate({"version": __version__, **found})
