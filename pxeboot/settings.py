"""Every setting, described in one place: TOML file, then environment `PXEBOOT_SECTION__KEY` (lists as JSON).

The file is `/etc/pxeboot/pxeboot.toml` unless `--config` or `PXEBOOT_CONFIG` names another.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pxeboot.errors import ConfigError

DEFAULT_FILE = Path("/etc/pxeboot/pxeboot.toml")


class Section(BaseModel):
    """A table of the settings file; unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSettings(Section):
    """Who and where we are."""

    data_dir: Path = Field(
        default=Path("/var/lib/pxeboot"),
        description="Where database, images and boot files live.",
    )
    language: Literal["en", "fr"] = Field(
        default="en",
        description="Language of consoles and menus; a browser chooses its own.",
    )
    zone: str = Field(
        default="Europe/Paris",
        description="Time zone in which pages show times and take them, an IANA name.",
    )
    log_format: Literal["text", "json"] = Field(
        default="text",
        description="How log lines are written to standard error.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="Least level that is logged.",
    )


class NetworkSettings(Section):
    """The one interface on which machines boot."""

    interface: str = Field(
        default="",
        description="Interface that faces the machines; empty: boot services stay off.",
    )
    address: str = Field(default="", description="Our IPv4 address there; empty: the interface's first one.")


class DhcpSettings(Section):
    """The DHCP responder."""

    enabled: bool = Field(default=True, description="Answer DHCP on network.interface.")
    mode: Literal["full", "off"] = Field(
        default="full",
        description="full: give addresses; off: somebody else's server names our boot files.",
    )
    subnet: str = Field(
        default="",
        description="The subnet we serve, e.g. 10.20.0.0/24; empty: the interface's.",
    )
    pool_start: str = Field(
        default="",
        description="First address we may give; empty: chosen from the subnet.",
    )
    pool_end: str = Field(default="", description="Last address we may give.")
    exclude: list[str] = Field(
        default_factory=list,
        description="Addresses in the pool that are never given.",
    )
    router: str = Field(default="", description="Default gateway told to clients; empty: none.")
    dns: list[str] = Field(default_factory=list, description="Name servers told to clients.")
    domain: str = Field(default="", description="Domain name told to clients.")
    lease_seconds: int = Field(default=3600, ge=60, description="Lease time of an operating system.")
    pxe_lease_seconds: int = Field(default=300, ge=30, description="Lease time of firmware and loaders.")


class TftpSettings(Section):
    """The TFTP server."""

    enabled: bool = Field(default=True, description="Serve boot files by TFTP on network.address.")
    port: int = Field(default=69, ge=1, le=65535, description="UDP port.")


class HttpSettings(Section):
    """The HTTP server: boot plane, agents, API and pages."""

    host: str = Field(
        default="",
        description="Address to listen on; empty: network.address, or 127.0.0.1 without an interface.",
    )
    port: int = Field(default=80, ge=1, le=65535, description="TCP port.")
    unix_socket: str = Field(
        default="",
        description="Also listen on this Unix socket (for a local reverse proxy); empty: no.",
    )


class BootSettings(Section):
    """What machines boot."""

    unknown_host: Literal["menu", "ignore"] = Field(
        default="menu",
        description="What a machine nobody registered gets.",
    )
    menu_seconds: int = Field(
        default=20,
        ge=0,
        le=600,
        description="Seconds before a menu takes its default, the local disk.",
    )
    token_seconds: int = Field(
        default=600,
        ge=60,
        description="How long the one-time token of a boot script is good.",
    )
    kernel_arguments: str = Field(
        default="console=tty0 console=ttyS0,115200 quiet loglevel=4 panic=30",
        description="Added to the boot environment's kernel line.",
    )


class RegistrationSettings(Section):
    """Registration at the PXE console."""

    auto_approve: bool = Field(
        default=False,
        description="Approve new hosts at once instead of asking an administrator.",
    )
    name_template: str = Field(
        default="PC-###",
        description="Name of a quickly registered host; # are digits of a counter.",
    )
    then: Literal["reboot", "poweroff"] = Field(
        default="reboot",
        description="What a machine does after registering.",
    )


class TaskSettings(Section):
    """How tasks are tried."""

    max_attempts: int = Field(default=3, ge=1, le=20, description="Boots a task may use before it fails.")
    boot_seconds: int = Field(
        default=300,
        ge=30,
        description="From the boot script to the agent's check-in, before the attempt is lost.",
    )
    silence_seconds: int = Field(
        default=120,
        ge=10,
        description="An agent silent this long has lost its attempt.",
    )
    wait_seconds: int = Field(
        default=86400,
        ge=60,
        description="A task whose machine never boots fails after this time.",
    )
    then: Literal["reboot", "poweroff"] = Field(
        default="reboot",
        description="What a machine does after a task.",
    )


class MulticastSettings(Section):
    """The multicast engine."""

    group_base: str = Field(
        default="239.192.0.0",
        description="First multicast group; sessions take the following ones.",
    )
    group_count: int = Field(default=256, ge=1, le=65536, description="How many groups we may use.")
    port: int = Field(
        default=9000,
        ge=1024,
        le=65000,
        description="Data port; reports go to the ports after it.",
    )
    ttl: int = Field(
        default=1,
        ge=1,
        le=32,
        description="IP TTL; above 1 the stream crosses multicast routers.",
    )
    rate_mbit: float = Field(default=900.0, gt=0, description="Highest rate of a session in Mbit/s.")
    gather_seconds: float = Field(
        default=10.0,
        ge=0,
        description="Wait for the others after the first receiver.",
    )


class ImagesSettings(Section):
    """The chunk store."""

    store_dir: Path | None = Field(default=None, description="Where chunks live; empty: data_dir/store.")
    reserve_mb: int = Field(
        default=1024,
        ge=0,
        description="Free space a capture must leave on the store's file system.",
    )
    zstd_level: int = Field(default=3, ge=1, le=19, description="Compression level agents use at capture.")


class JournalSettings(Section):
    """The per-host journal."""

    keep_per_host: int = Field(default=2000, ge=100, description="Events kept per host.")
    keep_days: int = Field(default=90, ge=1, description="Days events are kept.")


class Settings(BaseSettings):
    """All settings. `load()` reads them and says what is wrong with them."""

    model_config = SettingsConfigDict(
        env_prefix="PXEBOOT_", env_nested_delimiter="__", extra="ignore", frozen=True
    )

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

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, key by key (by default the file would win)."""
        return env_settings, init_settings

    @model_validator(mode="after")
    def _addresses_make_sense(self) -> Settings:
        problems = list(_problems(self))
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def store_dir(self) -> Path:
        """Where the chunk store lives."""
        return self.images.store_dir or self.server.data_dir / "store"

    @property
    def boot_dir(self) -> Path:
        """Where boot files and the boot environment live."""
        return self.server.data_dir / "boot"


def _problems(settings: Settings) -> Iterator[str]:
    """Say which values cannot be right, with key, value and remedy."""
    try:
        ZoneInfo(settings.server.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield f"server.zone = {settings.server.zone!r} is not a time zone; write it like Europe/Paris"
    dhcp = settings.dhcp
    single = {
        "network.address": settings.network.address,
        "dhcp.pool_start": dhcp.pool_start,
        "dhcp.pool_end": dhcp.pool_end,
        "dhcp.router": dhcp.router,
        "http.host": settings.http.host,
        "multicast.group_base": settings.multicast.group_base,
    }
    listed = {"dhcp.dns": dhcp.dns, "dhcp.exclude": dhcp.exclude}
    for key, value in single.items():
        if value and not _is_ipv4(value):
            yield f"{key} = {value!r} is not an IPv4 address; write it like 10.20.0.10"
    for key, values in listed.items():
        for value in values:
            if not _is_ipv4(value):
                yield f"{key} has {value!r}, which is not an IPv4 address; write it like 10.20.0.10"
    if dhcp.subnet:
        try:
            subnet = ipaddress.IPv4Network(dhcp.subnet)
        except ValueError:
            yield f"dhcp.subnet = {dhcp.subnet!r} is not a network; write it like 10.20.0.0/24"
        else:
            for key in ("dhcp.pool_start", "dhcp.pool_end", "dhcp.router"):
                value = single[key]
                if value and _is_ipv4(value) and ipaddress.IPv4Address(value) not in subnet:
                    yield f"{key} = {value!r} is outside dhcp.subnet {subnet}; choose an address inside it"
    if bool(dhcp.pool_start) != bool(dhcp.pool_end):
        yield "dhcp.pool_start and dhcp.pool_end go together; set both or none"
    base = settings.multicast.group_base
    if _is_ipv4(base) and not ipaddress.IPv4Address(base).is_multicast:
        yield f"multicast.group_base = {base!r} is not a multicast address; 239.192.0.0 is the usual choice"
    if "#" not in settings.registration.name_template:
        yield (
            f"registration.name_template = {settings.registration.name_template!r} has no # for the counter; "
            'write it like "PC-###"'
        )


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def load(path: Path | None = None) -> Settings:
    """Read the settings file and the environment.

    `path` None: `PXEBOOT_CONFIG`, else `/etc/pxeboot/pxeboot.toml` if it exists, else defaults.
    Raises ConfigError with file, key, value and remedy for each mistake, one a line.
    """
    named = path or (Path(os.environ["PXEBOOT_CONFIG"]) if os.environ.get("PXEBOOT_CONFIG") else None)
    file = named or DEFAULT_FILE
    values: dict[str, Any] = {}
    if file.exists():
        try:
            values = tomllib.loads(file.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file}: not valid TOML: {error}. Correct the line it names.") from error
        except OSError as error:
            raise ConfigError(f"{file}: cannot be read: {error.strerror}.") from error
    elif named:
        raise ConfigError(
            f"{file}: no such settings file. Create it, or leave --config out to run with defaults."
        )
    unknown = sorted(set(values) - set(Settings.model_fields))
    if unknown:
        known = ", ".join(sorted(Settings.model_fields))
        raise ConfigError(f"{file}: there is no section [{unknown[0]}]; the sections are: {known}.")
    try:
        return Settings(**values)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(file, error))) from error


def _explain(file: Path, error: ValidationError) -> Iterator[str]:
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if not key:
            for problem in str(item["msg"]).removeprefix("Value error, ").split("\n"):
                yield f"{file}: {problem}."
        elif item["type"] == "extra_forbidden":
            yield f"{file}: there is no setting {key}; see docs/settings.md for the list."
        else:
            yield f"{file}: {key} = {item['input']!r}: {item['msg']}."


def describe() -> Iterator[tuple[str, str, str, str]]:
    """Yield (section, key, default, description) of every setting: what docs/settings.md is made of."""
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            for key, entry in section.model_fields.items():
                default = entry.get_default(call_default_factory=True)
                yield name, key, "" if default is None else str(default), entry.description or ""
