"""The tree of boot files that loaders see by TFTP and HTTP: the boot folder, and files made up per machine.

A real file wins over a made-up one of the same name, so that a site can replace any of them. Everything
answers from memory, on the event loop: made-up files only send the loader on to `/boot/…` by HTTP, where the
decision is.
"""

from __future__ import annotations

import functools
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from pxeboot.boot.scripts import grub_stub, ipxe_autoexec, menu_texts, pxelinux_config
from pxeboot.i18n import translations
from pxeboot.settings import Settings
from tftp.files import Files, Folder, Peer, normalise
from tftp.transfer import Content

__all__ = ["BootTree", "FileNotes", "tftp_files", "virtual_file"]

_HEX = "[0-9a-fA-F]"
_MAC: Final = rf"(?P<mac>(?:{_HEX}{{2}}[:-]){{5}}{_HEX}{{2}})"
_UUID: Final = rf"{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}"
_ADDRESS: Final = r"[0-9A-F]{1,8}"  # IPv4 in hex, shortened from the right by loaders that search
# GRUB's own search (grub-core/net/net.c), with the names other servers use; Debian's looks for the folder of
# its platform first. PXELINUX writes 01 (Ethernet) before the MAC.
_GRUB: Final = re.compile(
    rf"grub/(?:[a-z0-9_]+-[a-z]+/)?grub\.cfg(?:-(?:(?:01-)?{_MAC}|{_UUID}|{_ADDRESS}))?"
)
_PXELINUX: Final = re.compile(rf"pxelinux\.cfg/(?:01-{_MAC}|{_UUID}|{_ADDRESS}|default)")


@functools.lru_cache(maxsize=4096)
def _text(kind: str, base_url: str, language: str, mac: str) -> bytes:
    if kind == "grub":
        return grub_stub(base_url, menu_texts(translations(language).gettext), mac).encode()
    if kind == "pxelinux":
        return pxelinux_config(base_url, mac).encode()
    return ipxe_autoexec(base_url).encode()


def virtual_file(name: str, base_url: str, language: str) -> bytes | None:
    """The made-up file of this (normalised) name, or None. `base_url` is ours as the machine reaches it."""
    if name == "autoexec.ipxe":
        return _text("ipxe", base_url, language, "")
    for kind, pattern in (("grub", _GRUB), ("pxelinux", _PXELINUX)):
        if match := pattern.fullmatch(name):
            mac = (match["mac"] or "").lower().replace("-", ":")
            return _text(kind, base_url, language, mac)
    return None


class BootTree:
    """`tftp.files.Files`: what is in the boot folder, else what we make up."""

    def __init__(self, settings: Settings, base_url_at: Callable[[str], str]) -> None:
        self._folder: Files = Folder(settings.boot_dir)
        self._language = settings.server.language
        self._base_url_at = base_url_at

    def open(self, name: str, peer: Peer, local: str = "") -> Content | None:
        """See `tftp.files.Files.open`."""
        name = normalise(name)
        real = self._folder.open(name, peer, local)
        return virtual_file(name, self._base_url_at(local), self._language) if real is None else real


def tftp_files(settings: Settings, base_url_at: Callable[[str], str]) -> Files:
    """The tree for the TFTP server; `base_url_at(local)` is our URL for machines that asked at `local`."""
    return BootTree(settings, base_url_at)


class FileNotes:
    """Which files were noted lately for whom, so that one boot gives one line of the journal for each file.

    A loader asks for the same file several times (HEAD, GET, the rest after a break, three tries). Bounded:
    the oldest is forgotten. From any thread.
    """

    SECONDS: Final = 60.0
    MOST: Final = 8192

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted: OrderedDict[tuple[str, str], float] = OrderedDict()

    def is_new(self, address: str, name: str, now: float) -> bool:
        """Whether this deserves a note; if so, it counts as made. `now` in seconds, monotonic."""
        key = (address, name)
        with self._lock:
            before = self._noted.pop(key, None)
            self._noted[key] = now
            if len(self._noted) > self.MOST:
                self._noted.popitem(last=False)
        return before is None or now - before > self.SECONDS
