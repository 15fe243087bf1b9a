"""The scripts on real firmware: one QEMU machine at a time, our HTTP application on loopback, QEMU's own
DHCP and TFTP.

What the whole daemon does with firmware is seen in tests/e2e; here are ways to the own disk and menus.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from api.app import create_app
from pxeboot.adapters import container
from pxeboot.adapters.boottree import virtual_file
from pxeboot.adapters.leaseview import LeaseView
from pxeboot.bootenv import build
from pxeboot.db.models import BootEntry
from pxeboot.lab import disks, processes
from pxeboot.lab.console import Console
from pxeboot.lab.disks import Partition
from pxeboot.services import entry_passwords, groups, hosts, lookup
from tests.plane import Plane

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="QEMU is not installed"),
]
MAC = "52:54:00:12:34:01"
REPOSITORY = Path(__file__).parents[3]
OVMF = Path("/usr/share/OVMF")
SLOW = 120.0  # seconds, on a busy machine; a few on an idle one
PASSWORD = "sesame-1&2"


@pytest.fixture(scope="module")
def boot_files() -> Path:
    place = Path(os.environ.get("PXEBOOT_BOOTENV_DIR", REPOSITORY / "var"))
    return build(place / "boot", place / "cache").path


class Site(Plane):
    """A control plane with its application on a loopback port, which QEMU's machines see as 10.0.2.2."""

    def __init__(self, data_dir: Path, boot_files: Path, **boot: Any) -> None:
        super().__init__(data_dir, boot=boot)
        self.settings.boot_dir.symlink_to(boot_files)
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        self.base_url = f"http://10.0.2.2:{listener.getsockname()[1]}"
        self.services = container.open_services(self.settings, base_url=self.base_url)
        self.services.leases = LeaseView(None, neighbour=lambda address: None)
        config = uvicorn.Config(create_app(self.services), log_level="warning", access_log=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],))
        self._thread.start()
        self.tftp = data_dir / "tftp"
        (self.tftp / "grub").mkdir(parents=True)
        for name in ("shimx64.efi", "grubx64.efi", "undionly.kpxe"):
            shutil.copy(boot_files / name, self.tftp / name)
        (self.tftp / "grub/grub.cfg").write_bytes(virtual_file("grub/grub.cfg", self.base_url, "en") or b"")

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        container.close(self.services)
        self.database.close()

    def host(self, **rules: Any) -> None:
        with self.write() as session:
            groups.create_group(session, name="B204", name_template="B204-##")
            hosts.create_host(session, name="pc1", macs=[MAC], group="B204")
            row = lookup.group(session, "B204")
            row.boot = rules
            session.add(row)

    def entry(self, name: str, kind: str, *, password: str = "", **more: Any) -> None:
        sealed = entry_passwords.sealed(password) if password else ""
        with self.write() as session:
            session.add(BootEntry(name=name, title=f"Entry {name}", kind=kind, password_hash=sealed, **more))

    def script(self) -> str:
        return f"{self.base_url}/boot/ipxe?mac={MAC}&platform=pcbios"


@pytest.fixture
def site(tmp_path: Path, boot_files: Path) -> Iterator[Site]:
    made = Site(tmp_path / "data", boot_files)
    yield made
    made.close()


@contextlib.contextmanager
def machine(
    site: Site, folder: Path, bootfile: str, disk: Path | None, uefi: bool = False
) -> Iterator[Console]:
    """Switch a machine on that gets `bootfile` by DHCP; off at the end."""
    command = [processes.need("qemu-system-x86_64"), "-nodefaults", "-display", "none", "-no-reboot"]
    command += ["-accel", "tcg,thread=multi", "-cpu", "qemu64,+rdrand", "-m", "384"]
    command += ["-machine", "q35,graphics=off,vmport=off"]
    netdev = f"user,id=n0,tftp={site.tftp},bootfile={bootfile.replace(',', ',,')}"
    command += ["-netdev", netdev, "-device", f"virtio-net-pci,netdev=n0,mac={MAC},bootindex=0"]
    if uefi:
        command[-1] += ",romfile="
        shutil.copyfile(OVMF / "OVMF_VARS_4M.fd", folder / "vars.fd")
        command += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={OVMF / 'OVMF_CODE_4M.fd'}"]
        command += ["-drive", f"if=pflash,unit=1,format=raw,file={folder / 'vars.fd'}"]
        for name in ("IPv6PXESupport", "IPv6Support"):
            command += ["-fw_cfg", f"name=opt/org.tianocore/{name},string=n"]
    if disk is not None:
        command += ["-drive", f"if=none,id=d0,format=raw,cache=unsafe,file={disk}"]
        command += ["-device", "ide-hd,drive=d0,bus=ide.0,bootindex=1"]
    serial = Path("/tmp") / f"pxb-{os.getpid()}.serial"  # a Unix socket's path is short
    serial.unlink(missing_ok=True)
    command += ["-chardev", f"socket,id=s,path={serial},server=on,wait=on", "-serial", "chardev:s"]
    process = processes.spawn(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    console = Console(Path(os.environ.get("PXEBOOT_TEST_LOGS", folder)) / "console.log")
    try:
        console.attach(serial, 15)
        yield console
    finally:
        process.kill()
        process.wait(10)
        console.detach()
        serial.unlink(missing_ok=True)


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
    with machine(site, tmp_path, "shimx64.efi", uefi_disk, uefi=True) as console:
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
    with machine(site, tmp_path, "shimx64.efi", uefi_disk, uefi=True) as console:
        console.expect("EFI/debian/shimx64.efi", SLOW)
        console.expect("iPXE initialising devices", SLOW)
