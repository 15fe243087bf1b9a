"""Checks of the boot environment from inside (`pxeboot.selftest=1`): ends in `PXEBOOT SELFTEST OK`.

Runs in the boot environment, by its Python; prints one line per check to every console.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

TOOLS = """
    sgdisk sfdisk blkid blockdev losetup mkswap swaplabel wipefs lsblk mke2fs mkfs.ext4 e2fsck resize2fs
    tune2fs mkfs.fat fatlabel mkntfs ntfsresize ntfslabel ntfsls mkfs.xfs xfs_growfs xfs_db mkfs.btrfs
    btrfs btrfstune resize.f2fs partclone.extfs partclone.ntfs partclone.fat partclone.xfs partclone.btrfs
    partclone.restore zstd efibootmgr dmidecode ethtool nvme hdparm smartctl memtester
    dropbear dropbearkey ip udhcpc modprobe reboot poweroff
    """.split()  # noqa: SIM905


def say(line: str) -> None:
    """Print a line on every console."""
    try:
        names = Path("/sys/class/tty/console/active").read_text().split()
    except OSError:
        names = []
    for name in names or ["console"]:
        with open(f"/dev/{name}", "w") as console:
            console.write(f"selftest: {line}\n")


def uptime() -> float:
    """Seconds since the kernel started."""
    return float(Path("/proc/uptime").read_text().split()[0])


def imports() -> str:
    """What the agent imports; both native modules do their work once."""
    began = time.monotonic()
    import blake3
    import zstandard

    data = os.urandom(1 << 16) + bytes(15 << 16)
    assert zstandard.decompress(zstandard.compress(data)) == data
    assert blake3.blake3(b"").hexdigest().startswith("af1349b9f5f9a1a6a0404dea36dcc949")
    import ctypes
    import hashlib
    import json
    import ssl
    import urllib.request

    assert ctypes.sizeof(ctypes.c_long) == 8
    assert hashlib.sha256(json.dumps({}).encode()).digest()
    assert ssl.create_default_context() is not None
    assert urllib.request.Request("http://localhost/").host == "localhost"
    import imaging

    return f"{time.monotonic() - began:.2f} s, imaging in {next(iter(imaging.__path__))}"


def tools() -> str:
    """Every program the agent may call is there."""
    missing = [name for name in TOOLS if shutil.which(name) is None]
    assert not missing, f"missing: {' '.join(missing)}"
    return f"{len(TOOLS)} there"


def run(*command: str) -> str:
    """Run a program, at most a minute; its output. Raises on failure."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, (
        f"{command}: status {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}"
    )
    return done.stdout


def partitions() -> str:
    """A partition table, three file systems and their block maps, on a file attached as a disk."""
    with tempfile.TemporaryDirectory() as directory:
        disk = Path(directory, "disk")
        with disk.open("wb") as stream:
            stream.truncate(96 << 20)
        run("sgdisk", "-n", "1:0:+40M", "-t", "1:ef00", "-n", "2:0:+24M", "-n", "3:0:0", str(disk))
        device = run("losetup", "--find", "--show", "--partscan", str(disk)).strip()
        try:
            kinds = {
                "fat": ("mkfs.fat", "-F", "32"),
                "extfs": ("mke2fs", "-q", "-t", "ext4"),
                "ntfs": ("mkntfs", "-Q", "-F"),
            }
            for number, (kind, make) in enumerate(kinds.items(), start=1):
                part = f"{device}p{number}"
                run(*make, part)
                run(
                    f"partclone.{kind}",
                    "-D",
                    "--offset_domain=0",
                    "-s",
                    part,
                    "-O",
                    f"{directory}/map",
                    "-L",
                    f"{directory}/log",
                )
                assert b"0x" in Path(directory, "map").read_bytes(), f"no block map of {kind}"
            mounted = Path(directory, "mnt")
            mounted.mkdir()
            run("mount", "-t", "ext4", f"{device}p2", str(mounted))
            run("umount", str(mounted))
            run("mount", "-t", "vfat", f"{device}p1", str(mounted))
            run("umount", str(mounted))
        finally:
            run("losetup", "--detach", device)
    return "GPT, FAT, ext4, NTFS made and mapped"


def agent() -> str:
    """The agent finds all that it needs, by its own account."""
    return run("python3", "-m", "imaging.agent.selftest").strip().splitlines()[-1]


def machine() -> str:
    """Disks, network cards and the memory that is left."""
    disks = [path.name for path in Path("/sys/block").iterdir() if not path.name.startswith(("loop", "ram"))]
    cards = [
        f"{path.name}={(path / 'address').read_text().strip()}"
        for path in Path("/sys/class/net").iterdir()
        if (path / "device").exists()
    ]
    memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(memory["MemAvailable"].split()[0]) // 1024
    address = os.environ.get("PXEBOOT_ADDRESS") or "none"
    subprocess.run(["mount", "-t", "securityfs", "securityfs", "/sys/kernel/security"], check=False)
    lockdown = Path("/sys/kernel/security/lockdown")
    locked = lockdown.read_text().strip() if lockdown.exists() else "unknown"
    product = run("dmidecode", "-s", "system-product-name").strip()
    return (
        f"{product}; disks {' '.join(sorted(disks)) or 'none'}; cards {' '.join(sorted(cards)) or 'none'}; "
        f"address {address}; {free} MB free; lockdown {locked}"
    )


def main() -> int:
    """Run every check; 0 when all passed."""
    say(f"Python {sys.version.split()[0]} running {uptime():.1f} s after the kernel")
    checks: tuple[Callable[[], str], ...] = (imports, tools, partitions, agent, machine)
    failed = 0
    for check in checks:
        try:
            say(f"{check.__name__}: {check()}")
        except Exception as error:  # every check is to be heard, whatever it trips over
            failed += 1
            say(f"{check.__name__}: FAILED {type(error).__name__}: {error}")
    say(f"PXEBOOT SELFTEST {'FAILED' if failed else 'OK'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
