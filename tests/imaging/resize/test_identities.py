"""A whole disk is renamed: afterwards every name in its configuration leads somewhere on this disk."""

from __future__ import annotations

import os
import re
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from imaging.disk import mbr
from imaging.disk.device import Disk
from imaging.disk.inspect import read_layout
from imaging.disk.loop import loop_device
from imaging.manifest import Partition
from imaging.resize.fat import Fat
from imaging.resize.identities import renew_identities
from tests.imaging.disks import put, run
from tests.imaging.resize.samples import MIB, check, in_mount

pytestmark = pytest.mark.disk

#: name -> (number, start, size, type)
PARTS = {
    "esp": (1, 1 * MIB, 40 * MIB, "ef00"),
    "root": (2, 41 * MIB, 100 * MIB, "8300"),
    "swap": (3, 141 * MIB, 16 * MIB, "8200"),
    "home": (4, 157 * MIB, 320 * MIB, "8300"),  # XFS does not go below 300 MiB
    "pool": (5, 477 * MIB, 130 * MIB, "8300"),
    "ntfs": (6, 607 * MIB, 30 * MIB, "0700"),
}
SIZE = 640 * MIB
UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9A-F]{4}-[0-9A-F]{4}\b")


class Room:
    """A disk being built, with the names its configuration is written with."""

    def __init__(self, path: Path, scratch: Path) -> None:
        self.path, self.scratch = path, scratch
        with open(path, "wb") as file:
            file.truncate(SIZE)
        words = []
        for number, start, size, kind in PARTS.values():
            words += [f"-n{number}:{start // 512}:{(start + size) // 512 - 1}", f"-t{number}:{kind}"]
        run("sgdisk", *words, path)
        self.uuids: dict[str, str] = {}

    def part(self, name: str) -> Path:
        path = self.scratch / f"{name}.part"
        with open(path, "wb") as file:
            file.truncate(PARTS[name][2])
        return path

    def install(self, name: str, part: Path) -> None:
        put(self.path, PARTS[name][1], part.read_bytes())
        part.unlink()
        with Disk(self.path) as disk:
            found = {p.number: p for p in read_layout(disk)[1]}[PARTS[name][0]]
        self.uuids[name] = found.uuid


def write_linux(tree: Path, uuids: dict[str, str], guid: str) -> None:
    for folder in ("etc/initramfs-tools/conf.d", "etc/default", "boot/grub"):
        (tree / folder).mkdir(parents=True, exist_ok=True)
    (tree / "etc/fstab").write_text(
        f"UUID={uuids['root']} / ext4 defaults 0 1\nUUID={uuids['esp']} /boot/efi vfat umask=0077 0 1\n"
        f"UUID={uuids['swap']} none swap sw 0 0\nUUID={uuids['home']} /home xfs defaults 0 2\n"
        f"UUID={uuids['pool']} /pool btrfs subvol=@ 0 0\nPARTUUID={guid} /data ntfs ro 0 0\n"
    )
    (tree / "etc/initramfs-tools/conf.d/resume").write_text(f"RESUME=UUID={uuids['swap']}\n")
    (tree / "etc/default/grub").write_text(f'GRUB_CMDLINE_LINUX="resume=UUID={uuids["swap"]}"\n')
    (tree / "boot/grub/grub.cfg").write_text(
        f"search --no-floppy --fs-uuid --set=root {uuids['root']}\n"
        f"linux /boot/vmlinuz root=UUID={uuids['root']} ro quiet\ninitrd /boot/initrd.img-6.1\n"
    )
    (tree / "boot/initrd.img-6.1").write_bytes(b"a compressed archive, odd length!")


def make(tmp_path: Path, *, windows: bool = False, dracut: bool = False) -> Room:
    room = Room(tmp_path / "disk", tmp_path)
    swap = room.part("swap")
    run("mkswap", swap)
    room.install("swap", swap)
    for name, command in (
        ("home", ("mkfs.xfs", "-q")),
        ("pool", ("mkfs.btrfs", "-q")),
        ("ntfs", ("mkntfs", "-qQF")),
    ):
        part = room.part(name)
        run(*command, part)
        room.install(name, part)
    if windows:
        ntfs, hive = room.part("ntfs"), tmp_path / "bootmgr"
        run("mkntfs", "-qQF", ntfs)
        hive.write_bytes(b"x")
        run("ntfscp", "-f", "-q", ntfs, hive, "bootmgr")
        room.install("ntfs", ntfs)
    with Disk(room.path) as disk:
        guid = {p.number: p for p in read_layout(disk)[1]}[6].unique_guid
    root = room.part("root")
    root_uuid, esp = "8f7c9f5e-1d1c-4d5a-9a0e-5a5a00000002", room.part("esp")
    run("mkfs.vfat", "-F", "32", "-n", "ESP", "-i", "1234ABCD", esp)
    room.uuids |= {"root": root_uuid, "esp": "1234-ABCD"}
    run("mmd", "-i", esp, "::EFI", "::EFI/debian")
    stub = tmp_path / "grub.cfg"
    stub.write_text(f"search.fs_uuid {root_uuid} root \nset prefix=($root)'/boot/grub'\n")
    run("mcopy", "-i", esp, stub, "::EFI/debian/grub.cfg")
    if windows:
        run("mmd", "-i", esp, "::EFI/Microsoft", "::EFI/Microsoft/Boot")
    room.install("esp", esp)
    tree = tmp_path / "tree"
    write_linux(tree, room.uuids, guid)
    if dracut:
        (tree / "usr/bin").mkdir(parents=True)
        (tree / "usr/bin/dracut").write_text("#!/bin/sh\n")
    run("mkfs.ext4", "-q", "-F", "-U", root_uuid, "-d", tree, root)
    room.install("root", root)
    in_partition(room.path, "pool", "btrfs", lambda top: _second_system(top, room.uuids, guid))
    return room


def _second_system(top: Path, uuids: dict[str, str], guid: str) -> None:
    run("btrfs", "subvolume", "create", top / "@")
    write_linux(top / "@", uuids, guid)
    run("btrfs", "subvolume", "snapshot", "-r", top / "@", top / "old")


def in_partition(path: Path, name: str, kind: str, work) -> object:  # type: ignore[no-untyped-def]
    _, start, size, _ = PARTS[name]
    fd = os.open(path, os.O_RDWR)
    try:
        with loop_device(fd, offset=start, size=size, write=True) as device:
            return in_mount(device, kind, work)
    finally:
        os.close(fd)


def extract(path: Path, name: str) -> bytes:
    with open(path, "rb") as file:
        file.seek(PARTS[name][1])
        return file.read(PARTS[name][2])


def layout(path: Path) -> tuple[str, dict[int, Partition]]:
    with Disk(path) as disk:
        table, partitions = read_layout(disk)
    assert table is not None
    return table.guid, {p.number: p for p in partitions}


def names_in(path: Path) -> dict[str, set[bytes]]:
    """place -> every UUID, GUID or serial number that its configuration files name."""
    found: dict[str, set[bytes]] = {}

    def linux(top: Path, where: str) -> None:
        for below in (
            "etc/fstab",
            "etc/default/grub",
            "boot/grub/grub.cfg",
            "etc/initramfs-tools/conf.d/resume",
        ):
            found[f"{where} {below}"] = set(UUID.findall((top / below).read_bytes()))
        initrd = (top / "boot/initrd.img-6.1").read_bytes()
        found[f"{where} initrd"] = set(UUID.findall(initrd))

    in_partition(path, "root", "ext4", lambda top: linux(top, "root"))
    in_partition(path, "pool", "btrfs", lambda top: linux(top / "@", "pool"))
    data = extract(path, "esp")
    fat = Fat(lambda offset, length: data[offset : offset + length])
    entry = fat.find("EFI/debian/grub.cfg")
    assert entry
    found["esp"] = set(UUID.findall(fat.read(entry, MIB)))
    return found


def renewed(path: Path):  # type: ignore[no-untyped-def]
    with Disk(path, write=True) as disk:
        return renew_identities(disk, read_layout(disk)[1])


def all_names(path: Path) -> set[str]:
    guid, partitions = layout(path)
    return {guid} | {p.unique_guid for p in partitions.values()} | {p.uuid for p in partitions.values()}


def test_every_reference_follows_to_the_new_names(tmp_path: Path) -> None:
    room = make(tmp_path)
    before = all_names(room.path)
    assert len(before) == 13
    named = names_in(room.path)
    done = renewed(room.path)
    after = all_names(room.path)
    assert not before & after
    assert done.kept == {}
    assert {p.number: p for p in done.partitions} == layout(room.path)[1]
    now = names_in(room.path)
    for place, names in now.items():
        assert {name.decode() for name in names} <= after, place
        assert len(names) == len(named[place]) or place.endswith("initrd")
    swap = layout(room.path)[1][3].uuid.encode()
    assert now["root initrd"] == now["pool initrd"] == {swap}
    for name, kind in (("root", "ext4"), ("home", "xfs"), ("pool", "btrfs"), ("esp", "fat")):
        part = tmp_path / "check"
        part.write_bytes(extract(room.path, name))
        check(str(part), kind)
    run("sgdisk", "-v", room.path)


def test_windows_keeps_what_its_boot_configuration_names(tmp_path: Path) -> None:
    room = make(tmp_path, windows=True)
    guid, before = layout(room.path)
    done = renewed(room.path)
    new_guid, after = layout(room.path)
    assert sorted(done.kept) == [1, 6]
    assert done.disk_kept
    assert new_guid == guid
    for number in (1, 6):
        assert after[number] == before[number]
    for number in (2, 3, 4, 5):
        assert after[number].unique_guid != before[number].unique_guid
        assert after[number].uuid != before[number].uuid
    known = all_names(room.path)
    for names in names_in(room.path).values():  # the system partition's own file changed, its names did not
        assert {name.decode() for name in names} <= known


def test_a_system_whose_initramfs_waits_for_its_uuids_keeps_them(tmp_path: Path) -> None:
    room = make(tmp_path, dracut=True)
    _, before = layout(room.path)
    done = renewed(room.path)
    _, after = layout(room.path)
    assert "dracut" in done.kept[2]
    assert sorted(done.kept) == [2, 3, 4, 5]
    assert {n: p.uuid for n, p in after.items() if n in done.kept} == {
        n: p.uuid for n, p in before.items() if n in done.kept
    }
    assert after[1].uuid != before[1].uuid


def test_an_mbr_has_its_disk_signature_renewed_and_partuuids_follow(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with open(path, "wb") as file:
        file.truncate(64 * MIB)
    run("sfdisk", "-q", path, input=b"label: dos\nlabel-id: 0x1a2b3c4d\nstart=2048, size=100000, type=83\n")
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/fstab").write_text("PARTUUID=1a2b3c4d-01 / ext4 defaults 0 1\n")
    part = tmp_path / "part"
    with open(part, "wb") as file:
        file.truncate(100_000 * 512)
    run("mkfs.ext4", "-q", "-F", "-d", tree, part)
    put(path, MIB, part.read_bytes())
    only = Partition(1, "", "", "", 0, MIB, 100_000 * 512, "ext4", "", "", 0, "used")
    with Disk(path, write=True) as disk:
        done = renew_identities(disk, (only,))
        signature = struct.unpack("<I", disk.read_at(440, 4))[0]
        assert mbr.kind(disk.read_at(0, 512)) == "mbr"
    assert signature != 0x1A2B3C4D
    assert done.names["1a2b3c4d-01"] == f"{signature:08x}-01"
    fd = os.open(path, os.O_RDWR)
    try:
        with loop_device(fd, offset=MIB, size=only.size, write=True) as device:
            text = in_mount(device, "ext4", lambda root: (root / "etc/fstab").read_text())
    finally:
        os.close(fd)
    assert text == f"PARTUUID={signature:08x}-01 / ext4 defaults 0 1\n"
    assert replace(only, uuid=done.partitions[0].uuid) == done.partitions[0]
