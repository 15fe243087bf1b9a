"""Reading the settings again while the daemon runs: all of a good file is used, nothing of a bad one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from pxeboot.adapters.bootservices import BootServices
from pxeboot.adapters.container import Services
from pxeboot.adapters.interfaces import InterfaceFacts
from pxeboot.adapters.plan import make_plan, together
from pxeboot.errors import AppError, ConfigError
from pxeboot.settings import Settings, read, refuse

log = logging.getLogger("pxeboot")

# What a running daemon cannot change: sockets that are bound, files that are open.
FIXED: Final = (
    "server.data_dir",
    "server.log_format",
    "network",
    "http",
    "tftp",
    "images.store_dir",
    "images.reserve_mb",
    "doctor",
)


class SettingsRefused(ConfigError):
    """A file with mistakes: the daemon goes on with the settings it has."""

    code: ClassVar[str] = "settings-refused"
    status: ClassVar[int] = 422
    title: ClassVar[str] = "Settings refused"


@dataclass(frozen=True)
class Reloaded:
    """What became of it: keys that have new values; keys whose new values wait for a restart; warnings."""

    changed: tuple[str, ...]
    kept: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """For the log and the journal."""
        text = f"The settings were read again; changed: {', '.join(self.changed) or 'nothing'}."
        if self.kept:
            text += f" Only a restart changes {', '.join(self.kept)}: the old values stay."
        return text


class Reloader:
    """Knows the file; one reload at a time."""

    def __init__(
        self,
        services: Services,
        boot: BootServices | None,
        interfaces: tuple[InterfaceFacts, ...],
        path: Path | None,
    ) -> None:
        self._services, self._boot, self._interfaces, self._path = services, boot, interfaces, path
        self._lock = asyncio.Lock()

    async def reload(self) -> Reloaded:
        """Read, judge, take over. SettingsRefused with every mistake; then everything is as before."""
        async with self._lock:
            try:
                done = await self._reload()
            except AppError as error:
                log.error("the settings were not taken over:\n%s", error.sentence)
                sentence = f"The new settings were refused, the old ones stay: {error.sentence}"
                self._record("settings.refused", sentence, {"mistakes": error.data.get("errors", [])})
                raise SettingsRefused(error.sentence, **error.data) from error
        log.info("%s", done.sentence)
        for warning in done.warnings:
            log.warning("%s", warning)
        self._record("settings.reloaded", done.sentence, {"changed": done.changed, "kept": done.kept})
        return done

    async def _reload(self) -> Reloaded:
        services, old = self._services, self._services.settings
        reading = await asyncio.to_thread(read, self._path)
        new, kept = keep_fixed(old, reading.settings)
        plan = make_plan(new, self._interfaces)
        told = together(reading.mistakes, plan, reading.file)
        refuse(told)
        services.settings = new
        if self._boot is not None:
            try:
                await self._boot.use(new, plan)
            except BaseException:
                services.settings = old
                raise
        services.sessions.use(new)
        logging.getLogger().setLevel(new.server.log_level.upper())
        return Reloaded(tuple(differences(old, new)), kept, tuple(one.sentence for one in told))

    def _record(self, kind: str, sentence: str, data: Mapping[str, Any]) -> None:
        self._services.journal.record("server", kind, sentence, data=dict(data))


def keep_fixed(old: Settings, new: Settings) -> tuple[Settings, tuple[str, ...]]:
    """`new` with the old values of what cannot change, and the keys of those that would have."""
    kept: list[str] = []
    for name in FIXED:
        section, _, key = name.partition(".")
        was, wanted = getattr(old, section), getattr(new, section)
        if not key:
            kept += [f"{section}.{each}" for each in _differing(was, wanted)]
            new = new.model_copy(update={section: was})
        elif getattr(was, key) != getattr(wanted, key):
            kept.append(name)
            new = new.model_copy(update={section: wanted.model_copy(update={key: getattr(was, key)})})
    return new, tuple(kept)


def differences(old: Settings, new: Settings) -> list[str]:
    """The keys with other values."""
    return [
        f"{section}.{key}"
        for section in Settings.model_fields
        for key in _differing(getattr(old, section), getattr(new, section))
    ]


def _differing(old: Any, new: Any) -> list[str]:
    return [key for key in type(old).model_fields if getattr(old, key) != getattr(new, key)]
