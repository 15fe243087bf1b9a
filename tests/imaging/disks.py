"""Real small disks for the tests: GPT with ESP, ext4, NTFS and swap, made without mounting anything."""

import os
import subprocess
from pathlib import Path

MIB = 1 << 20
#: name -> (number, start, size) in bytes
PARTITIONS = {
    "bios": (1, 1 * MIB, 1 * MIB),
    "esp": (2, 2 * MIB, 40 * MIB),
    "root": (3, 42 * MIB, 80 * MIB),
    "ntfs": (4, 122 * MIB, 24 * MIB),
    "swap": (5, 146 * MIB, 16 * MIB),
}
SIZE = 164 * MIB
SWAP_UUID = "8f7c9f5e-1d1c-4d5a-9a0e-5a5a00000001"
ROOT_UUID = "8f7c9f5e-1d1c-4d5a-9a0e-5a5a00000002"


def run(*command: str | Path, input: bytes | None = None) -> str:
    result = subprocess.run(
        [str(word) for word in command],
        input=input,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    output = result.stdout.decode(errors="replace")
    assert result.returncode == 0, f"{command}: {output}"
    return output


def make_disk(path: Path, scratch: Path, *, sector_size: int = 512) -> Path:
    """A disk file of SIZE bytes with files in every file system."""
    with open(path, "wb") as file:
        file.truncate(SIZE)
    arguments = []
    for name, (number, start, size) in PARTITIONS.items():
        kind = {"bios": "ef02", "esp": "ef00", "root": "8300", "ntfs": "0700", "swap": "8200"}[name]
        first, last = start // 512, (start + size) // 512 - 1
        arguments += [
            f"--new={number}:{first}:{last}",
            f"--typecode={number}:{kind}",
            f"--change-name={number}:{name}",
        ]
    run("sgdisk", *arguments, path)
    put(path, PARTITIONS["bios"][1], os.urandom(30_000))
    for name, maker in (("esp", _esp), ("root", _root), ("ntfs", _ntfs), ("swap", _swap)):
        part = scratch / f"{name}.part"
        with open(part, "wb") as file:
            file.truncate(PARTITIONS[name][2])
        maker(part, scratch)
        put(path, PARTITIONS[name][1], part.read_bytes())
        part.unlink()
    return path


def put(path: Path, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        for at in range(0, len(data), 65536):  # zeros stay holes
            piece = data[at : at + 65536]
            if any(piece):
                file.seek(offset + at)
                file.write(piece)


def extract(disk: Path, name: str, scratch: Path) -> Path:
    """One partition of a disk file as a file of its own."""
    _, start, size = PARTITIONS[name]
    part = scratch / f"{disk.stem}-{name}.extracted"
    with open(disk, "rb") as source, open(part, "wb") as target:
        source.seek(start)
        target.write(source.read(size))
    return part


def _esp(part: Path, scratch: Path) -> None:
    run("mkfs.vfat", "-F", "32", "-n", "ESP", "-i", "12345678", part)
    loader = scratch / "loader.efi"
    loader.write_bytes(os.urandom(700_000))
    run("mmd", "-i", part, "::EFI")
    run("mcopy", "-i", part, loader, "::EFI/BOOTX64.EFI")


def _root(part: Path, scratch: Path) -> None:
    tree = scratch / "tree"
    (tree / "etc").mkdir(parents=True, exist_ok=True)
    (tree / "etc/hostname").write_text("reference\n")
    (tree / "etc/hosts").write_text(
        "127.0.0.1\tlocalhost\n127.0.1.1\treference.lab.example reference\n::1 localhost\n"
    )
    (tree / "usr").mkdir(exist_ok=True)
    for number in range(40):
        (tree / "usr" / f"file{number}").write_bytes(os.urandom(100_000 + number * 5000))
    run("mkfs.ext4", "-q", "-F", "-L", "root", "-U", ROOT_UUID, "-d", tree, part)


def _ntfs(part: Path, scratch: Path) -> None:
    run("mkntfs", "-Q", "-F", "-L", "Windows", part)
    file = scratch / "ntfs.dat"
    file.write_bytes(os.urandom(2_000_000))
    run("ntfscp", "-f", part, file, "data.bin")


def _swap(part: Path, scratch: Path) -> None:
    run("mkswap", "-L", "swap", "-U", SWAP_UUID, part)
    with open(part, "r+b") as file:  # pages that were swapped out once: no business of the image
        file.seek(8 * MIB)
        file.write(os.urandom(MIB))
