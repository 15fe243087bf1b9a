"""The reference guest: a real Debian 13 on a disk that boots by BIOS, by UEFI and with Secure Boot.

Built once from packages and kept in a cache named by what went in. It says its host name on the serial
console as early as systemd can (``pxeboot-guest: hostname=NAME …``), so that whoever boots it knows which
system came up.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from pxeboot.bootenv.debian import host_mirror
from pxeboot.lab import disks, guest_files
from pxeboot.lab.disks import MIB, Partition
from pxeboot.lab.errors import LabError
from pxeboot.lab.processes import need, run, spawn

Progress = Callable[[str], None]

DISK_SIZE = 2048 * MIB
BIOS_BOOT_PART = Partition(disks.BIOS_BOOT, 1, 1, "bios-boot")
ESP_PART = Partition(disks.ESP, 2, 64, "esp")
ROOT_PART = Partition(disks.LINUX, 66, 1852, "root")
SWAP_PART = Partition(disks.SWAP, 1918, 129, "swap")
BUILD_LIMIT = 1800.0
HELLO = r"pxeboot-guest: hostname=(\S+) firmware=(bios|uefi) secureboot=(on|off|none)"
"""What the guest prints on its console: host name, ``bios|uefi``, ``on|off|none``."""


@dataclass(frozen=True)
class Guest:
    """A built reference disk: its file (do not write to it: clone it), size and used bytes, kernel, host
    name.
    """

    path: Path
    size: int
    used: int
    kernel: str
    hostname: str


def recipe_hash() -> str:
    """Names the guest by what goes into it: this recipe, the files and the packages (not their versions)."""
    digest = hashlib.sha256()
    for module in (__file__, guest_files.__file__, disks.__file__):
        digest.update(Path(module).read_bytes())
    return digest.hexdigest()[:16]


def build(cache: Path, progress: Progress = lambda _line: None, *, force: bool = False) -> Guest:
    """The reference guest from the cache directory, built there first if need be (about two minutes; needs
    root).

    Two builders wait for each other. Raises LabError, or pxeboot.bootenv.debian.BootEnvError when no mirror
    is known.
    """
    cache.mkdir(parents=True, exist_ok=True)
    stem = f"guest-{recipe_hash()}"
    disk, note = cache / f"{stem}.raw", cache / f"{stem}.json"
    with _locked(cache / "guest.lock"):
        if force or not (disk.exists() and note.exists()):
            with tempfile.TemporaryDirectory(prefix="guest-", dir=cache) as scratch:
                guest = _build(Path(scratch), progress)
                built = guest.path
                built.rename(disk)
            facts = {k: v for k, v in asdict(guest).items() if k != "path"}
            note.write_text(json.dumps(facts))
            for old in cache.glob("guest-*.*"):
                if old.suffix in (".raw", ".json") and old.stem != stem:
                    old.unlink()
        return Guest(path=disk, **json.loads(note.read_text()))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        deadline = time.monotonic() + BUILD_LIMIT
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LabError("another process has been building the guest for too long") from None
                time.sleep(0.5)
        yield


def _build(scratch: Path, progress: Progress) -> Guest:
    started = time.monotonic()
    seed = uuid.uuid5(uuid.NAMESPACE_OID, f"pxeboot guest {recipe_hash()}")
    ids = {name: str(uuid.uuid5(seed, name)) for name in ("root", "swap", "disk", "esp")}
    volume = ids["esp"][:8]
    facts = guest_files.Facts(root=ids["root"], swap=ids["swap"], esp=f"{volume[:4]}-{volume[4:]}".upper())
    tree, overlay = scratch / "root", scratch / "overlay"
    for name, (mode, text) in guest_files.overlay(facts).items():
        path = overlay / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
    _bootstrap(tree, overlay, scratch, progress)
    kernel = _kernel(tree)
    progress(f"guest: kernel {kernel}; boot loaders")
    core, boot = _grub_bios(tree, facts)
    esp = _esp_files(tree, facts)
    (tree / "boot/grub/grub.cfg").write_text(guest_files.grub_cfg(facts, kernel))
    disk = scratch / "disk.raw"
    progress("guest: writing the disk")
    disks.create(disk, DISK_SIZE)
    parts = [BIOS_BOOT_PART, ESP_PART, ROOT_PART, SWAP_PART]
    disks.write_table(disk, "gpt", parts, ids["disk"])
    disks.make_fat(disk, ESP_PART, volume_id=volume, label="ESP", files=esp)
    disks.make_ext4(disk, ROOT_PART, uuid=ids["root"], label="root", tree=tree)
    disks.make_swap(disk, SWAP_PART, uuid=ids["swap"])
    disks.embed_grub_bios(disk, boot, core, BIOS_BOOT_PART)
    used = disks.used_bytes(disk)
    if used < 600 * MIB:
        raise LabError(f"the guest uses only {used // MIB} MiB: its package list must be longer")
    took = time.monotonic() - started
    progress(f"guest: ready, {used // MIB} MiB used of {DISK_SIZE // MIB}, {took:.0f} s")
    return Guest(disk, DISK_SIZE, used, kernel, guest_files.HOSTNAME)


def _bootstrap(tree: Path, overlay: Path, scratch: Path, progress: Progress) -> None:
    sources = scratch / "guest.sources"
    sources.write_text(host_mirror().sources().replace("non-free-firmware", ""))
    command = [need("mmdebstrap"), "--mode=root", "--variant=minbase", "--format=directory"]
    command += ["--include=" + ",".join(guest_files.PACKAGES)]
    command += ['--aptopt=Acquire::Retries "3"', '--aptopt=APT::Install-Recommends "false"']
    # The recipe's own files come before the kernel is configured, so that its initramfs is made as they say.
    command += [f"--essential-hook=sync-in {overlay} /"]
    command += [f"--customize-hook=chroot $1 {line}" for line in guest_files.CUSTOMISE]
    command += ["trixie", str(tree), str(sources)]
    progress("guest: installing Debian 13 (mmdebstrap)")
    last = ""
    log: list[str] = []
    with spawn(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        killer_at = time.monotonic() + BUILD_LIMIT
        assert process.stdout is not None
        for raw in process.stdout:
            line = raw.decode("utf-8", "replace").rstrip()
            log.append(line)
            if line.startswith("I: ") and line != last:
                progress(f"guest: {line[3:]}")
                last = line
            if time.monotonic() > killer_at:
                process.kill()
                raise LabError(f"building the guest took longer than {BUILD_LIMIT / 60:.0f} minutes")
    if process.returncode != 0:
        tail = "\n".join(log[-25:])
        raise LabError(f"mmdebstrap ended with status {process.returncode}:\n{tail}")
    for path in (tree / "dev").iterdir():  # device nodes belong to devtmpfs
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _kernel(tree: Path) -> str:
    kernels = sorted((tree / "boot").glob("vmlinuz-*"))
    if not kernels:
        raise LabError("the guest has no kernel")
    version = kernels[-1].name.removeprefix("vmlinuz-")
    if not (tree / f"boot/initrd.img-{version}").exists():
        raise LabError(f"the guest has no initramfs for its kernel {version}")
    return version


def _grub_bios(tree: Path, facts: guest_files.Facts) -> tuple[bytes, bytes]:
    """core.img made by the guest's own grub-mkimage, boot.img, and the modules put where GRUB looks for
    them.
    """
    (tree / "tmp/early.cfg").write_text(guest_files.early_cfg(facts))
    command = ["chroot", str(tree), "grub-mkimage", "-O", "i386-pc"]
    command += ["-o", "/tmp/core.img", "-c", "/tmp/early.cfg"]
    command += ["-p", "/boot/grub", "biosdisk", "part_gpt", "ext2", "search_fs_uuid", "normal", "configfile"]
    run(command, timeout=60)
    core = (tree / "tmp/core.img").read_bytes()
    for name in ("early.cfg", "core.img"):
        (tree / "tmp" / name).unlink()
    library = tree / "usr/lib/grub/i386-pc"
    modules = tree / "boot/grub/i386-pc"
    modules.mkdir(parents=True, exist_ok=True)
    for pattern in ("*.mod", "*.lst"):
        for path in library.glob(pattern):
            shutil.copyfile(path, modules / path.name)
    return core, (library / "boot.img").read_bytes()


def _esp_files(tree: Path, facts: guest_files.Facts) -> dict[str, bytes]:
    """The signed boot chain: shim as removable-media default and as Debian's own entry, GRUB beside it."""
    shim = (tree / "usr/lib/shim/shimx64.efi.signed").read_bytes()
    manager = (tree / "usr/lib/shim/mmx64.efi.signed").read_bytes()
    grub = (tree / "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed").read_bytes()
    configuration = guest_files.esp_cfg(facts).encode()
    return {
        "EFI/BOOT/BOOTX64.EFI": shim,
        "EFI/BOOT/grubx64.efi": grub,
        "EFI/BOOT/mmx64.efi": manager,
        "EFI/debian/shimx64.efi": shim,
        "EFI/debian/grubx64.efi": grub,
        "EFI/debian/mmx64.efi": manager,
        "EFI/debian/grub.cfg": configuration,
    }
