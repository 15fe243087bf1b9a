"""Every setting, described in one place: TOML file, then environment `PXEBOOT_SECTION__KEY`.

The file is `/etc/pxeboot/pxeboot.toml` unless `--config` or `PXEBOOT_CONFIG` names another.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from pxeboot.errors import ConfigError

DEFAULT_FILE = Path("/etc/pxeboot/pxeboot.toml")


class Section(BaseModel):
    """A table of the settings file; unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSettings(Section):
    """Who and where we are."""

    data_dir: Path = Field(Path("/var/lib/pxeboot"), description="Where database, images and boot files live.")
    language: Literal["en", "fr"] = Field("en", description="Language of consoles and menus; a browser chooses its own.")
    log_format: Literal["text", "json"] = Field("text", description="How log lines are written to standard error.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")


class NetworkSettings(Section):
    """The one interface on which machines boot."""

    interface: str = Field("", description="Interface that faces the machines; empty: boot services stay off.")
    address: str = Field("", description="Our IPv4 address there; empty: the interface's first one.")


class DhcpSettings(Section):
    """The DHCP responder."""

    enabled: bool = Field(True, description="Answer DHCP on network.interface.")
    mode: Literal["full", "proxy", "off"] = Field("full", description="full: give addresses; proxy: beside another server.")
    subnet: str = Field("", description="The subnet we serve, e.g. 10.20.0.0/24; empty: the interface's.")
    pool_start: str = Field("", description="First address we may give; empty: chosen from the subnet.")
    pool_end: str = Field("", description="Last address we may give.")
    exclude: list[str] = Field(default_factory=list, description="Addresses in the pool that are never given.")
    router: str = Field("", description="Default gateway told to clients; empty: none.")
    dns: list[str] = Field(default_factory=list, description="Name servers told to clients.")
    domain: str = Field("", description="Domain name told to clients.")
    lease_seconds: int = Field(3600, ge=60, description="Lease time of an operating system.")
    pxe_lease_seconds: int = Field(300, ge=30, description="Lease time of firmware and loaders.")


class TftpSettings(Section):
    """The TFTP server."""

    enabled: bool = Field(True, description="Serve boot files by TFTP on network.address.")
    port: int = Field(69, ge=1, le=65535, description="UDP port.")


class HttpSettings(Section):
    """The HTTP server: boot plane, agents, API and pages."""

    host: str = Field("", description="Address to listen on; empty: network.address, or 127.0.0.1 without an interface.")
    port: int = Field(80, ge=1, le=65535, description="TCP port.")
    unix_socket: str = Field("", description="Also listen on this Unix socket (for a local reverse proxy); empty: no.")


class BootSettings(Section):
    """What machines boot."""

    unknown_host: Literal["menu", "ignore"] = Field("menu", description="What a machine nobody registered gets.")
    menu_seconds: int = Field(20, ge=0, le=600, description="Seconds before a menu takes its default, the local disk.")
    token_seconds: int = Field(600, ge=60, description="How long the one-time token of a boot script is good.")
    kernel_arguments: str = Field("console=tty0 console=ttyS0,115200", description="Added to the boot environment's kernel line.")


class RegistrationSettings(Section):
    """Registration at the PXE console."""

    auto_approve: bool = Field(False, description="Approve new hosts at once instead of asking an administrator.")
    name_template: str = Field("PC-###", description="Name of a quickly registered host; # are digits of a counter.")
    then: Literal["reboot", "poweroff"] = Field("reboot", description="What a machine does after registering.")


class TaskSettings(Section):
    """How tasks are tried."""

    max_attempts: int = Field(3, ge=1, le=20, description="Boots a task may use before it fails.")
    boot_seconds: int = Field(300, ge=30, description="From the boot script to the agent's check-in, before the attempt is lost.")
    silence_seconds: int = Field(120, ge=10, description="An agent silent this long has lost its attempt.")
    wait_seconds: int = Field(86400, ge=60, description="A task whose machine never boots fails after this time.")
    then: Literal["reboot", "poweroff"] = Field("reboot", description="What a machine does after a task.")


class MulticastSettings(Section):
    """The multicast engine."""

    group_base: str = Field("239.192.0.0", description="First multicast group; sessions take the following ones.")
    group_count: int = Field(256, ge=1, le=65536, description="How many groups we may use.")
    port: int = Field(9000, ge=1024, le=65000, description="Data port; reports go to the ports after it.")
    ttl: int = Field(1, ge=1, le=32, description="IP TTL; above 1 the stream crosses multicast routers.")
    rate_mbit: float = Field(900.0, gt=0, description="Highest rate of a session in Mbit/s.")
    gather_seconds: float = Field(10.0, ge=0, description="Wait for the others after the first receiver.")


class ImagesSettings(Section):
    """The chunk store."""

    store_dir: Path | None = Field(None, description="Where chunks live; empty: data_dir/store.")
    reserve_mb: int = Field(1024, ge=0, description="Free space a capture must leave on the store's file system.")
    zstd_level: int = Field(3, ge=1, le=19, description="Compression level agents use at capture.")


class JournalSettings(Section):
    """The per-host journal."""

    keep_per_host: int = Field(2000, ge=100, description="Events kept per host.")
    keep_days: int = Field(90, ge=1, description="Days events are kept.")


class Settings(BaseSettings):
    """All settings. `load()` reads them and says what is wrong with them."""

    model_config = SettingsConfigDict(env_prefix="PXEBOOT_", env_nested_delimiter="__", extra="ignore", frozen=True)

    server: ServerSettings = ServerSettings()
    network: NetworkSettings = NetworkSettings()
    dhcp: DhcpSettings = DhcpSettings()
    tftp: TftpSettings = TftpSettings()
    http: HttpSettings = HttpSettings()
    boot: BootSettings = BootSettings()
    registration: RegistrationSettings = RegistrationSettings()
    tasks: TaskSettings = TaskSettings()
    multicast: MulticastSettings = MulticastSettings()
    images: ImagesSettings = ImagesSettings()
    journal: JournalSettings = JournalSettings()
