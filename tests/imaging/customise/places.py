"""Disks with systems on them: partitions made by sgdisk and mkfs, filled through the kernel's own mounts."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.imaging.disks import MIB, run

Fill = Callable[[Path], None]

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n'
#: kind -> (mkfs, smallest size in MiB)
_MAKERS: dict[str, tuple[list[str], int]] = {
    "ext4": (["mkfs.ext4", "-q", "-F"], 32),
    "xfs": (["mkfs.xfs", "-q", "-f"], 304),
    "btrfs": (["mkfs.btrfs", "-q", "-f"], 128),
    "ntfs": (["mkntfs", "-q", "-F", "-f"], 64),
    "fat": (["mkfs.vfat", "-F", "32"], 48),
}


def start_of(number: int, kinds: list[str]) -> int:
    """Where a partition begins, in MiB."""
    return 1 + sum(_MAKERS[kind][1] for kind in kinds[: number - 1])


def make_disk(path: Path, parts: list[tuple[str, Fill]]) -> Path:
    """A GPT disk with these file systems, partition 1 first."""
    kinds = [kind for kind, _ in parts]
    with open(path, "wb") as file:
        file.truncate((start_of(len(kinds) + 1, kinds) + 2) * MIB)
    words = []
    for number, kind in enumerate(kinds, start=1):
        first = start_of(number, kinds) * 2048
        words += [f"--new={number}:{first}:{first + _MAKERS[kind][1] * 2048 - 1}"]
    run("sgdisk", *words, path)
    for number, (kind, fill) in enumerate(parts, start=1):
        with loop(path, number, kinds) as device:
            run(*_MAKERS[kind][0], device)
        with mounted(path, number, kinds) as root:
            fill(root)
    return path


@contextlib.contextmanager
def loop(path: Path, number: int, kinds: list[str]) -> Iterator[str]:
    where = [
        "--offset",
        str(start_of(number, kinds) * MIB),
        "--sizelimit",
        str(_MAKERS[kinds[number - 1]][1] * MIB),
    ]
    device = run("losetup", "--find", "--show", *where, path).strip()
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


@contextlib.contextmanager
def mounted(path: Path, number: int, kinds: list[str], options: str = "") -> Iterator[Path]:
    """The partition's files, mounted by mount(8)."""
    place = path.parent / f"mnt-{number}"
    place.mkdir(exist_ok=True)
    kind = kinds[number - 1]
    with loop(path, number, kinds) as device:
        words = ["-t", {"ntfs": "ntfs-3g", "fat": "vfat"}.get(kind, kind)]
        words += ["-o", options] if options else []
        run("mount", *words, device, place)
        try:
            yield place
        finally:
            deadline = time.monotonic() + 60
            while True:
                try:
                    run("umount", place)
                    break
                except AssertionError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)
            _wait_until_free(device)
            if kind == "ntfs":  # its process writes on for a moment
                while any(b"ntfs-3g" in line and device.encode() in line for line in _processes()):
                    time.sleep(0.02)


def _wait_until_free(device: str) -> None:
    """A parallel test's mount namespace may hold a copy of our mount for a while."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            os.close(os.open(device, os.O_RDONLY | os.O_EXCL))
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"{device} is still in use")


def _processes() -> Iterator[bytes]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                yield Path("/proc", name, "cmdline").read_bytes()


def linux(root: Path, name: str = "reference", release: str = DEBIAN) -> None:
    """What a freshly captured Debian with an SSH server holds of itself."""
    for directory in ("etc/ssh", "usr/lib", "var/lib/dbus", "var/lib/systemd", "root"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    (root / "usr/lib/os-release").write_text(release)
    (root / "etc/os-release").symlink_to("../usr/lib/os-release")
    (root / "etc/hostname").write_text(f"{name}\n")
    (root / "etc/hosts").write_text(f"127.0.0.1\tlocalhost\n127.0.1.1\t{name}\n")
    (root / "etc/machine-id").write_text("4d7f2e6a9b0c4f1e8a2b3c4d5e6f7081\n")
    (root / "etc/machine-id").chmod(0o444)
    (root / "var/lib/dbus/machine-id").write_text("4d7f2e6a9b0c4f1e8a2b3c4d5e6f7081\n")
    (root / "var/lib/systemd/random-seed").write_bytes(b"seed" * 8)
    (root / "etc/ssh/sshd_config").write_text("UsePAM yes\n")
    for kind in ("rsa", "ed25519"):
        (root / f"etc/ssh/ssh_host_{kind}_key").write_text("the reference's secret\n")
        (root / f"etc/ssh/ssh_host_{kind}_key").chmod(0o600)
        (root / f"etc/ssh/ssh_host_{kind}_key.pub").write_text("the reference's\n")


def nothing_left(path: Path) -> None:
    """No loop device and no mount of this disk remains."""
    deadline = time.monotonic() + 60  # somebody else's blkid may hold the loop device for a moment
    while str(path) in run("losetup", "-a"):
        assert time.monotonic() < deadline, "a loop device was left behind"
        time.sleep(0.05)
    assert "pxeboot-root-" not in Path("/proc/self/mounts").read_text()
