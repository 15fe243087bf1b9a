"""What people read on the boot console, in one language."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["MenuTexts", "menu_texts"]


@dataclass(frozen=True, slots=True)
class MenuTexts:
    """The sentences of menus and scripts; the loaders' filters reduce them to ASCII."""

    title: str = "pxeboot: this computer is not registered"
    title_known: str = "pxeboot: what shall this computer start?"
    local: str = "Start from its own disk"
    windows: str = "Start Windows"
    linux: str = "Start Linux"
    register_quick: str = "Register this computer"
    register_full: str = "Register this computer and answer questions"
    starting_local: str = "Starting from the local disk"
    starting_agent: str = "Loading the boot environment"
    starting_entry: str = "Starting:"
    not_found: str = "This system was not found on the disks. Starting what is there."
    no_system: str = "No system on the local disk: asking the server again in 30 seconds. Esc leaves."
    failed: str = "This did not work."
    unsigned: str = "Secure Boot is on, and this program is not signed: it cannot be started here."
    no_cd_menu: str = "This CD image brings no menu for this (loopback.cfg): it cannot be started here."
    no_cd_by_http: str = "CD images cannot be read after UEFI HTTP Boot: let this computer boot by PXE."
    needs_ipxe: str = "This works on machines that boot with iPXE only."
    refused: str = "This computer may not boot from the network."
    wrong_password: str = "The name or the password is wrong."
    throttled: str = "Too many failed attempts. Try again later."


def menu_texts(_: Callable[[str], str]) -> MenuTexts:
    """The texts in the language of the gettext function `_`."""
    return MenuTexts(
        title=_("pxeboot: this computer is not registered"),
        title_known=_("pxeboot: what shall this computer start?"),
        local=_("Start from its own disk"),
        windows=_("Start Windows"),
        linux=_("Start Linux"),
        register_quick=_("Register this computer"),
        register_full=_("Register this computer and answer questions"),
        starting_local=_("Starting from the local disk"),
        starting_agent=_("Loading the boot environment"),
        starting_entry=_("Starting:"),
        not_found=_("This system was not found on the disks. Starting what is there."),
        no_system=_("No system on the local disk: asking the server again in 30 seconds. Esc leaves."),
        failed=_("This did not work."),
        unsigned=_("Secure Boot is on, and this program is not signed: it cannot be started here."),
        no_cd_menu=_("This CD image brings no menu for this (loopback.cfg): it cannot be started here."),
        no_cd_by_http=_("CD images cannot be read after UEFI HTTP Boot: let this computer boot by PXE."),
        needs_ipxe=_("This works on machines that boot with iPXE only."),
        refused=_("This computer may not boot from the network."),
        wrong_password=_("The name or the password is wrong."),
        throttled=_("Too many failed attempts. Try again later."),
    )
