"""Machines for tests: one QEMU at a time, our HTTP application on loopback, QEMU's own DHCP and TFTP."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import uvicorn
from sqlmodel import select

from api.app import create_app
from pxeboot.adapters import container
from pxeboot.adapters.boottree import virtual_file
from pxeboot.adapters.leaseview import LeaseView
from pxeboot.db.models import BootEntry, BootToken
from pxeboot.lab import processes
from pxeboot.lab.console import Console
from pxeboot.services import entry_passwords, groups, hosts, lookup
from tests.plane import Plane

Firmware = Literal["bios", "uefi", "secure"]

MAC = "52:54:00:12:34:01"
OVMF = Path("/usr/share/OVMF")
SLOW = 240.0  # seconds, on a busy machine; a few on an idle one
PASSWORD = "sesame-1&2"

on_firmware = [
    pytest.mark.e2e,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="QEMU is not installed"),
]


class Site(Plane):
    """A control plane with its application on a loopback port, which QEMU's machines see as 10.0.2.2."""

    def __init__(self, data_dir: Path, boot_files: Path, **boot: Any) -> None:
        super().__init__(data_dir, boot=boot)
        self.settings.boot_dir.mkdir()
        for file in boot_files.iterdir():
            (self.settings.boot_dir / file.name).hardlink_to(file)
        self.extra = self.settings.boot_dir / "extra"
        self.extra.mkdir()
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
        for name in ("shimx64.efi", "grubx64.efi", "undionly.kpxe", "ipxe.efi"):
            shutil.copy(boot_files / name, self.tftp / name)
        for name in ("grub/grub.cfg", "autoexec.ipxe"):
            (self.tftp / name).write_bytes(virtual_file(name, self.base_url, "en") or b"")

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

    def bring(self, file: Path) -> str:
        """Put a file below extra/, as an administrator does; the name for entries."""
        shutil.copy(file, self.extra / file.name)
        return file.name

    def tokens(self) -> list[BootToken]:
        """The boot tokens that are out."""
        with self.read() as session:
            return list(session.exec(select(BootToken)))

    def script(self) -> str:
        return f"{self.base_url}/boot/ipxe?mac={MAC}&platform=pcbios"


@contextlib.contextmanager
def machine(
    site: Site,
    folder: Path,
    bootfile: str,
    disk: Path | None = None,
    firmware: Firmware = "bios",
    memory: int = 384,
) -> Iterator[Console]:
    """Switch a machine on that gets `bootfile` by DHCP; off at the end. `memory` in MiB."""
    command = [processes.need("qemu-system-x86_64"), "-nodefaults", "-display", "none", "-no-reboot"]
    command += ["-accel", "tcg,thread=multi", "-cpu", "qemu64,+rdrand", "-m", str(memory)]
    secure = firmware == "secure"
    command += ["-machine", f"q35,smm={'on' if secure else 'off'},graphics=off,vmport=off"]
    netdev = f"user,id=n0,tftp={site.tftp},bootfile={bootfile.replace(',', ',,')}"
    command += ["-netdev", netdev, "-device", f"virtio-net-pci,netdev=n0,mac={MAC},bootindex=0"]
    if firmware != "bios":
        command[-1] += ",romfile="
        kind = "4M.ms" if secure else "4M"
        shutil.copyfile(OVMF / f"OVMF_VARS_{kind}.fd", folder / "vars.fd")
        if secure:  # only code in System Management Mode may write the variables that hold the keys
            command += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
        command += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={OVMF / f'OVMF_CODE_{kind}.fd'}"]
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
        console.attach(serial, 60)
        yield console
    finally:
        process.kill()
        process.wait(10)
        console.detach()
        serial.unlink(missing_ok=True)
