"""What codes are called on the pages: planes of the journal, boot rules and who said them, menu entries."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from jinja2 import pass_context
from jinja2.runtime import Context

from pxeboot.services.debug_shell import known_hosts
from pxeboot.services.dhcp_settings import option_text


def N_(text: str) -> str:
    """Mark a text for translation where it stands in a table."""
    return text


PLANES = {
    "dhcp": "DHCP",
    "tftp": "TFTP",
    "http": "HTTP",
    "boot": N_("boot script"),
    "agent": N_("agent"),
    "task": N_("task"),
    "job": N_("job"),
    "multicast": "multicast",
    "api": N_("change"),
    "ui": N_("sign-in"),
    "schedule": N_("schedule"),
    "server": N_("this server"),
    "doctor": N_("Doctor"),
}
LEASES = {
    "offered": N_("offered"),
    "bound": N_("in use"),
    "expired": N_("run out"),
    "released": N_("given back"),
    "declined": N_("a stranger has it"),
}
RULES = {
    "default": N_("An idle machine boots"),
    "local_boot": N_("Its own disk is started"),
    "menu": N_("Menu"),
    "menu_seconds": N_("Time for the menu"),
}
DEFAULTS = {
    "local": N_("its own disk"),
    "windows": "Windows",
    "linux": "Linux",
    "menu": N_("the menu"),
}
MENUS = {
    "never": N_("is not shown"),
    "always": N_("is shown first"),
}
LOCAL_BOOTS = {
    "auto": N_("as its firmware needs it"),
    "sanboot": N_("by iPXE (sanboot)"),
    "search": N_("by the first loader found on it"),
    "firmware": N_("by the firmware's next entry"),
    "windows": N_("by the loader of Windows"),
    "linux": N_("by the loader of Linux"),
}
ORIGINS = {
    "host": N_("said by this host"),
    "group": N_("said by its group"),
    "site": N_("said by the site"),
}
KINDS = {
    "linux": N_("Linux: kernel and initial RAM disk"),
    "installer": N_("network installer of a distribution"),
    "iso": N_("CD image (ISO)"),
    "efi": N_("EFI program"),
    "ipxe": N_("iPXE script of another server"),
    "memtest": N_("memory test (Memtest86+)"),
    "firmware-setup": N_("set-up of the firmware"),
    "shell": N_("command line of the loader"),
    "reboot": N_("start again"),
    "poweroff": N_("switch off"),
}
PARAMS = {
    "kernel": N_("Kernel"),
    "initrd": N_("Initial RAM disk"),
    "arguments": N_("Arguments of the kernel"),
    "preseed": N_("URL of the installer's answers"),
    "file": N_("File"),
    "url": "URL",
}


_UNITS = (N_("B"), N_("kB"), N_("MB"), N_("GB"))


def size(count: int, say: Callable[[str], str] = str) -> str:
    """Bytes as people read them, powers of ten, `say` has the units; nothing for 0."""
    if not count:
        return ""
    value = float(count)
    for unit in _UNITS:
        if value < 1000:
            return f"{value:.0f} {say(unit)}" if unit == "B" else f"{value:.1f} {say(unit)}"
        value /= 1000
    return f"{value:.1f} {say(N_('TB'))}"


@pass_context
def size_text(context: Context, count: int) -> str:
    """Bytes in the reader's units."""
    return size(count, context["gettext"])


def translated(context: Context, table: Mapping[str, str], value: str) -> str:
    """The word for `value` in the reader's language; itself when there is none."""
    word = table.get(value, value)
    # The catalogue's own header is what it has for "".
    return str(context["gettext"](word)) if word and value in table else word


USERS = {
    "image": N_("image"),
    "group": N_("group"),
    "host": N_("host"),
    "shipped": N_("nobody: as shipped"),
}
AFTER = {
    "hostname": N_("Give it the host's name"),
    "linux.machine_id": N_("New machine-id"),
    "linux.ssh_host_keys": N_("New SSH host keys"),
    "linux.random_seed": N_("Remove the stored random seed"),
    "windows.name": N_("How it gets its name"),
    "windows.time_zone": N_("Time zone, like Romance Standard Time"),
    "windows.locale": N_("Formats, like fr-FR"),
    "windows.language": N_("Language, like fr-FR"),
    "windows.keyboard": N_("Keyboard, like 040c:0000040c"),
    "windows.owner": N_("Registered owner"),
    "windows.organization": N_("Registered organization"),
    "windows.drivers": N_("Copy the drivers of its model"),
    "windows.install_drivers": N_("Have setup install them"),
    "windows.drivers_path": N_("Where drivers go"),
    "windows.join.domain": N_("Domain to join"),
    "windows.join.ou": N_("Organizational unit (OU)"),
    "windows.join.user": N_("User who may join"),
    "windows.join.password": N_("Secret with the password"),
    "windows.join.blob": N_("Secret with provisioning data, instead of user and password"),
    "auto": N_("as the image was made"),
    "registry": N_("in the registry"),
    "unattend": N_("in setup's answer file"),
    "keep": N_("not at all"),
}


@pass_context
def user_text(context: Context, value: str) -> str:
    """Who says something about the time after the image."""
    return translated(context, USERS, value)


@pass_context
def after_text(context: Context, value: str) -> str:
    """A rule for the time after the image, or its value."""
    return translated(context, AFTER, value)


@pass_context
def lease_text(context: Context, value: str) -> str:
    """A lease's state as people read it."""
    return translated(context, LEASES, value)


@pass_context
def plane_text(context: Context, value: str) -> str:
    """Which part of the service speaks."""
    return translated(context, PLANES, value)


@pass_context
def rule_name(context: Context, key: str) -> str:
    """What a boot rule is about."""
    return translated(context, RULES, key)


@pass_context
def rule_text(context: Context, value: object, key: str) -> str:
    """The value of a boot rule."""
    gettext = context["gettext"]
    if key == "menu_seconds":
        return str(gettext("%(n)s seconds", n=value) if value else gettext("until somebody chooses"))
    text = str(value)
    if text.startswith("entry:"):
        return str(gettext("the entry %(name)s", name=text.removeprefix("entry:")))
    return translated(context, {"default": DEFAULTS, "menu": MENUS}.get(key, LOCAL_BOOTS), text)


@pass_context
def origin_text(context: Context, value: str) -> str:
    """Who said a rule."""
    return translated(context, ORIGINS, value)


@pass_context
def kind_text(context: Context, value: str) -> str:
    """What an entry starts."""
    return translated(context, KINDS, value)


@pass_context
def param_text(context: Context, value: str) -> str:
    """What a parameter of an entry is."""
    return translated(context, PARAMS, value)


DEPLOY_OPTIONS = {
    "partitions": N_("only the partitions"),
    "grow": N_("grow on a larger disk"),
    "shrink": N_("shrink to a smaller disk"),
    "identities": N_("identities"),
    "discard": N_("discard unused blocks"),
    "disks": N_("disks"),
    "verify": N_("read everything back"),
    "whole": N_("taken byte for byte"),
    "exclude_windows_files": N_("leave Windows' page files out"),
    "method": N_("method"),
    "passes": N_("passes"),
    "fallback": N_("overwrite where it cannot be used"),
    "countdown": N_("seconds to stop it"),
    "memory": N_("passes over the memory"),
    "memory_mb": N_("MiB of memory"),
    "smart": N_("what the disk says of itself"),
    "surface": N_("reading the disk"),
    "keys": N_("keys"),
    "minutes": N_("minutes"),
    "paths": N_("what is copied"),
    "exclude": N_("left out"),
    "limit_mb": N_("at most, in MB"),
}
TASKS = {
    "capture": N_("Capture"),
    "deploy": N_("Deploy"),
    "inventory": N_("Inventory"),
    "wipe": N_("Wipe"),
    "test": N_("Test"),
    "shell": N_("Debug shell"),
    "rescue": N_("Rescue of files"),
}
WIPE_METHODS = {
    "auto": N_("the most thorough that the disk can"),
    "overwrite": N_("overwrite"),
    "discard": N_("discard (TRIM)"),
    "ata-secure-erase": N_("secure erase of the disk (ATA)"),
    "nvme-format": N_("format with erase (NVMe)"),
    "nvme-sanitize": N_("sanitize (NVMe)"),
}
DISK_RULES = {
    "only": N_("the only one"),
    "all": N_("all internal ones"),
    "smallest": N_("the smallest"),
    "largest": N_("the largest"),
    "serial": N_("by serial number"),
    "wwn": "WWN",
    "path": N_("by path"),
    "size": N_("by size"),
    "model": N_("by model"),
}
VALUES = {
    "True": N_("yes"),
    "False": N_("no"),
    "last": N_("the last one"),
    "none": N_("none"),
    "keep": N_("kept"),
    "renew": N_("made new"),
    "all": N_("all internal ones"),
    "samples": N_("samples"),
    "full": N_("all of it"),
    "quick": N_("every 64th MiB"),
    "health": N_("only its health"),
    "short": N_("with its short self-test"),
    "long": N_("with its long self-test"),
    "only": N_("the only one"),
    "smallest": N_("the smallest"),
    "largest": N_("the largest"),
}


@pass_context
def task_text(context: Context, value: str) -> str:
    """What a task does."""
    return translated(context, TASKS, value)


@pass_context
def option_name(context: Context, key: str) -> str:
    """What an option of a capture or deploy is about."""
    return translated(context, DEPLOY_OPTIONS, key)


@pass_context
def option_value(context: Context, value: object) -> str:
    """What was said about it."""
    if isinstance(value, list):
        return ", ".join(option_value(context, item) for item in value)
    if isinstance(value, Mapping):  # a rule for a disk
        return " ".join(option_value(context, value[key]) for key in ("rule", "value") if value.get(key))
    return translated(context, VALUES, str(value))


def key_names(keys: list[str]) -> str:
    """SSH keys by their comments: nobody reads the rest."""
    return ", ".join(key.split(None, 2)[-1] if key.count(" ") > 1 else key[:30] for key in keys)


@pass_context
def wipe_method(context: Context, value: str) -> str:
    """How a disk is wiped."""
    return translated(context, WIPE_METHODS, value)


@pass_context
def disk_rule_text(context: Context, value: str) -> str:
    """How a disk is chosen."""
    return translated(context, DISK_RULES, value)


def ssh_command(where: Mapping[str, object]) -> str:
    """What to type to reach an open debug shell."""
    port = "" if where.get("port") == 22 else f" -p {where.get('port')}"
    return f"ssh{port} root@{where.get('address')}"


@pass_context
def change_text(context: Context, value: str) -> str:
    """What became of a partition between two versions."""
    return translated(context, CHANGES, value)


CHANGES = {
    "same": N_("the same"),
    "changed": N_("changed"),
    "added": N_("new"),
    "removed": N_("gone"),
}

FILTERS = {
    "task_text": task_text,
    "option_name": option_name,
    "option_value": option_value,
    "key_names": key_names,
    "wipe_method": wipe_method,
    "disk_rule_text": disk_rule_text,
    "ssh_command": ssh_command,
    "known_hosts": known_hosts,
    "change_text": change_text,
    "plane_text": plane_text,
    "lease_text": lease_text,
    "user_text": user_text,
    "after_text": after_text,
    "rule_name": rule_name,
    "rule_text": rule_text,
    "origin_text": origin_text,
    "kind_text": kind_text,
    "param_text": param_text,
    "option_text": option_text,
}
