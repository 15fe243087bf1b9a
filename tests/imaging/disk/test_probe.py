"""File systems are named by what real tools write; what is ambiguous is unknown."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.disk.probe import FileSystem, probe

MIB = 1 << 20
UUID = "8f7c9f5e-1d1c-4d5a-9a0e-5a5a00000001"


def look(data: bytes) -> FileSystem:
    return probe(lambda offset, length: data[offset : offset + length], len(data))


def made(path: Path, *command: str, size: int = 40 * MIB) -> bytes:
    with open(path, "wb") as file:
        file.truncate(size)
    subprocess.run([*command, str(path)], check=True, capture_output=True)
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["ext2", "ext3", "ext4"])
def test_ext(tmp_path: Path, kind: str) -> None:
    data = made(tmp_path / "fs", f"mkfs.{kind}", "-q", "-F", "-L", "root", "-U", UUID, size=8 * MIB)
    assert look(data) == FileSystem(kind, "root", UUID)


def test_an_ext4_that_was_not_unmounted_is_dirty(tmp_path: Path) -> None:
    data = bytearray(made(tmp_path / "fs", "mkfs.ext4", "-q", "-F", size=8 * MIB))
    data[1024 + 96] |= 0x4  # needs_recovery
    assert "not unmounted" in look(bytes(data)).dirty
    data[1024 + 58] |= 0x2  # errors were found
    assert "e2fsck" in look(bytes(data)).dirty


@pytest.mark.parametrize("bits", ["12", "16", "32"])
def test_fat(tmp_path: Path, bits: str) -> None:
    data = made(tmp_path / "fs", "mkfs.vfat", "-F", bits, "-n", "EFI", "-i", "1234abcd")
    assert look(data) == FileSystem("fat", "EFI", "1234-ABCD")


def test_ntfs(tmp_path: Path) -> None:
    found = look(made(tmp_path / "fs", "mkntfs", "-Q", "-F", size=8 * MIB))
    assert found.kind == "ntfs"
    assert len(found.uuid) == 16


@pytest.mark.parametrize(
    ("kind", "command", "size"),
    [
        ("xfs", ("mkfs.xfs", "-q", "-f", "-L", "data"), 300 * MIB),
        ("btrfs", ("mkfs.btrfs", "-q", "-L", "data"), 120 * MIB),
        ("f2fs", ("mkfs.f2fs", "-q", "-l", "data"), 64 * MIB),
        ("exfat", ("mkfs.exfat",), 8 * MIB),
    ],
)
def test_others_have_names_that_blkid_knows_too(
    tmp_path: Path, kind: str, command: tuple[str, ...], size: int
) -> None:
    with open(tmp_path / "fs", "wb") as file:
        file.truncate(size)
    subprocess.run([*command, str(tmp_path / "fs")], check=True, capture_output=True)
    with open(tmp_path / "fs", "rb") as file:
        found = look(file.read(MIB))
    said = subprocess.run(
        ["blkid", "-p", "-o", "export", str(tmp_path / "fs")], check=True, capture_output=True, text=True
    ).stdout
    known = dict(line.split("=", 1) for line in said.splitlines())
    assert (found.kind, found.label, found.uuid) == (known["TYPE"], known.get("LABEL", ""), known["UUID"])
    assert kind == found.kind


def test_swap_and_a_hibernated_system_in_it(tmp_path: Path) -> None:
    data = bytearray(made(tmp_path / "fs", "mkswap", "-L", "swap", "-U", UUID, size=MIB))
    assert look(bytes(data)) == FileSystem("swap", "swap", UUID)
    data[4086:4096] = b"S1SUSPEND\0"
    assert "hibernated" in look(bytes(data)).dirty


@pytest.mark.parametrize(
    ("at", "magic", "kind"),
    [
        (3, b"-FVE-FS-", "bitlocker"),
        (3, b"EXFAT   ", "exfat"),
        (0, b"LUKS\xba\xbe\0\2", "luks"),
        (0, b"XFSB", "xfs"),
        (65600, b"_BHRfS_M", "btrfs"),
        (4096, b"\xfc\x4e\x2b\xa9", "mdraid"),
        (512, b"LABELONE" + bytes(16) + b"LVM2 001", "lvm"),
        (0, b"", "unknown"),
    ],
)
def test_others_are_named_by_their_magic(at: int, magic: bytes, kind: str) -> None:
    data = bytearray(MIB)
    data[at : at + len(magic)] = magic
    assert look(bytes(data)).kind == kind


def test_two_signatures_mean_unknown(tmp_path: Path) -> None:
    data = bytearray(made(tmp_path / "fs", "mkfs.ext4", "-q", "-F", size=8 * MIB))
    data[4086:4096] = b"SWAPSPACE2"
    assert look(bytes(data)).kind == "unknown"


def test_a_partition_of_one_sector_is_unknown() -> None:
    assert look(bytes(512)).kind == "unknown"


@given(
    st.binary(max_size=2048),
    st.integers(0, 8),
    st.sampled_from([b"\x53\xef", b"SWAPSPACE2", b"NTFS    ", b""]),
)
def test_noise_never_raises(noise: bytes, place: int, magic: bytes) -> None:
    data = bytearray(noise.ljust(8192, noise[:1] or b"\0"))
    at = {0: 1080, 1: 4086, 2: 3}.get(place, place * 512)
    data[at : at + len(magic)] = magic
    assert look(bytes(data)).kind
