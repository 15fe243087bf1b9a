"""Entries of the menu on real firmware: CD images, the memory test, passwords under Secure Boot, and a
registration that is chosen late."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pxeboot.lab.console import Console
from tests.pxeboot.boot.machines import MAC, PASSWORD, SLOW, Firmware, Site, machine, on_firmware

pytestmark = on_firmware
# What the CD's own GRUB shows; it is loaded by the firmware.
BY_ITS_LOADER = "FAKE CD BY ITS OWN LOADER"
# What our GRUB shows of the CD's menu for that.
BY_OUR_GRUB = "FAKE CD BY LOOPBACK"
MEMTEST = r"Memtest86\+"


@pytest.fixture(scope="module")
def plain_cd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CD image for BIOS and UEFI with a small GRUB that says so, and nothing else."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "tree").mkdir()
    (folder / "core.cfg").write_text(f"echo {BY_ITS_LOADER} ...\nsleep 60\n")
    for form, name, modules in (
        ("i386-pc-eltorito", "tree/bios.img", ["biosdisk"]),
        ("x86_64-efi", "BOOTX64.EFI", []),
    ):
        command = ["grub-mkimage", "-O", form, "-p", "/", "-c", folder / "core.cfg", "-o", folder / name]
        run(*command, "echo", "sleep", *modules)
    run("mformat", "-C", "-f", "2880", "-i", folder / "tree/efi.img", "::")
    run("mmd", "-i", folder / "tree/efi.img", "::EFI", "::EFI/BOOT")
    run("mcopy", "-i", folder / "tree/efi.img", folder / "BOOTX64.EFI", "::EFI/BOOT")
    boot = ["-b", "bios.img", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"]
    boot += ["-eltorito-alt-boot", "-e", "efi.img", "-no-emul-boot"]
    return cd_image(folder / "plain.iso", folder / "tree", *boot)


@pytest.fixture(scope="module")
def live_cd(tmp_path_factory: pytest.TempPathFactory, boot_files: Path) -> Path:
    """A CD image with Debian's kernel and a menu for those who start it from a file."""
    folder = tmp_path_factory.mktemp("live")
    (folder / "tree/boot/grub").mkdir(parents=True)
    shutil.copy(boot_files / "vmlinuz", folder / "tree/vmlinuz")
    (folder / "tree/boot/grub/loopback.cfg").write_text(
        f'echo "{BY_OUR_GRUB} $iso_path"\nlinux /vmlinuz console=ttyS0 panic=-1\nboot\n'
    )
    return cd_image(folder / "live.iso", folder / "tree")


def cd_image(image: Path, tree: Path, *more: str) -> Path:
    run("xorriso", "-as", "mkisofs", "-R", "-o", image, *more, tree)
    return image


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"


def test_bios_starts_a_cd_image(site: Site, tmp_path: Path, plain_cd: Path) -> None:
    site.host(default="entry:rescue")
    site.entry("rescue", "iso", params={"file": site.bring(plain_cd)})
    with machine(site, tmp_path, site.script()) as console:
        console.expect("Starting: Entry rescue", SLOW)
        console.expect(BY_ITS_LOADER, SLOW)


def test_uefi_starts_a_cd_image_that_has_a_loader_only(site: Site, tmp_path: Path, plain_cd: Path) -> None:
    site.host(default="entry:rescue")
    site.entry("rescue", "iso", params={"file": site.bring(plain_cd)})
    with machine(site, tmp_path, "shimx64.efi", firmware="uefi") as console:
        console.expect("Starting: Entry rescue", SLOW)
        console.expect(BY_ITS_LOADER, SLOW)


def test_a_secure_menu_with_passwords_and_what_is_not_signed(
    site: Site, tmp_path: Path, plain_cd: Path, live_cd: Path
) -> None:
    site.host(menu="always", menu_seconds=0)
    site.entry("test", "memtest", key="m")
    site.entry("plain", "iso", key="p", params={"file": site.bring(plain_cd)})
    site.entry("live", "iso", key="d", params={"file": site.bring(live_cd)}, password=PASSWORD)
    with machine(site, tmp_path, "shimx64.efi", firmware="secure") as console:
        console.expect("Start Linux", SLOW)
        for key in "ec":
            log_in(console, key, "nobody", "")
            console.expect("Start Linux", SLOW)
        console.send("m")
        console.expect("Secure Boot is on, and this program is not signed", SLOW)
        console.send("\x1b")
        console.expect("Start Linux", SLOW)
        console.send("p")
        console.expect("This CD image brings no menu for this", SLOW)
        console.send("\x1b")
        console.expect("Start Linux", SLOW)
        log_in(console, "d", "live", "wrong-one")
        console.expect("Start Linux", SLOW)
        log_in(console, "d", "live", PASSWORD)
        console.expect("Starting: Entry live", SLOW)
        console.expect(BY_OUR_GRUB, SLOW)
        console.expect("Linux version", SLOW)


def log_in(console: Console, key: str, name: str, password: str) -> None:
    """Choose something in GRUB's menu that asks for name and password."""
    console.send(key)
    console.expect("Enter username:", SLOW)
    console.send(f"{name}\r")
    console.expect("Enter password:", SLOW)
    console.send(f"{password}\r")


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_the_memory_test(site: Site, tmp_path: Path, firmware: Firmware) -> None:
    site.host(default="entry:test")
    site.entry("test", "memtest")
    loader = site.script() if firmware == "bios" else "shimx64.efi"
    with machine(site, tmp_path, loader, firmware=firmware) as console:
        console.expect("Starting: Entry test", SLOW)
        console.expect(MEMTEST, SLOW)


@pytest.mark.parametrize("site", [{"menu_seconds": 0}], indirect=True)
@pytest.mark.parametrize("loader", ["script", "ipxe.efi"])
def test_registering_at_a_menu_that_waited_for_long(site: Site, tmp_path: Path, loader: str) -> None:
    """An iPXE that another DHCP server starts without a script finds its own by `autoexec.ipxe`."""
    first = site.script() if loader == "script" else loader
    with machine(site, tmp_path, first, firmware="bios" if loader == "script" else "uefi") as console:
        console.expect("is not registered", SLOW)
        console.expect("answer questions", SLOW)
        assert site.tokens() == []
        console.send("r")
        console.expect("Loading the boot environment", SLOW)
        console.expect("initrd.img", SLOW)
        assert [token.mac for token in site.tokens()] == [MAC]
