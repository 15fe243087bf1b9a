"""The scripts on real firmware: ways to the own disk, and menus.

What the whole daemon does with firmware is seen in tests/e2e; more entries in test_machine_entries.
"""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import Any

import pytest

from pxeboot.lab import disks
from pxeboot.lab.disks import Partition
from tests.pxeboot.boot.machines import PASSWORD, SLOW, Site, machine, on_firmware

pytestmark = on_firmware


def printer(at: int, text: str) -> bytes:
    """A 16-bit program at address `at` that writes on the BIOS's screen and stops."""
    code = bytearray(b"\x31\xc0\x8e\xd8\xfc\xbe\0\0")  # xor ax,ax; mov ds,ax; cld; mov si,TEXT
    code += b"\xac\x08\xc0\x74\x09"  # again: lodsb; or al,al; jz stop
    code += b"\xb4\x0e\xbb\x07\x00\xcd\x10\xeb\xf2"  # mov ah,0eh; mov bx,7; int 10h; jmp again
    code += b"\xf4\xeb\xfd"  # stop: hlt; jmp stop
    struct.pack_into("<H", code, 6, at + len(code))
    # SeaBIOS shows the last character on the serial line when the next one comes.
    return bytes(code) + b"\r\n" + text.encode() + b" ...\r\n\0"


def write(disk: Path, at: int, content: bytes) -> None:
    with disk.open("r+b") as file:
        file.seek(at)
        file.write(content)


@pytest.fixture(scope="module")
def bios_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dual-boot disk with an MBR: on the first partition what looks like Windows, on the second a GRUB."""
    folder = tmp_path_factory.mktemp("bios")
    disk = folder / "disk.raw"
    windows, linux = Partition("c", 1, 40), Partition("83", 41, 16)
    disks.create(disk, 60 << 20)
    disks.write_table(disk, "dos", [windows, linux])
    disks.make_fat(disk, windows, volume_id="12345678", label="WIN", files={"bootmgr": b"not really"})
    write(disk, windows.offset + 90, printer(0x7C00 + 90, "FAKE WINDOWS HERE"))
    write(disk, 0, printer(0x7C00, "FAKE MBR HERE"))
    tree = folder / "tree/boot/grub/i386-pc"
    tree.mkdir(parents=True)
    (tree / "core.img").write_bytes(multiboot_kernel("FAKE LINUX HERE"))
    disks.make_ext4(disk, linux, tree=folder / "tree")
    return disk


def multiboot_kernel(text: str) -> bytes:
    """What looks like an installed GRUB's core.img: a Multiboot kernel that writes on the serial line."""
    at = 1 << 20
    code = bytearray(b"\xfc\xbe\0\0\0\0")  # cld; mov esi,TEXT
    code += b"\xac\x84\xc0\x74\x07"  # again: lodsb; test al,al; jz stop
    code += b"\x66\xba\xf8\x03\xee\xeb\xf4"  # mov dx,3f8h; out dx,al; jmp again
    code += b"\xf4\xeb\xfd"  # stop: hlt; jmp stop
    struct.pack_into("<I", code, 2, at + 32 + len(code))
    words = [0x1BADB002, 0x10000, -(0x1BADB002 + 0x10000) & 0xFFFFFFFF, at, at]
    content = bytes(code) + text.encode() + b"\r\n\0"
    end = at + 32 + len(content)
    header = struct.pack("<8I", *words, end, end, at + 32)
    return header + content


@pytest.fixture(scope="module")
def uefi_disk(tmp_path_factory: pytest.TempPathFactory, boot_files: Path) -> Path:
    """A dual-boot disk with an ESP: at the places of Windows' and Debian's loaders lies what can be told from
    ours, an iPXE."""
    disk = tmp_path_factory.mktemp("uefi") / "disk.raw"
    esp = Partition("c12a7328-f81f-11d2-ba4b-00c04ffb93eb", 1, 48)
    ipxe = (boot_files / "ipxe.efi").read_bytes()
    files = {"EFI/Microsoft/Boot/bootmgfw.efi": ipxe, "EFI/debian/shimx64.efi": ipxe}
    disks.create(disk, 52 << 20)
    disks.write_table(disk, "gpt", [esp])
    disks.make_fat(disk, esp, volume_id="12345678", label="ESP", files=files)
    return disk


@pytest.mark.parametrize(
    ("rules", "shows"),
    [
        ({"default": "windows"}, "FAKE WINDOWS HERE"),
        ({"local_boot": "partition:hd0,msdos2"}, "FAKE LINUX HERE"),
        ({}, "FAKE MBR HERE"),
    ],
)
def test_a_bios_machine_starts_one_of_its_systems(
    site: Site, tmp_path: Path, bios_disk: Path, rules: dict[str, Any], shows: str
) -> None:
    site.host(**rules)
    with machine(site, tmp_path, site.script(), bios_disk) as console:
        console.expect(shows, SLOW)


def test_a_bios_menu_with_a_password_and_a_hidden_entry(site: Site, tmp_path: Path, bios_disk: Path) -> None:
    site.host(menu="always", menu_seconds=0)
    site.entry("tools", "shell", password=PASSWORD, key="t", hidden=True)
    with machine(site, tmp_path, site.script(), bios_disk) as console:
        console.expect("what shall this computer start", SLOW)
        console.expect("Start Linux", SLOW)
        assert "Entry tools" not in console.text
        console.send("t")
        console.expect("Username:", SLOW)
        console.send("\t")
        time.sleep(1)
        console.send("wrong-one\r")
        console.expect("password is wrong", SLOW)
        console.expect("Start Linux", SLOW)
        console.send("t")
        console.expect("Username:", SLOW)
        console.send("\t")
        time.sleep(1)
        console.send(PASSWORD + "\r")
        console.expect("Starting: Entry tools", SLOW)
        console.expect("iPXE>", SLOW)
        console.send("exit\r")
        console.expect("Start Linux", SLOW)
        console.send("x")
        console.expect("FAKE LINUX HERE", SLOW)


def test_a_uefi_menu_with_a_password_and_a_locked_command_line(
    site: Site, tmp_path: Path, uefi_disk: Path
) -> None:
    site.host(menu="always", menu_seconds=0)
    site.entry("tools", "shell", password=PASSWORD, key="t", hidden=True)
    with machine(site, tmp_path, "shimx64.efi", uefi_disk, "uefi") as console:
        console.expect("Start Linux", SLOW)
        assert "Entry tools" not in console.text
        console.send("c")
        console.expect("Enter username:", SLOW)
        console.send("nobody\r")
        console.expect("Enter password:", SLOW)
        console.send("\r")
        console.expect("Start Linux", SLOW)
        console.send("t")
        console.expect("Enter username:", SLOW)
        console.send("tools\r")
        console.expect("Enter password:", SLOW)
        console.send(PASSWORD + "\r")
        console.expect("Starting: Entry tools", SLOW)
        console.expect("grub>", SLOW)
        console.send('configfile "$config"\r')
        console.expect("Start Linux", SLOW)
        console.send("w")
        console.expect("EFI/Microsoft/Boot/bootmgfw.efi", SLOW)
        console.expect("iPXE initialising devices", SLOW)


def test_a_uefi_machine_starts_linux(site: Site, tmp_path: Path, uefi_disk: Path) -> None:
    site.host(default="linux")
    with machine(site, tmp_path, "shimx64.efi", uefi_disk, "uefi") as console:
        console.expect("EFI/debian/shimx64.efi", SLOW)
        console.expect("iPXE initialising devices", SLOW)
