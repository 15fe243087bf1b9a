"""What the loaders are told: one GRUB configuration or iPXE script per decision, from templates.

Both languages are rendered by a Jinja2 environment without HTML escaping and with StrictUndefined. Every
value goes through a filter of its language (`pxeboot.boot.quoting`). What the two menus offer, in which order
and under which keys, is said once, in `menu_items`.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from pxeboot.boot.decide import BootDecision, Firmware
from pxeboot.boot.quoting import (
    WORD,
    ScriptError,
    grub_quote,
    grub_text,
    grub_word,
    ipxe_argument,
    ipxe_text,
    ipxe_word,
    one_line,
)
from pxeboot.boot.rules import MenuEntry
from pxeboot.boot.texts import MenuTexts, menu_texts

__all__ = [
    "MenuItem",
    "MenuTexts",
    "ScriptContext",
    "ScriptError",
    "grub_config",
    "grub_local",
    "grub_quote",
    "grub_stub",
    "ipxe_autoexec",
    "ipxe_refusal",
    "ipxe_script",
    "ipxe_text",
    "ipxe_word",
    "menu_items",
    "menu_texts",
    "pxelinux_config",
]

# Of the installed systems' own signed loaders; `{}` is the processor in the words of UEFI file names.
LINUX_LOADERS: Final = (
    "/EFI/debian/shim{}.efi",
    "/EFI/ubuntu/shim{}.efi",
    "/EFI/fedora/shim{}.efi",
    "/EFI/rocky/shim{}.efi",
    "/EFI/almalinux/shim{}.efi",
    "/EFI/redhat/shim{}.efi",
    "/EFI/centos/shim{}.efi",
    "/EFI/opensuse/shim.efi",
)
WINDOWS_LOADERS: Final = ("/EFI/Microsoft/Boot/bootmgfw.efi",)
FALLBACK_LOADER: Final = "/EFI/BOOT/BOOT{}.EFI"
GRUB_FOLDERS: Final = ("/boot/grub", "/grub", "/boot/grub2", "/grub2")
# Their words in the names of loaders (UEFI 2.10 §3.5.1.1).
PROCESSORS: Final[dict[Firmware, str]] = {
    "uefi-x64": "x64",
    "uefi-ia32": "ia32",
    "uefi-arm64": "aa64",
    "uefi-arm32": "arm",
    "uefi-riscv64": "riscv64",
    "uefi-loongarch64": "loongarch64",
}
# GRUB's names of where it runs, `$grub_cpu-$grub_platform`.
GRUB_PLATFORMS: Final[dict[Firmware, str]] = {
    "bios": "i386-pc",
    "uefi-x64": "x86_64-efi",
    "uefi-ia32": "i386-efi",
    "uefi-arm64": "arm64-efi",
    "uefi-arm32": "arm-efi",
    "uefi-riscv64": "riscv64-efi",
    "uefi-loongarch64": "loongarch64-efi",
}

# A machine with an empty disk asks again for ten minutes.
WAITS: Final = 20
WAIT_SECONDS: Final = 30
MESSAGE_SECONDS: Final = 15


@dataclass(frozen=True, slots=True)
class ScriptContext:
    """What a script needs besides the decision.

    `base_url`: ours as this machine reaches it, `http://ADDRESS[:PORT]`. `token`: of this boot, needed by the
    action `agent`. `key`: our Ed25519 public key in hex. `kernel_arguments`:
    words added to the kernel's command line. `firmware` is the client's.
    """

    base_url: str
    mac: str
    token: str = ""
    key: str = ""
    language: str = "en"
    kernel_arguments: str = "console=tty0 console=ttyS0,115200 quiet loglevel=4 panic=30"
    kernel: str = "vmlinuz"
    initrd: str = "initrd.img"
    firmware: Firmware = "uefi-x64"
    texts: MenuTexts = field(default_factory=MenuTexts)


@dataclass(frozen=True, slots=True)
class MenuItem:
    """One line of a menu. `what`: `local`, `register` or `entry`; `how` the strategy or the agent's mode."""

    id: str
    text: str
    key: str
    what: str
    how: str = ""
    entry: MenuEntry | None = None


def menu_items(decision: BootDecision, texts: MenuTexts) -> list[MenuItem]:
    """The lines of both menus, hidden entries last with an empty text."""
    items = [MenuItem("local", texts.local, "l", "local", decision.local)]
    if decision.systems:
        items.append(MenuItem("windows", texts.windows, "w", "local", "windows"))
        items.append(MenuItem("linux", texts.linux, "x", "local", "linux"))
    if decision.registers:
        items.append(MenuItem("register-quick", texts.register_quick, "r", "register", "register-quick"))
        items.append(MenuItem("register-full", texts.register_full, "q", "register", "register-full"))
    for entry in sorted(decision.entries, key=lambda each: each.hidden):
        text = "" if entry.hidden else entry.title
        items.append(MenuItem(f"entry-{entry.name}", text, entry.key, "entry", entry=entry))
    return items


def grub_stub(base_url: str, texts: MenuTexts | None = None, mac: str = "") -> str:
    """The `grub/grub.cfg` that a GRUB from us reads by TFTP (or HTTP): asks for the machine's own, by MAC.

    `mac` where the name of the file told it; else GRUB's own `$net_default_mac`.
    """
    context = ScriptContext(base_url, mac, texts=texts or MenuTexts())
    return _render("stub.grub.j2", None, context)


def grub_config(decision: BootDecision, context: ScriptContext) -> str:
    """The answer to `GET /boot/grub/{mac}`. Raises `ScriptError`."""
    return _render("host.grub.j2", decision, context)


def grub_local(how: str, context: ScriptContext) -> str:
    """A configuration that starts the own disk as `how` says (or `firmware-setup`): what iPXE hands over to
    GRUB. Raises `ScriptError`."""
    return _render("handed.grub.j2", None, context, how=how)


def ipxe_script(decision: BootDecision, context: ScriptContext, *, chosen: bool = False) -> str:
    """The answer to `GET /boot/ipxe`; `chosen`: an entry of its menu that was paid for with a password.

    Raises `ScriptError`.
    """
    return _render("host.ipxe.j2", decision, context, chosen=chosen)


def ipxe_refusal(sentence: str, context: ScriptContext) -> str:
    """A script that shows a sentence and asks for the menu again. Raises `ScriptError`."""
    return _render("refusal.ipxe.j2", None, context, sentence=sentence)


def ipxe_autoexec(base_url: str) -> str:
    """`autoexec.ipxe`, which iPXE builds for UEFI ask for on their own: to the machine's script."""
    return _render("autoexec.ipxe.j2", None, ScriptContext(base_url, ""))


def pxelinux_config(base_url: str, mac: str = "") -> str:
    """A `pxelinux.cfg/…` that starts our iPXE with the machine's script."""
    return _render("pxelinux.cfg.j2", None, ScriptContext(base_url, mac))


def kernel_line(context: ScriptContext, mode: str) -> list[str]:
    """The kernel's command line, word by word (docs/ARCHITECTURE.md section 3). Raises `ScriptError`."""
    if not context.token or not context.key:
        raise ScriptError("A script that starts the agent needs a token and the server's key.")
    words = [
        f"pxeboot.url={context.base_url}",
        f"pxeboot.token={context.token}",
        f"pxeboot.key={context.key}",
        f"pxeboot.mac={context.mac}",
        f"pxeboot.mode={mode}",
        f"pxeboot.lang={context.language}",
    ]
    if any(not WORD.fullmatch(word) for word in words):
        raise ScriptError("A value of the kernel's command line holds a character not allowed there.")
    return [*words, *context.kernel_arguments.split()]


def entry_arguments(entry: MenuEntry) -> list[str]:
    """The kernel arguments of an entry, word by word."""
    words = entry.params.get("arguments", "").split()
    if preseed := entry.params.get("preseed"):
        words = ["auto=true", "priority=critical", f"url={preseed}", *words]
    return words


def serial_console(context: ScriptContext) -> list[str]:
    """The serial line among the site's kernel arguments, for memtest, which knows one and the screen."""
    words = context.kernel_arguments.split()
    return [word for word in words if word.startswith("console=ttyS")][:1]


def loaders(firmware: Firmware, how: str) -> list[str]:
    """Paths on an ESP that start a system of the kind `how` says, in the order to try them."""
    processor = PROCESSORS.get(firmware, "x64")
    linux = [path.format(processor) for path in LINUX_LOADERS]
    if how == "linux":
        return linux
    if how == "windows":
        return [*WINDOWS_LOADERS]
    return [*linux, *WINDOWS_LOADERS, FALLBACK_LOADER.format(processor.upper())]


_BASE_URL: Final = re.compile(r"http://([A-Za-z0-9.-]+(?::[0-9]{1,5})?)")


def _render(template: str, decision: BootDecision | None, context: ScriptContext, **more: Any) -> str:
    match = _BASE_URL.fullmatch(context.base_url)
    if match is None:
        raise ScriptError(f"{context.base_url!r} is not of the form http://ADDRESS[:PORT].")
    server = match[1]

    def url(file: str) -> str:
        """A file's URL: below `extra/` in our boot folder, unless it is a URL already."""
        return file if file.startswith("http://") else f"{context.base_url}/boot/files/extra/{file}"

    def grub_file(file: str) -> str:
        """The same as GRUB writes it: (http,HOST[:PORT])/path."""
        host, _, path = url(file).removeprefix("http://").partition("/")
        return f"(http,{host})/{path}"

    platform = GRUB_PLATFORMS.get(context.firmware, "x86_64-efi")
    mac = context.mac.replace(":", "-")
    own = f"(http,{server})/boot/grub/" + (mac if platform == "x86_64-efi" else f"{platform}/{mac}")
    values = {
        "decision": decision,
        "context": context,
        "texts": context.texts,
        "server": server,
        "bios": context.firmware == "bios",
        "loaders": functools.partial(loaders, context.firmware),
        "grub_folders": GRUB_FOLDERS,
        "grub_loader": "grub.0" if context.firmware == "bios" else "grubx64.efi",
        "config": own,
        "handed": f"(http,{server})/boot/grub/{platform}/{mac}",
        "waits": WAITS,
        "wait_seconds": WAIT_SECONDS,
        "message_seconds": MESSAGE_SECONDS,
        "kernel_line": functools.partial(kernel_line, context),
        "entry_arguments": entry_arguments,
        "serial_console": functools.partial(serial_console, context),
        "url": url,
        "grub_file": grub_file,
    }
    if decision is not None and decision.action == "menu":
        items = menu_items(decision, context.texts)
        wanted = (decision.default, f"entry-{decision.default}")
        values |= {"items": items, "default": next((i.id for i in items if i.id in wanted), "local")}
    return _environment().get_template(template).render(values | more)


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pxeboot.boot"),
        autoescape=False,  # these are programs for boot loaders, not HTML: their own filters quote
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        comment=one_line,
        grub=grub_quote,
        grub_text=grub_text,
        grub_word=grub_word,
        ipxe=ipxe_text,
        ipxe_argument=ipxe_argument,
        ipxe_word=ipxe_word,
    )
    return environment
