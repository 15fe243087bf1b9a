"""Resizing, renaming and boot entries in the real boot environment under UEFI: its kernel, its tools, its dm.

One boot of a machine without a network, in which resize_scenario.py is the first program's only child.
"""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest

from imaging.options import DeployOptions
from imaging.placement import plan
from pxeboot.bootenv import cpio
from pxeboot.lab import processes
from pxeboot.lab.machine import OVMF
from tests.imaging.agent.test_afterwards import captured, files, partition, put_down, source
from tests.imaging.disks import run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
INIT = """#!/bin/busybox sh
export PATH=/usr/sbin:/usr/bin HOME=/root LC_ALL=C.UTF-8 PYTHONPATH=/usr/lib/pxeboot
mount -t proc proc /proc; mount -t sysfs sysfs /sys
grep -q ' /dev devtmpfs ' /proc/mounts || mount -t devtmpfs devtmpfs /dev
mount -t tmpfs -o size=80% tmpfs /run; mkdir -p /tmp
for round in 1 2 3; do
    find /sys/devices -name modalias -exec cat {} + | sort -u | xargs -n 24 modprobe -a -b -q -- 2>/dev/null
done
python3 /scenario/tests/e2e/resize_scenario.py > /dev/ttyS0 2>&1
sync
poweroff -f
"""


def archive(**more: bytes) -> bytes:
    """What is laid over the boot environment: the first program, and the scenario with its imports."""
    names = ["tests/e2e/resize_scenario.py", "tests/imaging/disks.py", "tests/imaging/resize/samples.py"]
    folders = ["tests", "tests/e2e", "tests/imaging", "tests/imaging/resize"]
    entries = [cpio.file("scenario-init", INIT.encode(), 0o755), cpio.directory("scenario")]
    entries += [cpio.directory(f"scenario/{name}") for name in folders]
    entries += [cpio.file(f"scenario/{name}/__init__.py", b"") for name in folders]
    entries += [cpio.file(f"scenario/{name}", (ROOT / name).read_bytes()) for name in names]
    entries += [cpio.file(f"scenario/{name}", data) for name, data in more.items()]
    out = io.BytesIO()
    cpio.write(entries, out, mtime=0)
    return out.getvalue()


def test_the_boot_environment_resizes_renames_and_repairs(tmp_path: Path, boot_files: Path) -> None:
    path, target, spill = source(tmp_path, "ext4"), tmp_path / "target", tmp_path / "spill"
    esp = tmp_path / "esp"
    start, length = partition(path, 1).start, partition(path, 1).size
    esp.write_bytes(path.read_bytes()[start : start + length])
    run("mmd", "-i", esp, "::EFI", "::EFI/debian")
    run("mcopy", "-i", esp, "/etc/hostname", "::EFI/debian/shimx64.efi")
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(esp.read_bytes())
    before = files(path, "ext4")
    manifest = captured(path)
    size = 200 * MIB
    placement = plan(manifest.disks[0], size, DeployOptions(shrink=True), spill_limit=1 << 40)
    assert placement.cut is not None
    with open(spill, "w+b") as file:
        file.truncate(placement.cut.spill)
        put_down(path, manifest, placement, target, file.fileno())
    initrd = (boot_files / "initrd.img").read_bytes()
    over = archive(manifest=manifest.to_bytes(), size=str(size).encode())
    (tmp_path / "initrd").write_bytes(initrd + bytes(-len(initrd) % 4) + over)
    said = boot(tmp_path, boot_files / "vmlinuz", [target, spill])
    assert "SCENARIO OK" in said, said[-5000:]
    assert files(target, "ext4") == before
    assert partition(target, 1).unique_guid != partition(path, 1).unique_guid
    run("sgdisk", "-v", target)


def boot(folder: Path, kernel: Path, disks: list[Path]) -> str:
    """Run the machine until it switches itself off; returns what came over the serial line."""
    variables = folder / "vars.fd"
    shutil.copy(OVMF / "OVMF_VARS_4M.fd", variables)
    argv = [processes.need("qemu-system-x86_64"), "-machine", "q35", "-accel", "tcg,thread=multi"]
    argv += ["-cpu", "qemu64,+rdrand", "-smp", "1", "-m", "1536", "-nodefaults", "-no-reboot"]
    argv += ["-display", "none", "-nic", "none", "-serial", f"file:{folder / 'serial'}"]
    argv += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={OVMF / 'OVMF_CODE_4M.fd'}"]
    argv += ["-drive", f"if=pflash,unit=1,format=raw,file={variables}"]
    for number, disk in enumerate(disks):
        argv += ["-drive", f"if=none,id=d{number},format=raw,cache=unsafe,file={disk}"]
        argv += ["-device", f"virtio-blk-pci,drive=d{number}"]
    argv += ["-kernel", str(kernel), "-initrd", str(folder / "initrd")]
    argv += ["-append", "rdinit=/scenario-init console=ttyS0 quiet panic=-1"]
    # The parent's death takes it along (processes.spawn), and so does the end of the time.
    with open(folder / "qemu.log", "wb") as log:
        process = processes.spawn(argv, stdout=log, stderr=log)
    try:
        process.wait(600)
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()
        process.wait(10)
    said = [folder / name for name in ("qemu.log", "serial")]
    return "".join(path.read_text(errors="replace") for path in said if path.exists())
