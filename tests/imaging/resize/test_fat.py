"""FAT read without the kernel, compared with mtools, and damaged on purpose."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.resize.fat import Fat, FatError
from tests.imaging.disks import run

MIB = 1 << 20
LONG = "a long name with spaces and ümlauts.conf"


@pytest.fixture(params=[("12", 2), ("16", 20), ("32", 64)], ids=["fat12", "fat16", "fat32"])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    bits, size = request.param
    path: Path = tmp_path / "esp"
    with open(path, "wb") as file:
        file.truncate(size * MIB)
    run("mkfs.vfat", "-F", bits, "-s", "1", path)
    run("mmd", "-i", path, "::EFI", "::EFI/debian", "::EFI/Boot")
    big = tmp_path / "big"
    for number in range(12):  # holes between files: the next one lies in pieces
        big.write_bytes(bytes([number]) * 3000)
        run("mcopy", "-i", path, big, f"::hole{number}")
    run("mdel", "-i", path, *(f"::hole{number}" for number in range(0, 12, 2)))
    big.write_bytes(bytes(range(256)) * 200)
    run("mcopy", "-i", path, big, "::EFI/debian/shimx64.efi")
    run("mcopy", "-i", path, big, f"::EFI/debian/{LONG}")
    run("mcopy", "-i", path, big, "::EFI/Boot/BOOTX64.EFI")
    return path


def opened(data: bytes) -> Fat:
    return Fat(lambda offset, length: data[max(0, offset) : max(0, offset) + length])


def test_everything_is_found_and_read(image: Path) -> None:
    fat = opened(image.read_bytes())
    found = {entry.path: entry for entry in fat.walk("efi")}
    assert {f"EFI/debian/{LONG}", "EFI/debian/shimx64.efi", "EFI/Boot/BOOTX64.EFI"} <= set(found)
    assert found["EFI/debian"].directory
    for name in (LONG, "shimx64.efi"):
        entry = fat.find(f"efi/DEBIAN/{name.upper()}")
        assert entry is not None
        assert fat.read(entry, MIB) == bytes(range(256)) * 200
    assert fat.find("EFI/none") is None
    assert list(fat.walk("EFI/none")) == []
    assert fat.read(found["EFI/debian/shimx64.efi"], 100) == bytes(range(100))


def test_a_file_in_pieces_has_several_extents_that_make_up_its_bytes(image: Path) -> None:
    data = image.read_bytes()
    fat = opened(data)
    entries = [fat.find("EFI/debian/shimx64.efi"), fat.find(f"EFI/debian/{LONG}")]
    pieces = [fat.extents(entry) for entry in entries if entry]
    # On FAT32 mtools goes on behind the last file instead of filling holes.
    assert max(len(piece) for piece in pieces) > 1 or len(data) == 64 * MIB
    for piece in pieces:
        assert b"".join(data[at : at + n] for at, n in piece) == bytes(range(256)) * 200


def everything(data: bytes) -> None:
    """Walk and read it all; only FatError may come out."""
    with contextlib.suppress(FatError):
        fat = opened(data)
        for entry in fat.walk():
            if not entry.directory:
                with contextlib.suppress(FatError):
                    fat.read(entry, MIB)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], bytearray]:
    path = tmp_path_factory.mktemp("fat") / "esp"
    with open(path, "wb") as file:
        file.truncate(MIB)
    run("mkfs.vfat", "-F", "12", "-s", "1", path)
    run("mmd", "-i", path, "::EFI", "::EFI/debian")
    for name in ("shimx64.efi", "grub.cfg", "a name that is long"):
        run("mcopy", "-i", path, "/etc/hostname", f"::EFI/debian/{name}")
    data = path.read_bytes()
    return lambda: bytearray(data)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30_000), st.integers(0, 255)), min_size=1, max_size=40))
def test_no_damage_makes_it_fail_otherwise_than_by_its_own_error(
    small: Callable[[], bytearray], damage: list[tuple[int, int]]
) -> None:
    data = small()
    for at, value in damage:
        data[at] = value
    everything(bytes(data))


@settings(deadline=None)
@given(st.binary(max_size=2000))
def test_noise_is_no_fat(data: bytes) -> None:
    everything(data)
    everything(data[:510].ljust(510, b"\0") + b"\x55\xaa" + data)


def test_a_loop_in_a_chain_ends(image: Path) -> None:
    data = bytearray(image.read_bytes())
    fat = opened(bytes(data))
    entry = fat.find("EFI/debian/shimx64.efi")
    assert entry is not None
    endless = entry._replace(size=1 << 40)
    with pytest.raises(FatError):
        fat.extents(endless)
    assert os.path.getsize(image) == len(data)
