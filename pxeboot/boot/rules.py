"""What an administrator may say about booting: rules of a host, a group or the site, and extra menu entries.

Rules are merged field by field, the host's over its group's over the site's. What cannot be meant raises
`RuleError` with the key, the value and what to write instead. Pure: no database, no files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Final

__all__ = [
    "DEFAULTS",
    "ENTRY_KINDS",
    "LOCAL_BOOTS",
    "MENUS",
    "NO_RULES",
    "RESERVED_KEYS",
    "BootRules",
    "EntryKind",
    "MenuEntry",
    "RuleError",
    "check_arguments",
    "check_entry",
    "check_key",
    "check_name",
]

LOCAL_BOOTS: Final = ("auto", "sanboot", "search", "firmware", "windows", "linux")
"""Ways to start a machine's own disk, besides `partition:…`: docs/booting.md, "Booting the local disk"."""
DEFAULTS: Final = ("local", "windows", "linux", "menu")
"""What an idle machine does, besides `entry:NAME`."""
MENUS: Final = ("never", "always")
RESERVED_KEYS: Final = "clerqvwx"
"""Keys of the menus' own entries and of GRUB's (`c` console, `e` edit, `v` one line down)."""
LONGEST_MENU: Final = 3600

_PARTITION: Final = re.compile(r"partition:hd[0-9]{1,2},(?:gpt|msdos)[1-9][0-9]{0,2}")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
_OWN_NAMES: Final = frozenset(
    {"local", "windows", "linux", "menu", "title", "register-quick", "register-full", "admin"}
)
# Words of a kernel's command line, as GRUB, iPXE and the kernel alike read them.
_ARGUMENTS: Final = re.compile(r"[A-Za-z0-9._:/=,@%+\[\]?&~*!-]*(?: [A-Za-z0-9._:/=,@%+\[\]?&~*!-]+)*")
_URL: Final = re.compile(
    r"http://[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{1,5})?/[A-Za-z0-9._~/@%+:=,-]*", re.ASCII
)
_PATH: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+@-]*(?:/[A-Za-z0-9_][A-Za-z0-9._+@-]*)*", re.ASCII)


class RuleError(ValueError):
    """A rule or an entry that cannot be meant: `key`, `value`, and in `remedy` what to write instead."""

    def __init__(self, key: str, value: object, remedy: str) -> None:
        super().__init__(f"{key} = {value!r} cannot be meant: {remedy}")
        self.key, self.value, self.remedy = key, value, remedy


@dataclass(frozen=True, slots=True, kw_only=True)
class BootRules:
    """What one level (host, group or site) says; "" and None say nothing.

    `local_boot`: how the own disk is started. `default`: what an idle approved machine does. `menu`: whether
    it is shown the menu. `menu_seconds`: the menu's time-out, 0 = wait for ever.
    """

    local_boot: str = ""
    default: str = ""
    menu: str = ""
    menu_seconds: int | None = None

    def over(self, below: BootRules) -> BootRules:
        """These rules, and where they say nothing those `below`."""
        return BootRules(
            local_boot=self.local_boot or below.local_boot,
            default=self.default or below.default,
            menu=self.menu or below.menu,
            menu_seconds=below.menu_seconds if self.menu_seconds is None else self.menu_seconds,
        )

    @classmethod
    def parse(cls, values: Mapping[str, object]) -> BootRules:
        """Rules from JSON or a form; "" and None inherit. Raises `RuleError` for the first mistake."""
        known = [each.name for each in fields(cls)]
        for key in values:
            if key not in known:
                raise RuleError(key, values[key], f"a boot rule is one of {', '.join(known)}.")
        return cls(
            local_boot=_choice(values, "local_boot", LOCAL_BOOTS, _PARTITION, "partition:hd0,gpt3"),
            default=_choice(values, "default", DEFAULTS, re.compile(rf"entry:{_NAME.pattern}"), "entry:NAME"),
            menu=_choice(values, "menu", MENUS),
            menu_seconds=_seconds(values.get("menu_seconds")),
        )

    def to_dict(self) -> dict[str, object]:
        """Only what is said, as `parse` reads it."""
        said = {each.name: getattr(self, each.name) for each in fields(self)}
        return {key: value for key, value in said.items() if value is not None and value != ""}


NO_RULES: Final = BootRules()


@dataclass(frozen=True, slots=True, kw_only=True)
class MenuEntry:
    """An extra entry of the menus, as `decide` and the templates need it.

    `name` is a word used in scripts, `title` what people read, `params` what its `kind` needs. `firmware`:
    `bios`, `uefi`, or "" for both. `key`: one lower-case letter or digit. A `hidden` entry is reached by its
    key alone. A `protected` one asks for user name (the entry's own name) and password; `grub_password` is
    the password as GRUB checks it (`grub.pbkdf2.sha512.…`).
    """

    name: str
    title: str
    kind: str
    params: Mapping[str, str] = field(default_factory=dict)
    firmware: str = ""
    hidden: bool = False
    key: str = ""
    protected: bool = False
    grub_password: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryKind:
    """What entries of one kind need: names of parameters, and on which firmware they work ("": both)."""

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    firmware: str = ""
    protected_only: bool = False
    about: str = ""


ENTRY_KINDS: Final[Mapping[str, EntryKind]] = {
    "linux": EntryKind(
        required=("kernel",),
        optional=("initrd", "arguments"),
        about="A Linux kernel with its initial RAM disk and arguments.",
    ),
    "installer": EntryKind(
        required=("kernel", "initrd"),
        optional=("arguments", "preseed"),
        about="A distribution's network installer; `preseed` is the URL of its answers (url=…).",
    ),
    "iso": EntryKind(required=("file",), about="A CD image that can boot by HTTP."),
    "efi": EntryKind(required=("file",), firmware="uefi", about="An EFI program."),
    "ipxe": EntryKind(required=("url",), about="An iPXE script of another server or program."),
    "memtest": EntryKind(about="Memtest86+; unsigned, so not where Secure Boot is on."),
    "firmware-setup": EntryKind(firmware="uefi", about="The firmware's own set-up."),
    "shell": EntryKind(protected_only=True, about="The loader's command line."),
    "reboot": EntryKind(about="Start again."),
    "poweroff": EntryKind(about="Switch off."),
}
_FILES: Final = frozenset({"kernel", "initrd", "file"})
_URLS: Final = frozenset({"url", "preseed"})


def check_entry(
    kind: str, params: Mapping[str, object], firmware: str = "", *, protected: bool | None = None
) -> None:
    """Raise `RuleError` for the first thing that cannot be meant; `protected` None: not known yet.

    Files are paths below `extra/` in the boot folder, or http URLs.
    """
    about = ENTRY_KINDS.get(kind)
    if about is None:
        raise RuleError("kind", kind, f"an entry's kind is one of {', '.join(ENTRY_KINDS)}.")
    if firmware not in ("", "bios", "uefi"):
        raise RuleError("firmware", firmware, "write bios, uefi, or nothing for both.")
    if about.firmware and firmware not in ("", about.firmware):
        raise RuleError("firmware", firmware, f"entries of kind {kind} work on {about.firmware} only.")
    if about.protected_only and protected is False:
        raise RuleError("password", "", f"entries of kind {kind} need a password.")
    allowed = (*about.required, *about.optional)
    for key in params:
        if key not in allowed:
            takes = f"takes {', '.join(allowed)}" if allowed else "takes no parameters"
            raise RuleError(f"params.{key}", params[key], f"an entry of kind {kind} {takes}.")
    for key in about.required:
        if not params.get(key):
            raise RuleError(f"params.{key}", params.get(key, ""), f"an entry of kind {kind} needs it.")
    for key, value in params.items():
        _check_param(key, value)


def check_arguments(key: str, text: str) -> None:
    """Raise `RuleError` unless a kernel's arguments can be written for every loader."""
    if not _ARGUMENTS.fullmatch(text) or "&&" in text.split():  # which would end iPXE's command
        raise RuleError(
            key,
            text,
            "write words with single spaces between them, without quotes, $, ;, &&, # or accents.",
        )


def check_key(key: str) -> None:
    """Raise `RuleError` unless `key` is "" or a lower-case letter or digit that no menu uses itself."""
    if key and (not re.fullmatch(r"[a-z0-9]", key, re.ASCII) or key in RESERVED_KEYS):
        raise RuleError(
            "key", key, f"write one lower-case letter or digit, but none of {', '.join(RESERVED_KEYS)}."
        )


def check_name(name: str) -> None:
    """Raise `RuleError` unless `name` can name an entry in scripts."""
    if not _NAME.fullmatch(name) or name in _OWN_NAMES:
        raise RuleError(
            "name",
            name,
            "write 1 to 31 lower-case letters, digits and hyphens, and none of "
            f"{', '.join(sorted(_OWN_NAMES))}.",
        )


def _check_param(key: str, value: object) -> None:
    where = f"params.{key}"
    if not isinstance(value, str):
        raise RuleError(where, value, "write text.")
    if not value:
        return
    if len(value) > 1000:
        raise RuleError(where, value[:40] + "…", "write at most 1000 characters.")
    if key in _FILES and not (_URL.fullmatch(value) or _PATH.fullmatch(value)):
        raise RuleError(
            where, value, "write a path below extra/ in the boot folder (debian/vmlinuz) or an http:// URL."
        )
    if key in _URLS and not _URL.fullmatch(value):
        raise RuleError(where, value, "write a URL like http://10.20.0.1/answers.cfg.")
    if key == "arguments":
        check_arguments(where, value)


def _choice(
    values: Mapping[str, object],
    key: str,
    words: tuple[str, ...],
    pattern: re.Pattern[str] | None = None,
    example: str = "",
) -> str:
    value = values.get(key)
    if value is None or value == "":
        return ""
    if isinstance(value, str) and (value in words or (pattern is not None and pattern.fullmatch(value))):
        return value
    also = f" or like {example}" if example else ""
    raise RuleError(key, value, f"write one of {', '.join(words)}{also}; nothing to inherit.")


def _seconds(value: object) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,6}", value, re.ASCII):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LONGEST_MENU:
        return value
    raise RuleError("menu_seconds", value, f"write seconds from 0 (wait for ever) to {LONGEST_MENU}.")
