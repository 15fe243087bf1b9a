"""What the loaders are told: one GRUB configuration or iPXE script per decision, from templates.

Both languages are rendered by a Jinja2 environment without HTML escaping and with StrictUndefined. Every
value goes through a filter of its language (`grub`, `ipxe`, `ipxe_word`), so that no name of a host and no
translation can become a command; what a filter cannot say safely raises `ScriptError`.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from pxeboot.boot.decide import BootDecision

__all__ = [
    "MenuTexts",
    "ScriptContext",
    "ScriptError",
    "grub_config",
    "grub_stub",
    "ipxe_script",
    "menu_texts",
]


class ScriptError(ValueError):
    """A value cannot be written in the loader's language; the sentence names it."""


# Tried in this order on each local partition: the installed systems' own signed loaders, the generic name
# last.
UEFI_LOADERS: Final = (
    "/EFI/debian/shimx64.efi",
    "/EFI/ubuntu/shimx64.efi",
    "/EFI/fedora/shimx64.efi",
    "/EFI/rocky/shimx64.efi",
    "/EFI/almalinux/shimx64.efi",
    "/EFI/redhat/shimx64.efi",
    "/EFI/centos/shimx64.efi",
    "/EFI/opensuse/shim.efi",
    "/EFI/Microsoft/Boot/bootmgfw.efi",
    "/EFI/BOOT/BOOTX64.EFI",
)


# A machine with an empty disk asks again for ten minutes.
WAITS: Final = 20
WAIT_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class MenuTexts:
    """What people read on the boot console, in one language."""

    title: str = "pxeboot: this computer is not registered"
    local: str = "Start from its own disk"
    register_quick: str = "Register this computer"
    register_full: str = "Register this computer and answer questions"
    starting_local: str = "Starting from the local disk"
    starting_agent: str = "Loading the boot environment"
    no_system: str = "No system on the local disk: asking the server again in 30 seconds. Esc leaves."
    failed: str = "This did not work."
    refused: str = "This computer may not boot from the network."


def menu_texts(_: Callable[[str], str]) -> MenuTexts:
    """The texts in the language of the gettext function `_`."""
    return MenuTexts(
        title=_("pxeboot: this computer is not registered"),
        local=_("Start from its own disk"),
        register_quick=_("Register this computer"),
        register_full=_("Register this computer and answer questions"),
        starting_local=_("Starting from the local disk"),
        starting_agent=_("Loading the boot environment"),
        no_system=_("No system on the local disk: asking the server again in 30 seconds. Esc leaves."),
        failed=_("This did not work."),
        refused=_("This computer may not boot from the network."),
    )


@dataclass(frozen=True, slots=True)
class ScriptContext:
    """What a script needs besides the decision.

    `base_url`: ours as this machine reaches it, `http://ADDRESS[:PORT]`. `token`: of this boot, needed by the
    actions `agent` and `menu`. `key`: our Ed25519 public key in hex. `kernel_arguments`: words added to the
    kernel's command line.
    """

    base_url: str
    mac: str
    token: str = ""
    key: str = ""
    language: str = "en"
    kernel_arguments: str = "console=tty0 console=ttyS0,115200 quiet loglevel=4 panic=30"
    kernel: str = "vmlinuz"
    initrd: str = "initrd.img"
    local_boot: Literal["search", "firmware"] = "search"
    """How UEFI machines start their own disk: look for a loader on it, or hand back to the firmware's next
    entry."""
    texts: MenuTexts = field(default_factory=MenuTexts)


def grub_stub(base_url: str, texts: MenuTexts | None = None) -> str:
    """The `grub/grub.cfg` that Debian's signed GRUB reads by TFTP (or HTTP): asks for the machine's own, by
    MAC."""
    context = ScriptContext(base_url, "", texts=texts or MenuTexts())
    return _render("stub.grub.j2", None, context)


def grub_config(decision: BootDecision, context: ScriptContext) -> str:
    """The answer to `GET /boot/grub/{mac}`. Raises `ScriptError`."""
    return _render("host.grub.j2", decision, context)


def ipxe_script(decision: BootDecision, context: ScriptContext) -> str:
    """The answer to `GET /boot/ipxe`. Raises `ScriptError`."""
    return _render("host.ipxe.j2", decision, context)


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
    if any(not _WORD.fullmatch(word) for word in words):
        raise ScriptError("A value of the kernel's command line holds a character not allowed there.")
    return [*words, *context.kernel_arguments.split()]


# Printable ASCII without what GRUB, iPXE or the kernel's own parser could take for something else.
_WORD: Final = re.compile(r"[A-Za-z0-9._:/=,@%+\[\]-]+")
_PLAIN: Final = str.maketrans({"’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "œ": "oe", "ß": "ss"})
_BASE_URL: Final = re.compile(r"http://([A-Za-z0-9.-]+(?::[0-9]{1,5})?)")


def grub_quote(text: str) -> str:
    """`text` as one word of GRUB's language: in single quotes, where nothing is special but the quote
    itself."""
    return "'" + _one_line(text).replace("'", "'\\''") + "'"


def ipxe_text(text: str) -> str:
    """`text` as the last words of an iPXE `echo --`, `menu --` or `item` line.

    iPXE has no quotes: a line is cut at white space, `||`, `&&` and `;` as words of their own end a command,
    a word that begins with `#` starts a comment, and `${` begins a setting (src/core/exec.c). Each is changed
    as little as will make it plain text.
    """
    words = []
    for word in _one_line(text).replace("${", "$(").split():
        if word in ("||", "&&", ";"):
            word = {"||": "|", "&&": "&", ";": ","}[word]
        words.append("'" + word if word.startswith("#") else word)
    return " ".join(words)


def ipxe_word(text: str) -> str:
    """`text` unchanged if iPXE reads it as one plain word. Raises `ScriptError`."""
    if not text or text.startswith(("#", "-")) or not re.fullmatch(r"[!-~]+", text) or "${" in text:
        raise ScriptError(f"{text[:60]!r} cannot be a word of an iPXE script.")
    if text in ("||", "&&", ";"):
        raise ScriptError(f"{text!r} would end the iPXE command.")
    return text


def _one_line(text: str) -> str:
    """Printable ASCII on one line, accents dropped.

    iPXE up to 2019 (QEMU's ROM) shows UTF-8 as line-drawing characters, and EDK2 drops on its serial
    console what is not ASCII; the two menus must look alike everywhere.
    """
    text = unicodedata.normalize("NFKD", text.translate(_PLAIN))
    text = "".join(c for c in text if not unicodedata.combining(c))
    return "".join(c if c.isascii() and c.isprintable() else " " if c.isspace() else "?" for c in text)


def _render(template: str, decision: BootDecision | None, context: ScriptContext) -> str:
    match = _BASE_URL.fullmatch(context.base_url)
    if match is None:
        raise ScriptError(f"{context.base_url!r} is not of the form http://ADDRESS[:PORT].")
    return (
        _environment()
        .get_template(template)
        .render(
            decision=decision,
            context=context,
            texts=context.texts,
            server=match[1],
            loaders=UEFI_LOADERS,
            waits=WAITS,
            wait_seconds=WAIT_SECONDS,
            kernel_line=functools.partial(kernel_line, context),
        )
    )


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
    environment.filters.update(comment=_one_line, grub=grub_quote, ipxe=ipxe_text, ipxe_word=ipxe_word)
    return environment
