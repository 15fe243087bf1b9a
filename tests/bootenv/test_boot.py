"""The boot environment boots: in QEMU, with an emulated card and disk, to its own self-test."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pxeboot.bootenv import BootEnv, build

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="QEMU is not installed"),
]
MAC = "52:54:00:be:00:01"
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def env() -> BootEnv:
    """The boot environment of this checkout, built when it is not there yet."""
    place = Path(os.environ.get("PXEBOOT_BOOTENV_DIR", REPOSITORY / "var"))
    return build(place / "boot", place / "cache")


def boot(env: BootEnv, tmp_path: Path, words: str, card: str) -> str:
    """Start kernel and initramfs in QEMU with a network that leads nowhere; return the serial console."""
    disk = tmp_path / "disk.raw"
    with disk.open("wb") as stream:
        stream.truncate(64 << 20)
    # One processor: with two, the emulator sometimes runs half of an instruction that the kernel is patching.
    command = ["qemu-system-x86_64", "-accel", "tcg", "-machine", "q35", "-smp", "1", "-m", "1024"]
    command += ["-nodefaults", "-nographic", "-serial", "stdio", "-no-reboot"]
    command += ["-kernel", str(env.path / "vmlinuz"), "-initrd", str(env.path / "initrd.img")]
    command += ["-append", f"console=ttyS0,115200 quiet loglevel=4 panic=1 {words}"]
    command += ["-netdev", "user,id=n0,restrict=on", "-device", f"{card},netdev=n0,mac={MAC},romfile="]
    command += ["-drive", f"if=none,id=d0,format=raw,file={disk}", "-device", "ahci,id=a0"]
    command += ["-device", "ide-hd,drive=d0,bus=a0.0,serial=DISK0001"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=600, check=False)
    return done.stdout.decode(errors="replace")


def test_selftest(env: BootEnv, tmp_path: Path) -> None:
    """With a card of real PCs; virtio is what the room's machines have."""
    console = boot(env, tmp_path, f"pxeboot.selftest=1 pxeboot.mac={MAC}", card="e1000e")
    assert "PXEBOOT SELFTEST OK" in console, console
    assert f"{MAC} 10.0.2.15" in console  # by DHCP
    machine = re.search(r"selftest: machine: .*", console)
    assert machine is not None
    assert "disks sda" in machine[0]
    assert MAC in machine[0]
    free = re.search(r"(\d+) MB free", machine[0])
    assert free is not None
    assert int(free[1]) > 500  # of 1024: room for the agent's buffers


def test_an_agent_that_cannot_work_ends_in_a_restart(env: BootEnv, tmp_path: Path) -> None:
    """No server on the command line: the console says so, the machine restarts (-no-reboot ends QEMU)."""
    console = boot(env, tmp_path, f"pxeboot.mac={MAC}", card="virtio-net-pci")
    assert re.search(r"Network up after [\d.]+ s", console), console
    assert re.search(r"reboot: Restarting system|reboot: Power down", console), console
