"""Every setting with its default and its meaning: the tables of the settings file, one class each."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pxeboot.settings.dhcp import DhcpSettings
from pxeboot.settings.section import Section

_DAY = 86_400  # seconds


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
    """The interfaces on which machines boot."""

    interface: str = Field(
        default="",
        description="Interface that faces the machines; empty: boot services stay off.",
    )
    address: str = Field(default="", description="Our IPv4 address there; empty: the interface's first one.")
    interfaces: list[str] = Field(
        default_factory=list,
        description='Further interfaces that face machines: "eth2", or "eth2=10.30.0.1" to choose one of its '
        "addresses. They get TFTP and HTTP; DHCP as `[[dhcp.subnets]]` say.",
    )


class TftpSettings(Section):
    """The TFTP server."""

    enabled: bool = Field(
        default=True, description="Serve boot files by TFTP on our address of each interface."
    )
    port: int = Field(default=69, ge=1, le=65535, description="UDP port.")


class HttpSettings(Section):
    """The HTTP server: boot plane, agents, API and pages."""

    host: str = Field(
        default="",
        description="Address to listen on; empty: our address of each interface, or 127.0.0.1 without one.",
    )
    port: int = Field(default=80, ge=1, le=65535, description="TCP port.")
    unix_socket: str = Field(
        default="",
        description="Also listen on this Unix socket (for a local reverse proxy); empty: no.",
    )


class BootSettings(Section):
    """What machines boot."""

    unknown_host: Literal["menu", "register", "quarantine", "ignore"] = Field(
        default="menu",
        description="What a machine nobody registered gets: a menu; registration at once; a message and "
        "nothing else; no answer at all.",
    )
    quarantine_message: str = Field(
        default="",
        max_length=400,
        description="What a machine in quarantine shows; empty: a sentence of ours with its MAC address.",
    )
    local_boot: str = Field(
        default="",
        description="How the own disk is started: auto, sanboot, search, firmware, windows, linux or "
        "partition:hd0,gpt3; empty: auto.",
    )
    default: str = Field(
        default="",
        description="What an idle approved machine does: local, windows, linux, menu or entry:NAME; empty: "
        "local.",
    )
    menu: str = Field(
        default="",
        description="Whether an idle approved machine is shown the menu: never or always; empty: as "
        "boot.default needs it.",
    )
    menu_seconds: int = Field(
        default=20,
        ge=0,
        le=3600,
        description="Seconds before a menu takes its default; 0: it waits for ever.",
    )
    token_seconds: int = Field(
        default=600,
        ge=60,
        le=_DAY,
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
        le=_DAY,
        description="From the boot script to the agent's check-in, before the attempt is lost.",
    )
    silence_seconds: int = Field(
        default=120,
        ge=10,
        le=_DAY,
        description="An agent silent this long has lost its attempt.",
    )
    wait_seconds: int = Field(
        default=86400,
        ge=60,
        le=366 * _DAY,
        description="A task whose machine never boots fails after this time.",
    )
    then: Literal["reboot", "poweroff"] = Field(
        default="reboot",
        description="What a machine does after a task.",
    )


class ShellSettings(Section):
    """The debug shell of the boot environment."""

    authorized_keys: list[str] = Field(
        default_factory=list,
        description="Public SSH keys that may sign in to every debug shell, one text each: "
        "`ssh-ed25519 AAAA… name`.",
    )


class RescueSettings(Section):
    """Files that were copied out of machines."""

    keep_days: int = Field(
        default=14,
        ge=0,
        le=3650,
        description="Days after which an archive is deleted; 0: never.",
    )
    max_gb: int = Field(
        default=200, ge=1, le=1_000_000, description="How much all archives together may take."
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
    rate_mbit: float | None = Field(
        default=None,
        gt=0,
        le=1_000_000,
        description="Highest rate of a session in Mbit/s; empty: what its interface may carry, "
        "see [bandwidth].",
    )
    protect: Literal["off", "authenticate", "encrypt"] = Field(
        default="authenticate",
        description="Whether datagrams carry a seal that only members of the session can make, and whether "
        "strangers can read them. Sessions keep what they began with.",
    )
    querier: bool = Field(
        default=False,
        description="Ask for IGMP memberships on our interfaces while nobody else does: snooping switches "
        "need a querier.",
    )
    gather_seconds: float = Field(
        default=10.0,
        ge=0,
        le=_DAY,
        description="Wait for the others after the first receiver.",
    )


class BandwidthSettings(Section):
    """How much of the network deploys may use: docs/bandwidth.md."""

    share_percent: float = Field(
        default=95.0,
        ge=1,
        le=100,
        description="Of an interface's speed, what multicast and downloads may use together, and uploads "
        "in the other direction.",
    )
    caps: list[str] = Field(
        default_factory=list,
        description='Instead of that share, for single interfaces: "eth2 = 500 Mbit/s".',
    )
    limits: list[str] = Field(
        default_factory=list,
        description='Limits by time of day: "mon-fri 08:00-18:00 100 Mbit/s" for all that is sent together '
        '(and all that is uploaded), "eth2 08:00-18:00 50 Mbit/s" for one interface.',
    )
    zone: str = Field(default="", description="Time zone of these limits, an IANA name; empty: server.zone.")


class PeersSettings(Section):
    """Machines that give each other what multicast does not bring."""

    enabled: bool = Field(
        default=True,
        description="Let machines of one deploy fetch chunks from each other where multicast does not reach "
        "them.",
    )
    across_subnets: bool = Field(
        default=False,
        description="Also between subnets; else each subnet keeps to itself.",
    )
    port: int = Field(
        default=9080,
        ge=0,
        le=65535,
        description="TCP port on which machines serve each other; when it is taken, or 0: any.",
    )
    rate_mbit: float | None = Field(
        default=None,
        ge=10,
        le=1_000_000,
        description="How fast, at most, a machine gives chunks to its neighbours, in Mbit/s; empty: as fast "
        "as it can. Read when a machine begins its task.",
    )
    linger_seconds: int = Field(
        default=60,
        ge=0,
        le=3600,
        description="How long, at most, a machine that is done waits before it restarts, while others still "
        "fetch from it; 0: not at all.",
    )


class ImagesSettings(Section):
    """The chunk store."""

    store_dir: Path | None = Field(default=None, description="Where chunks live; empty: data_dir/store.")
    exchange_dir: Path | None = Field(
        default=None,
        description="Where files for export and import lie; empty: data_dir/exchange. The API names files "
        "only inside it.",
    )
    reserve_mb: int = Field(
        default=1024,
        ge=0,
        le=1 << 30,  # a pebibyte
        description="Free space a capture must leave on the store's file system.",
    )
    zstd_level: int = Field(default=3, ge=1, le=19, description="Compression level agents use at capture.")


class StoreSettings(Section):
    """How the chunk store looks after itself."""

    scrub_days: int = Field(
        default=30,
        ge=0,
        le=3650,
        description="Days after which the whole store is read again in the background; 0: never.",
    )
    scrub_rate_mb: int = Field(
        default=20,
        ge=0,
        le=100_000,
        description="Megabytes a second that work in the background reads at most; 0: without a limit.",
    )
    recompress: bool = Field(
        default=True,
        description="Compress chunks more thoroughly while no machine is at work.",
    )


class JournalSettings(Section):
    """The per-host journal."""

    keep_per_host: int = Field(default=2000, ge=100, le=1_000_000, description="Events kept per host.")
    keep_days: int = Field(default=90, ge=1, le=36_600, description="Days events are kept.")


class DoctorSettings(Section):
    """The daemon's own look round."""

    every_seconds: int = Field(
        default=3600,
        ge=0,
        le=366 * _DAY,
        description="Look for other DHCP servers and other trouble this often; 0: only on request.",
    )


class Settings(BaseModel):
    """All settings, each of the right type; `pxeboot.settings.load` also sees that they fit together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    server: ServerSettings = ServerSettings()
    network: NetworkSettings = NetworkSettings()
    dhcp: DhcpSettings = DhcpSettings()
    tftp: TftpSettings = TftpSettings()
    http: HttpSettings = HttpSettings()
    boot: BootSettings = BootSettings()
    registration: RegistrationSettings = RegistrationSettings()
    tasks: TaskSettings = TaskSettings()
    shell: ShellSettings = ShellSettings()
    rescue: RescueSettings = RescueSettings()
    multicast: MulticastSettings = MulticastSettings()
    bandwidth: BandwidthSettings = BandwidthSettings()
    peers: PeersSettings = PeersSettings()
    images: ImagesSettings = ImagesSettings()
    store: StoreSettings = StoreSettings()
    journal: JournalSettings = JournalSettings()
    doctor: DoctorSettings = DoctorSettings()

    @property
    def store_dir(self) -> Path:
        """Where the chunk store lives."""
        return self.images.store_dir or self.server.data_dir / "store"

    @property
    def exchange_dir(self) -> Path:
        """Where files for export and import lie."""
        return self.images.exchange_dir or self.server.data_dir / "exchange"

    @property
    def rescue_dir(self) -> Path:
        """Where archives of rescued files lie."""
        return self.server.data_dir / "rescue"

    @property
    def boot_dir(self) -> Path:
        """Where boot files and the boot environment live."""
        return self.server.data_dir / "boot"
