"""Every setting, described in one place, read from a TOML file and the environment, and judged as a whole.

The file is `/etc/pxeboot/pxeboot.toml` unless `--config` or `PXEBOOT_CONFIG` names another.
"""

from pxeboot.settings.dhcp import DhcpSettings, ReservationSettings, SubnetSettings
from pxeboot.settings.judge import interfaces
from pxeboot.settings.load import DEFAULT_FILE, Reading, describe, load, read
from pxeboot.settings.mistake import Mistake, refuse
from pxeboot.settings.section import Section
from pxeboot.settings.sections import (
    BootSettings,
    DoctorSettings,
    HttpSettings,
    ImagesSettings,
    JournalSettings,
    MulticastSettings,
    NetworkSettings,
    RegistrationSettings,
    RescueSettings,
    ServerSettings,
    Settings,
    ShellSettings,
    StoreSettings,
    TaskSettings,
    TftpSettings,
)

__all__ = [
    "DEFAULT_FILE",
    "BootSettings",
    "DhcpSettings",
    "DoctorSettings",
    "HttpSettings",
    "ImagesSettings",
    "JournalSettings",
    "Mistake",
    "MulticastSettings",
    "NetworkSettings",
    "Reading",
    "RegistrationSettings",
    "RescueSettings",
    "ReservationSettings",
    "Section",
    "ServerSettings",
    "Settings",
    "ShellSettings",
    "StoreSettings",
    "SubnetSettings",
    "TaskSettings",
    "TftpSettings",
    "describe",
    "interfaces",
    "load",
    "read",
    "refuse",
]
