"""A PC under QEMU: real firmware, a disk, a network card on the room's switch and a serial console.

Three kinds of firmware, as found in the field: SeaBIOS with an iPXE ROM in the card (``bios``), OVMF with
its own PXE stack (``uefi``), and OVMF with Microsoft's keys enrolled and Secure Boot on
(``uefi-secureboot``).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pxeboot.lab import processes
from pxeboot.lab.console import Console
from pxeboot.lab.errors import LabError
from pxeboot.lab.qmp import Qmp
from pxeboot.lab.room import Room

Firmware = Literal["bios", "uefi", "uefi-secureboot"]
DiskBus = Literal["virtio", "nvme", "ahci"]
DiskCache = Literal["unsafe", "writeback"]
Card = Literal["virtio", "e1000"]
NetworkBoot = Literal["pxe", "http"]

START_LIMIT = 60.0  # seconds until QEMU has opened its sockets; well under one on an idle machine
OVMF = Path("/usr/share/OVMF")
FIRMWARE_FILES: dict[Firmware, tuple[str, str]] = {
    "uefi": ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"),
    "uefi-secureboot": ("OVMF_CODE_4M.ms.fd", "OVMF_VARS_4M.ms.fd"),
}


def mac_of(name: str) -> str:
    """A locally administered MAC in QEMU's 52:54:00 range, always the same for a name."""
    digest = hashlib.sha256(name.encode()).digest()
    return "52:54:00:" + ":".join(f"{b:02x}" for b in digest[:3])


@dataclass(frozen=True)
class MachineSpec:
    """What the machine is made of; everything that identifies it follows from its name unless given.

    ``memory`` in MiB. One processor by default: emulating a second costs a third more of the host's time
    for the same work. ``accel`` is ``tcg`` or ``kvm`` (probe with ``kvm_works()`` before asking for it).

    ``network_boot``: what UEFI firmware does first, PXE or HTTP Boot. ``card``: OVMF has a driver of its own
    for ``virtio`` only; an ``e1000`` is driven by the iPXE in its ROM, as many a real card is by its maker's.

    ``disk_cache``: ``unsafe`` = a flush by the guest need not reach our disk, for the page cache survives a
    killed QEMU; ``writeback`` = it is passed on, for disk files that make a difference.
    """

    name: str
    firmware: Firmware = "uefi"
    disk: Path | None = None
    disk_bus: DiskBus = "virtio"
    disk_cache: DiskCache = "unsafe"
    card: Card = "virtio"
    network_boot: NetworkBoot = "pxe"
    mac: str = ""
    memory: int = 1024
    cpus: int = 1
    accel: Literal["tcg", "kvm"] = "tcg"
    cpu: str = ""
    network_first: bool = True
    manufacturer: str = "Virtual Room"
    product: str = "Lab PC"
    serial: str = ""
    identity: uuid.UUID = field(default=uuid.UUID(int=0))

    def __post_init__(self) -> None:
        if self.firmware not in ("bios", "uefi", "uefi-secureboot"):
            raise LabError(f"firmware {self.firmware!r} is none of bios, uefi, uefi-secureboot")
        fill = object.__setattr__
        fill(self, "mac", self.mac.lower() or mac_of(self.name))
        fill(
            self, "serial", self.serial or "LAB" + hashlib.sha256(self.name.encode()).hexdigest()[:9].upper()
        )
        if self.identity.int == 0:
            fill(self, "identity", uuid.uuid5(uuid.NAMESPACE_OID, f"pxeboot lab {self.name} {self.mac}"))

    def arguments(self, *, runtime: Path, variables: Path, tap: str) -> list[str]:
        """QEMU's argument list: sockets in ``runtime``, UEFI variables in ``variables``, network on
        ``tap``.
        """
        uefi, secure = self.firmware != "bios", self.firmware == "uefi-secureboot"
        first = (0, 1) if self.network_first else (1, 0)
        out = ["-name", self.name, "-no-user-config", "-nodefaults", "-display", "none"]
        # graphics=off makes SeaBIOS mirror its text screen to the serial line: iPXE's menu is seen there.
        out += ["-machine", f"q35,smm={'on' if secure else 'off'},graphics=off,vmport=off"]
        out += ["-accel", "tcg,thread=multi" if self.accel == "tcg" else "kvm"]
        # The plainest processor emulates fastest (measured: docs/lab.md); rdrand spares the guest's kernel
        # from waiting for entropy.
        out += ["-cpu", self.cpu or ("host" if self.accel == "kvm" else "qemu64,+rdrand")]
        out += ["-smp", str(self.cpus), "-m", str(self.memory), "-rtc", "base=utc"]
        maker = f"manufacturer={self.manufacturer}"
        out += ["-smbios", f"type=1,{maker},product={self.product},serial={self.serial},uuid={self.identity}"]
        out += ["-smbios", f"type=3,{maker},asset={self.name}"]
        if uefi:
            out += self._firmware_arguments(variables, secure)
        # An empty romfile leaves the card to OVMF's own driver and PXE stack; for SeaBIOS the ROM is the
        # iPXE.
        model = {"virtio": "virtio-net-pci", "e1000": "e1000"}[self.card]
        card = f"{model},netdev=n0,mac={self.mac},bootindex={first[0]}"
        out += ["-netdev", f"tap,id=n0,ifname={tap},script=no,downscript=no"]
        out += ["-device", card + (",romfile=" if uefi and self.card == "virtio" else "")]
        if self.disk is not None:
            how = f"format=raw,cache={self.disk_cache},discard=unmap,detect-zeroes=unmap"
            out += ["-drive", f"if=none,id=d0,{how},file={self.disk}"]
            device = {"virtio": "virtio-blk-pci", "nvme": "nvme", "ahci": "ide-hd,bus=ide.0"}[self.disk_bus]
            out += ["-device", f"{device},drive=d0,bootindex={first[1]},serial={self.serial}D"]
        out += ["-object", "rng-random,id=r0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=r0"]
        for name in ("serial", "qmp"):
            out += ["-chardev", f"socket,id={name},path={runtime / f'{self.name}.{name}'},server=on,wait=off"]
        return [*out, "-serial", "chardev:serial", "-mon", "chardev=qmp,mode=control"]

    def _firmware_arguments(self, variables: Path, secure: bool) -> list[str]:
        code = OVMF / FIRMWARE_FILES[self.firmware][0]
        # With secure, only code in System Management Mode may write the variables that hold the keys.
        out = ["-global", "driver=cfi.pflash01,property=secure,value=on"] if secure else []
        out += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}"]
        out += ["-drive", f"if=pflash,unit=1,format=raw,file={variables}"]
        # OVMF tries PXEv4, PXEv6 (for a minute; the room has no IPv6), HTTPv4.
        off = ["IPv6PXESupport", "IPv6Support"]
        if self.network_boot == "http":
            off.append("IPv4PXESupport")
        for name in off:
            out += ["-fw_cfg", f"name=opt/org.tianocore/{name},string=n"]
        return out


class QemuMachine:
    """A machine in a room. It starts switched off; the room switches it off when it closes.

    Logs under ``room.directory``: ``NAME.console.log`` (raw bytes of the serial line), ``NAME.qemu.log``;
    UEFI variables in ``NAME.vars.fd``, kept over power cycles as in a real machine.
    """

    def __init__(self, room: Room, spec: MachineSpec, listener: Callable[[str], None] | None = None) -> None:
        self.room, self.spec = room, spec
        self.console = Console(room.directory / f"{spec.name}.console.log", listener)
        self.resets = 0
        self.powered_on_at = 0.0
        self._variables = room.directory / f"{spec.name}.vars.fd"
        self._process: subprocess.Popen[bytes] | None = None
        self._qmp: Qmp | None = None
        self._reset = threading.Condition()
        room.on_close(self.power_off)

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def power_on(self) -> None:
        """Press the button. LabError when QEMU does not start (with what it said)."""
        if self.running:
            raise LabError(f"{self.name} is already on")
        self._forget()
        qemu = processes.need("qemu-system-x86_64")
        tap = self.room.tap(self.name)
        if self.spec.firmware != "bios" and not self._variables.exists():
            template = OVMF / FIRMWARE_FILES[self.spec.firmware][1]
            if not template.exists():
                raise LabError(f"{template} is missing (Debian package ovmf)")
            shutil.copyfile(template, self._variables)
        for name in ("serial", "qmp"):
            (self.room.runtime / f"{self.name}.{name}").unlink(missing_ok=True)
        argv = [qemu, *self.spec.arguments(runtime=self.room.runtime, variables=self._variables, tap=tap)]
        log_path = self.room.directory / f"{self.name}.qemu.log"
        with log_path.open("ab") as log:
            self._process = self.room.spawn(argv, namespace=self.room.switch, stdout=log, stderr=log)
        self.powered_on_at = time.monotonic()
        try:
            self.console.attach(self.room.runtime / f"{self.name}.serial", START_LIMIT)
            self._qmp = Qmp(self.room.runtime / f"{self.name}.qmp", self._on_event, START_LIMIT)
        except LabError as error:
            self.kill()
            said = log_path.read_text("utf-8", "replace")[-800:]
            raise LabError(f"{self.name} did not switch on: {error}; QEMU said: {said}") from None

    def _on_event(self, event: str, _data: dict[str, Any]) -> None:
        if event == "RESET":
            with self._reset:
                self.resets += 1
                self._reset.notify_all()

    def wait_for_reset(self, seen: int, timeout: float) -> None:
        """Wait until the machine has been reset more often than ``seen`` times; LabError after
        ``timeout`` s.
        """
        with self._reset:
            if not self._reset.wait_for(lambda: self.resets > seen, timeout):
                raise LabError(f"{self.name} did not restart within {timeout:.0f} s")

    def wait_off(self, timeout: float) -> None:
        """Wait until the machine switches itself off; LabError after ``timeout`` seconds."""
        if self._process is not None:
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                raise LabError(f"{self.name} did not switch off within {timeout:.0f} s") from None
        self._forget()

    def press_power_button(self) -> None:
        """ACPI power button: the operating system shuts down in order, if it listens."""
        self._control().execute("system_powerdown")

    def press_reset(self) -> None:
        self._control().execute("system_reset")

    def power_off(self) -> None:
        """Hold the power button: off at once, what the disk has been told is kept. Nothing happens when
        off.
        """
        if self.running and self._qmp is not None:
            with contextlib.suppress(LabError):
                self._qmp.execute("quit", timeout=3)
        if self._process is not None:
            try:
                self._process.wait(3)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
        self._forget()

    def kill(self) -> None:
        """Pull the plug (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
        self._forget()

    def _control(self) -> Qmp:
        if self._qmp is None or not self.running:
            raise LabError(f"{self.name} is off")
        return self._qmp

    def _forget(self) -> None:
        if self._qmp is not None:
            self._qmp.close()
            self._qmp = None
        self.console.detach()
        self._process = None


def kvm_works(timeout: float = 5.0) -> bool:
    """Whether KVM really runs code here: a 4-byte boot sector must reach QEMU's exit port in ``timeout``
    seconds.

    /dev/kvm alone proves nothing: on some virtual machines it exists and every guest hangs.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    # mov al, 0x31; out 0xf4, al; hlt -> isa-debug-exit ends QEMU with status (0x31 << 1) | 1
    sector = (b"\xb0\x31\xe6\xf4\xf4").ljust(510, b"\0") + b"\x55\xaa"
    with tempfile.NamedTemporaryFile(suffix=".img") as image:
        image.write(sector)
        image.flush()
        argv = [processes.need("qemu-system-x86_64"), "-accel", "kvm", "-nodefaults", "-display", "none"]
        argv += ["-m", "16"]
        argv += ["-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-drive", f"format=raw,file={image.name}"]
        process = processes.spawn(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return process.wait(timeout) == (0x31 << 1) | 1
        except subprocess.TimeoutExpired:
            return False
        finally:
            process.kill()
            process.wait(10)
