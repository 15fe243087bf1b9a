"""What is to be done to a disk after the image: the member ``customise`` of TASK as a checked value.

(docs/ARCHITECTURE.md §4 lists the members, docs/customising.md what they mean.) The server has resolved
everything: names, templates, secrets. Standard library only: the agent reads it.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import re
from collections.abc import Mapping

from imaging.customise.tree import parts
from imaging.errors import CustomiseError

#: RFC 1123 §2.1, and at most 63 characters because Linux's HOST_NAME_MAX is 64.
_HOSTNAME = re.compile(
    r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.ASCII | re.IGNORECASE
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HASH = re.compile(r"[0-9a-f]{64}")
SYSTEM = re.compile(r"linux|windows|partition:[1-9][0-9]{0,2}")
MAX_SECONDS = 7200
MAX_SCRIPT = 256 << 10
WINDOWS_NAMES = ("auto", "registry", "unattend", "keep")


@dataclasses.dataclass(frozen=True, slots=True)
class Script:
    """A shell script. ``system``: "" = nothing is mounted, else it runs once for each such system."""

    name: str
    phase: str  # pre | post
    text: str
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    system: str = ""
    seconds: int = 300
    on_error: str = "fail"  # fail | continue


@dataclasses.dataclass(frozen=True, slots=True)
class Drop:
    """A file put into systems; ``content`` travels with the order, or is fetched by its BLAKE3 ``hash``."""

    name: str
    path: str
    system: str
    mode: int | None = None
    owner: tuple[int, int] | None = None
    content: bytes | None = None
    hash: str = ""
    size: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Linux:
    """What a clone must not share with its image."""

    machine_id: bool = False
    ssh_host_keys: bool = False
    random_seed: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Join:
    """Joining a domain: by account, or by the provisioning data that ``djoin /provision`` made (base64)."""

    domain: str = ""
    ou: str = ""
    user: str = ""
    password: str = dataclasses.field(default="", repr=False)
    blob: str = dataclasses.field(default="", repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Windows:
    """``name``: how the computer gets its name; the others go into the answer file of a prepared image."""

    name: str = "auto"
    time_zone: str = ""
    locale: str = ""
    language: str = ""
    keyboard: str = ""
    owner: str = ""
    organization: str = ""
    join: Join | None = None
    drivers_path: str = "C:\\Drivers"
    drivers: tuple[tuple[str, int], ...] = ()  # (path below the server's folder, bytes)
    install_drivers: bool = True

    @property
    def answers(self) -> bool:
        """Is there anything that only an answer file can say?"""
        return any((self.time_zone, self.locale, self.language, self.keyboard, self.owner, self.organization))


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """Everything, in the order of docs/customising.md."""

    hostname: str | None = None
    linux: Linux = Linux()
    windows: Windows = Windows()
    files: tuple[Drop, ...] = ()
    scripts: tuple[Script, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    masked: tuple[str, ...] = dataclasses.field(default=(), repr=False)  # never shown

    @property
    def empty(self) -> bool:
        """Is there nothing to do to the disk?"""
        return self == Order(environment=self.environment, masked=self.masked)

    def phase(self, phase: str) -> tuple[Script, ...]:
        """The scripts of one phase, in order."""
        return tuple(script for script in self.scripts if script.phase == phase)

    def mask(self, text: str) -> str:
        """Text without the secrets of this order."""
        for secret in sorted(self.masked, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


def checked_hostname(name: str) -> str:
    """A name by RFC 1123 of at most 63 characters. Raises CustomiseError."""
    if len(name) > 63 or not _HOSTNAME.fullmatch(name):
        raise CustomiseError(f"{name[:80]!r} is not a host name: use letters, digits and hyphens (RFC 1123).")
    return name


def from_task(value: object) -> Order:
    """Read TASK's ``customise`` (None = nothing to do).

    Raises CustomiseError naming the member that is wrong, and with the server's own sentence when it could
    not put the order together (member ``problem``).
    """
    if value is None:
        return Order()
    given = _Reader(value, "customise")
    if problem := given.text("problem"):
        raise CustomiseError(problem)
    hostname = given.text("hostname") or None
    linux = given.map("linux")
    return Order(
        hostname=checked_hostname(hostname) if hostname else None,
        linux=Linux(*(linux.flag(field.name) for field in dataclasses.fields(Linux))),
        windows=_windows(given.map("windows")),
        files=tuple(_drop(item) for item in given.list("files")),
        scripts=tuple(_script(item) for item in given.list("scripts")),
        environment=given.map("environment").variables(),
        masked=tuple(word for word in given.words("masked") if len(word) > 3),
    )


class _Reader:
    """One JSON object, read with named errors."""

    def __init__(self, value: object, name: str) -> None:
        if not isinstance(value, Mapping):
            raise CustomiseError(f"The task's {name} is no object: update server and boot environment alike.")
        self._value, self.name = value, name

    def wrong(self, key: str) -> CustomiseError:
        return CustomiseError(f"The task's {self.name}.{key} makes no sense: update server and agent alike.")

    def text(self, key: str, default: str = "") -> str:
        value = self._value.get(key)
        if value is None:
            return default
        if not isinstance(value, str) or "\0" in value:
            raise self.wrong(key)
        return value

    def one_of(self, key: str, choices: tuple[str, ...]) -> str:
        value = self.text(key, choices[0])
        if value not in choices:
            raise self.wrong(key)
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        value = self._value.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key)
        return value

    def number(self, key: str, default: int, low: int, high: int) -> int:
        value = self._value.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(key)
        return value

    def map(self, key: str) -> _Reader:
        return _Reader(self._value.get(key) or {}, f"{self.name}.{key}")

    def list(self, key: str) -> list[_Reader]:
        value = self._value.get(key) or []
        if not isinstance(value, list):
            raise self.wrong(key)
        return [_Reader(item, f"{self.name}.{key}[{index}]") for index, item in enumerate(value)]

    def words(self, key: str) -> tuple[str, ...]:
        value = self._value.get(key) or []
        if not isinstance(value, list) or not all(isinstance(w, str) and "\0" not in w for w in value):
            raise self.wrong(key)
        return tuple(value)

    def variables(self) -> tuple[tuple[str, str], ...]:
        found = []
        for key in self._value:
            if not isinstance(key, str) or not _VARIABLE.fullmatch(key):
                raise self.wrong(str(key)[:80])
            found.append((key, self.text(key)))
        return tuple(found)

    def system(self, needed: bool) -> str:
        value = self.text("system", "linux" if needed else "")
        if (value or needed) and not SYSTEM.fullmatch(value):
            raise self.wrong("system")
        return value


def _script(given: _Reader) -> Script:
    phase = given.one_of("phase", ("post", "pre"))
    text = given.text("text")
    system = given.system(needed=False)
    if not text.strip() or len(text) > MAX_SCRIPT:
        raise given.wrong("text")
    if phase == "pre" and system:
        raise given.wrong("system")
    return Script(
        name=given.text("name", "script"),
        phase=phase,
        text=text,
        arguments=given.words("arguments"),
        environment=given.map("environment").variables(),
        system=system,
        seconds=given.number("seconds", 300, 1, MAX_SECONDS),
        on_error=given.one_of("on_error", ("fail", "continue")),
    )


def _drop(given: _Reader) -> Drop:
    path = given.text("path")
    parts(path)
    mode, owner, hash = given.text("mode"), given.text("owner"), given.text("hash")
    if (mode and not re.fullmatch(r"0?[0-7]{3,4}", mode)) or (
        owner and not re.fullmatch(r"[0-9]{1,9}:[0-9]{1,9}", owner)
    ):
        raise given.wrong("mode")
    content: bytes | None = None
    if text := given.text("content"):
        try:
            content = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise given.wrong("content") from error
    elif not hash:
        content = b""
    if hash and not _HASH.fullmatch(hash):
        raise given.wrong("hash")
    user, _, group = owner.partition(":")
    return Drop(
        name=given.text("name", path),
        path=path,
        system=given.system(needed=True),
        mode=int(mode, 8) if mode else None,
        owner=(int(user), int(group)) if owner else None,
        content=content,
        hash=hash,
        size=given.number("size", 0, 0, 1 << 42),
    )


def _windows(given: _Reader) -> Windows:
    join = given.map("join")
    wanted = Join(*(join.text(field.name) for field in dataclasses.fields(Join)))
    drivers = given.map("drivers")
    files = []
    for item in drivers.list("files"):
        parts(item.text("path"))
        files.append((item.text("path"), item.number("size", 0, 0, 1 << 42)))
    path = drivers.text("path", "C:\\Drivers")
    parts(path)
    return Windows(
        name=given.one_of("name", WINDOWS_NAMES),
        time_zone=given.text("time_zone"),
        locale=given.text("locale"),
        language=given.text("language"),
        keyboard=given.text("keyboard"),
        owner=given.text("owner"),
        organization=given.text("organization"),
        join=wanted if wanted != Join() else None,
        drivers_path=path,
        drivers=tuple(files),
        install_drivers=drivers.flag("install", True),
    )
