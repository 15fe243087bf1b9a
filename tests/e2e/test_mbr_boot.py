"""A BIOS machine boots an MBR disk that was captured and deployed: GRUB from the gap, Linux from a logical
partition.

SeaBIOS loads the MBR, its boot code the core of GRUB from the sectors before the first partition, and that
follows the chain of boot records to the fifth partition, where configuration and kernel lie. If one of these
did not come along in its place, the machine says nothing.
"""

import io
import os
import struct
import subprocess
from pathlib import Path

import pytest

from imaging.capture import capture
from imaging.deploy import deploy
from imaging.store import ChunkStore
from pxeboot.bootenv import cpio
from pxeboot.lab import processes
from tests.imaging.disks import MIB, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

SECTOR = 512
SIZE = 96 * MIB
LINUX = (40 * MIB, 50 * MIB)
SAID = b"booted from the logical partition\n"
GRUB = Path("/usr/lib/grub/i386-pc")
MODULES = ["biosdisk", "part_msdos", "ext2", "normal", "configfile", "linux", "serial", "terminal", "echo"]
CONFIGURATION = """serial --unit=0 --speed=115200
terminal_output serial
echo "grub: configuration of the fifth partition"
linux /boot/vmlinuz console=ttyS0,115200 quiet panic=-1
initrd /boot/initrd
boot
"""


def first_program() -> bytes:
    """An ELF program that writes SAID and restarts the machine, which ends QEMU (-no-reboot)."""
    base, head = 0x400000, 64 + 56
    restart = struct.pack("<BIBIBIBI", 0xB8, 169, 0xBF, 0xFEE1DEAD, 0xBE, 672274793, 0xBA, 0x01234567)
    write = struct.pack("<BIBIBIBI", 0xB8, 1, 0xBF, 1, 0xBE, 0, 0xBA, len(SAID))
    size = head + len(write) + 2 + len(restart) + 2
    write = write[:11] + struct.pack("<I", base + size) + write[15:]
    code = write + b"\x0f\x05" + restart + b"\x0f\x05" + SAID
    elf = b"\x7fELF\x02\x01\x01" + bytes(9)
    elf += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + head, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    length = head + len(code)
    return elf + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, length, length, 4096) + code


def make_disk(path: Path, scratch: Path, kernel: Path) -> None:
    """NTFS as the first partition, ext4 with GRUB's configuration and Linux as the fifth."""
    with open(path, "wb") as file:
        file.truncate(SIZE)
    script = "label: dos\nlabel-id: 0x0b1a5000\nstart=2048, size=40960, type=7\nstart=65536, type=f\n"
    script += f"start={LINUX[0] // SECTOR}, size={LINUX[1] // SECTOR}, type=83\n"
    run("sfdisk", "-q", path, input=script.encode())
    tree = scratch / "tree"
    (tree / "boot/grub").mkdir(parents=True)
    (tree / "boot/grub/grub.cfg").write_text(CONFIGURATION)
    (tree / "boot/vmlinuz").write_bytes(kernel.read_bytes())
    out = io.BytesIO()
    cpio.write([cpio.file("init", first_program(), 0o755)], out, mtime=0)
    (tree / "boot/initrd").write_bytes(out.getvalue())
    for name, offset, size in (("ntfs", MIB, 20 * MIB), ("linux", *LINUX)):
        part = scratch / name
        with open(part, "wb") as file:
            file.truncate(size)
        if name == "ntfs":
            run("mkntfs", "-Q", "-F", "-s", "512", "-p", "2048", "-H", "16", "-S", "63", part)
        else:
            run("mkfs.ext4", "-q", "-F", "-d", tree, part)
        run("dd", f"if={part}", f"of={path}", "bs=1M", f"seek={offset // MIB}", "conv=sparse,notrunc")
    embed_grub(path, scratch)


def embed_grub(path: Path, scratch: Path) -> None:
    """What grub-bios-setup does (GRUB's grub-core/boot/i386/pc/{boot,diskboot}.S): the boot code knows the
    first sector of the core, the core's first sector knows where the rest lies.
    """
    core_path = scratch / "core.img"
    place = ["-O", "i386-pc", "-o", str(core_path), "-p", "(hd0,msdos5)/boot/grub"]
    subprocess.run(["grub-mkimage", *place, *MODULES], check=True, capture_output=True)
    boot, core = bytearray((GRUB / "boot.img").read_bytes()), bytearray(core_path.read_bytes())
    struct.pack_into("<Q", boot, 0x5C, 1)
    boot[0x66:0x68] = b"\x90\x90"
    struct.pack_into("<Q", core, 0x1F4, 2)
    with open(path, "r+b") as file:
        file.write(boot[:440])
        file.seek(SECTOR)
        file.write(core)


def boot(disk: Path, folder: Path, limit: float = 300) -> bytes:
    """Run a PC with a BIOS until it restarts; what it wrote to its serial line."""
    serial = folder / "serial"
    argv = [processes.need("qemu-system-x86_64"), "-machine", "q35", "-accel", "tcg", "-cpu", "qemu64"]
    argv += ["-m", "512", "-nodefaults", "-no-reboot", "-display", "none", "-nic", "none"]
    argv += ["-serial", f"file:{serial}", "-drive", f"if=none,id=d0,format=raw,cache=unsafe,file={disk}"]
    argv += ["-device", "ide-hd,bus=ide.0,drive=d0"]
    with open(folder / "qemu.log", "wb") as log:
        process = processes.spawn(argv, stdout=log, stderr=log)
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()
        process.wait(10)
    return serial.read_bytes() if serial.exists() else b""


def test_grub_in_the_gap_and_a_logical_partition_boot_after_a_deploy(
    tmp_path: Path, boot_files: Path
) -> None:
    source, target = tmp_path / "source.img", tmp_path / "target.img"
    make_disk(source, tmp_path, boot_files / "vmlinuz")
    with open(target, "wb") as file:  # a larger disk that somebody used
        for _ in range(128):
            file.write(os.urandom(4096) * 256)
    with ChunkStore(tmp_path / "store", reserve=0) as store:
        manifest = capture(
            source,
            missing=store.missing,
            upload=lambda frames: [store.add_frame(hash, frame) for hash, frame in frames],
        )
        deploy(target, manifest, lambda ref: store.frame(ref.hash))
    source.unlink()
    said = boot(target, tmp_path)
    assert b"grub: configuration of the fifth partition" in said, said[-2000:]
    assert SAID.strip() in said, said[-2000:]
