"""FOG's and Clonezilla's folders, made by the programs that those run, become versions of ours."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from imaging.deploy import deploy
from imaging.errors import ImagingError
from imaging.exchange import clonezilla, fog
from imaging.exchange.unpack import unpack
from imaging.manifest import Manifest, MbrTable
from imaging.store import ChunkStore
from tests.imaging import disks
from tests.imaging.disks import PARTITIONS, ROOT_UUID, SWAP_UUID, extract, run
from tests.imaging.exchange import folders
from tests.imaging.exchange.folders import MIB, Part

pytestmark = pytest.mark.disk
KINDS = {"bios": "raw", "esp": "vfat", "root": "ext4", "ntfs": "ntfs"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ChunkStore]:
    with ChunkStore(tmp_path / "store", reserve=0) as opened:
        yield opened


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scratch = tmp_path_factory.mktemp("disk")
    return disks.make_disk(scratch / "disk.img", scratch)


@pytest.fixture(scope="module")
def parts(disk: Path) -> dict[int, Part]:
    return {
        PARTITIONS[name][0]: Part(disk, *PARTITIONS[name], kind, disk.parent) for name, kind in KINDS.items()
    }


def imported(foreign: list, store: ChunkStore) -> tuple[Manifest, list[str]]:  # type: ignore[type-arg]
    def upload(frames: object) -> None:
        for hash, frame in frames:  # type: ignore[attr-defined]
            store.add_frame(hash, frame)

    said: list[str] = []
    manifest = unpack(foreign, missing=store.missing, upload=upload, tell=said.append)
    id = store.put_manifest(manifest.to_bytes(), bytes(64))
    return Manifest.from_bytes(store.manifest(id)[0]), said


def written(manifest: Manifest, store: ChunkStore, path: Path) -> Path:
    """The image on a disk with old rubbish at both ends of every partition."""
    disk, rubbish = manifest.disks[0], os.urandom(4096) * 64
    with open(path, "wb") as file:
        file.truncate(disk.size)
        for p in disk.partitions:
            for at in (p.start, p.start + p.size - len(rubbish)):
                file.seek(at)
                file.write(rubbish)
    deploy(path, manifest, lambda ref: store.frame(ref.hash))
    return path


def same_systems(source: Path, target: Path, scratch: Path) -> None:
    """Every checker is content with the target, and every file of the source is there."""
    for name in ("esp", "root", "ntfs"):
        ours, theirs = extract(source, name, scratch), extract(target, name, scratch)
        if name == "esp":
            run("fsck.vfat", "-n", theirs)
            assert run("mdir", "-/", "-b", "-i", theirs) == run("mdir", "-/", "-b", "-i", ours)
            for part, copy in ((ours, "ours.efi"), (theirs, "theirs.efi")):
                run("mcopy", "-n", "-i", part, "::EFI/BOOTX64.EFI", scratch / copy)
            assert (scratch / "ours.efi").read_bytes() == (scratch / "theirs.efi").read_bytes()
        elif name == "root":
            run("e2fsck", "-fn", theirs)
            for part, tree in ((ours, "ours"), (theirs, "theirs")):
                (scratch / tree).mkdir()
                run("debugfs", "-R", f"rdump / {scratch / tree}", part)
            run("diff", "-r", scratch / "ours", scratch / "theirs")
        else:
            run("ntfsfix", "-n", theirs)
            assert run("ntfscat", theirs, "data.bin") == run("ntfscat", ours, "data.bin")
            # The boot sector's copy, which partclone leaves out, is there again.
            assert theirs.read_bytes()[-512:] == ours.read_bytes()[-512:]


@pytest.mark.parametrize("split", [0, 300_000])
def test_fog_folder_comes_back_as_the_same_disk(
    split: int, disk: Path, parts: dict[int, Part], store: ChunkStore, tmp_path: Path
) -> None:
    folder = folders.fog(tmp_path / "image", disk, parts, swaps={5: SWAP_UUID}, split=split)
    manifest, said = imported(fog.read(folder), store)
    assert [p.filesystem for p in manifest.disks[0].partitions] == ["unknown", "fat", "ext4", "ntfs", "swap"]
    assert [p.capture for p in manifest.disks[0].partitions] == ["whole", "used", "used", "used", "header"]
    assert manifest.disks[0].partitions[2].uuid == ROOT_UUID
    target = written(manifest, store, tmp_path / "target.img")
    assert run("sfdisk", "-d", target).replace("target", "") == run("sfdisk", "-d", disk).replace(
        str(disk), str(target)
    ).replace("target", "")
    assert run("sgdisk", "-v", target).count("No problems found") == 1
    same_systems(disk, target, tmp_path)
    assert f'UUID="{SWAP_UUID}"' in run("blkid", "-p", extract(target, "swap", tmp_path))
    assert len(said) == 5


@pytest.mark.parametrize(
    ("ending", "packer", "split"),
    [("gz", ("gzip", "-1"), 400_000), ("xz", ("xz", "-0"), 0)],
)
def test_clonezilla_folder_comes_back_as_the_same_disk(
    ending: str,
    packer: tuple[str, ...],
    split: int,
    disk: Path,
    parts: dict[int, Part],
    store: ChunkStore,
    tmp_path: Path,
) -> None:
    folder = folders.clonezilla(
        tmp_path / "image",
        disk,
        parts,
        name="nvme0n1" if split else "sda",
        swaps={5: (SWAP_UUID, "swap")},
        packer=packer,
        ending=ending,
        split=split,
    )
    manifest, _ = imported(clonezilla.read(folder), store)
    target = written(manifest, store, tmp_path / "target.img")
    assert manifest.disks[0].size == disk.stat().st_size
    same_systems(disk, target, tmp_path)
    # mkswap's own page: nothing of it was in the folder but UUID and label.
    assert (
        extract(target, "swap", tmp_path).read_bytes()[:4096]
        == extract(disk, "swap", tmp_path).read_bytes()[:4096]
    )


@pytest.fixture(scope="module")
def mbr_disk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, Part]]:
    """A BIOS disk: boot code, a loader in the gap, one primary and two logical partitions."""
    scratch = tmp_path_factory.mktemp("mbr")
    disk = scratch / "mbr.img"
    with open(disk, "wb") as file:
        file.truncate(380 * MIB)
    layout = (
        "label: dos\nlabel-id: 0x1badcafe\n1 : start=1M, size=20M, type=83, bootable\n"
        "2 : start=21M, size=357M, type=5\n5 : start=22M, size=30M, type=83\n"
        "6 : start=54M, size=320M, type=83\n"
    )
    run("sfdisk", "-q", disk, input=layout.encode())
    disks.put(disk, 0, b"\xeb\x63\x90" + os.urandom(300))
    disks.put(disk, 512, os.urandom(60_000))
    starts = {}
    for line in run("sfdisk", "-d", disk).splitlines():
        if "start=" in line and "type=5" not in line and "type=f" not in line:
            words = line.split("start=")[1].replace(",", " ").split()
            starts[int(line.split(" :")[0].removeprefix(str(disk)))] = (
                int(words[0]) * 512,
                int(words[2]) * 512,
            )
    found = {}
    for number, (start, size) in starts.items():
        part = scratch / "fresh.part"
        with open(part, "wb") as file:
            file.truncate(size)
        if number == 6:
            run("mkfs.xfs", "-q", "-f", "-p", _protofile(scratch), part)
        elif number == 5:
            run("mkfs.ext4", "-q", "-F", "-d", "/etc/ssl", part)
        else:
            run("mkfs.vfat", part)
        disks.put(disk, start, part.read_bytes())
        part.unlink()
        kind = {1: "vfat", 5: "ext4", 6: "xfs"}[number]
        found[number] = Part(disk, number, start, size, kind, scratch)
    return disk, found


def _protofile(scratch: Path) -> Path:
    data = scratch / "data"
    data.write_bytes(os.urandom(3_000_000))
    proto = scratch / "proto"
    proto.write_text(f"/\n0 0\nd--755 0 0\ndata ---644 0 0 {data}\n$\n")
    return proto


@pytest.mark.parametrize("which", ["fog", "clonezilla"])
def test_an_mbr_disk_with_logical_partitions_comes_back(
    which: str, mbr_disk: tuple[Path, dict[int, Part]], store: ChunkStore, tmp_path: Path
) -> None:
    disk, parts = mbr_disk
    if which == "fog":
        foreign = fog.read(folders.fog(tmp_path / "image", disk, parts, gpt=False, packer=("gzip", "-1")))
    else:
        foreign = clonezilla.read(folders.clonezilla(tmp_path / "image", disk, parts, gpt=False))
    manifest, _ = imported(foreign, store)
    assert isinstance(manifest.disks[0].table, MbrTable)
    target = written(manifest, store, tmp_path / "target.img")
    before, after = (run("sfdisk", "-d", path).replace(str(path), "") for path in (disk, target))
    assert after == before
    with open(disk, "rb") as ours, open(target, "rb") as theirs:
        assert theirs.read(62_000) == ours.read(62_000)  # boot code and loader
    for number, part in parts.items():
        copy = tmp_path / f"part{number}"
        with open(target, "rb") as file:
            file.seek(part.start)
            copy.write_bytes(file.read(part.size))
        check = {"vfat": ["fsck.vfat", "-n"], "ext4": ["e2fsck", "-fn"], "xfs": ["xfs_repair", "-n", "-f"]}
        run(*check[part.kind], copy)
        copy.unlink()


def test_fogs_shrunken_disk_goes_where_it_was_or_where_fog_moved_it(
    disk: Path, parts: dict[int, Part], store: ChunkStore, tmp_path: Path
) -> None:
    folder = folders.fog(tmp_path / "image", disk, parts)
    # What FOG's shrinking leaves: partition 4 half as large, and 5 moved behind it.
    shrunk = tmp_path / "shrunk.img"
    run("cp", "--sparse=always", disk, shrunk)
    smaller = tmp_path / "ntfs.part"
    smaller.write_bytes(parts[4].path.read_bytes())
    run("ntfsresize", "-f", "-s", "12M", smaller, input=b"y\n")
    run("ntfsfix", "-b", "-d", smaller)  # as FOG's resetFlag does
    with open(smaller, "r+b") as file:
        file.truncate(12 * MIB)
    first = PARTITIONS["ntfs"][1] // 512
    run("sgdisk", "-d", "4", "-d", "5", shrunk)
    run("sgdisk", "-n", f"4:{first}:+12M", "-n", f"5:{first + 14 * 2048}:+16M", "-t", "5:8200", shrunk)
    run("sgdisk", "-b", folder / "d1.mbr", shrunk)
    (folder / "d1.minimum.partitions").write_text(folders.dump(shrunk, "sda"))
    part = Part(smaller, 4, 0, 12 * MIB, "ntfs", tmp_path)
    folders.piped(folders.partclone(part, "-a0", log=tmp_path / "log"), ["zstd", "-q"], folder / "d1p4.img")

    (folder / "d1.fixed_size_partitions").write_text("1:2:5\n")

    manifest, said = imported(fog.read(folder, "original"), store)
    assert [(p.start, p.size) for p in manifest.disks[0].partitions] == [
        (start, size) for _, start, size in PARTITIONS.values()
    ]
    assert any("partition 4: its file system has 11 MiB of 24; it was shrunk" in line for line in said)

    assert fog.read(folder)[0].grow == (3, 4)
    small, _ = imported(fog.read(folder), store)
    assert small.disks[0].size < manifest.disks[0].size
    target = written(small, store, tmp_path / "target.img")
    assert run("sgdisk", "-v", target).count("No problems found") == 1
    with open(target, "rb") as file:
        file.seek(first * 512)
        (tmp_path / "got.part").write_bytes(file.read(12 * MIB))
    assert run("ntfscat", tmp_path / "got.part", "data.bin") == run("ntfscat", parts[4].path, "data.bin")


def test_a_folder_of_two_disks_becomes_a_version_of_two(
    disk: Path, parts: dict[int, Part], store: ChunkStore, tmp_path: Path
) -> None:
    folder = folders.fog(tmp_path / "image", disk, {2: parts[2]})
    for path in list(folder.iterdir()):
        (folder / path.name.replace("d1", "d2", 1)).write_bytes(path.read_bytes())
    (folder / "d2.size").write_text(f"2:{disk.stat().st_size}")
    manifest, said = imported(fog.read(folder), store)
    first, second = manifest.disks
    assert (first.partitions, first.hashes) == (second.partitions, second.hashes)
    assert [p.capture for p in first.partitions] == ["none", "used", "none", "none", "none"]
    assert sum("no content in the folder" in line for line in said) == 8


def test_what_is_missing_or_damaged_is_said_with_its_place(
    disk: Path, parts: dict[int, Part], store: ChunkStore, tmp_path: Path
) -> None:
    """FOG restores such images with --ignore_crc; here nothing of them becomes a version."""
    few = {3: parts[3]}
    folder = folders.clonezilla(tmp_path / "cz", disk, few, split=100_000, checks=("-a1", "-k16"))
    pieces = sorted(folder.glob("sda3.*"))
    middle = pieces[len(pieces) // 2]
    kept = middle.read_bytes()

    damaged = bytearray(kept)
    damaged[5000] ^= 1
    middle.write_bytes(damaged)
    with pytest.raises(
        ImagingError,
        match=rf"Partition 3 of sda \(before {middle.name}, byte \d+\): .*the checksum of the 16",
    ):
        imported(clonezilla.read(folder), store)

    middle.unlink()
    with pytest.raises(ImagingError, match=rf"the piece {middle.suffix} is missing"):
        clonezilla.read(folder)
    middle.write_bytes(kept)
    pieces[-1].unlink()
    with pytest.raises(ImagingError, match=r"ends too early at .*byte \d+: a piece of it is missing"):
        imported(clonezilla.read(folder), store)

    loose = folders.fog(tmp_path / "fog", disk, few, packer=("cat",))
    image = loose / "d1p3.img"
    whole = image.read_bytes()
    image.write_bytes(whole[:-1000])
    with pytest.raises(ImagingError, match=r"Partition 3 of d1 .*: The partclone image ends in its blocks"):
        imported(fog.read(loose), store)
    image.unlink()
    image.symlink_to("/etc/passwd")
    with pytest.raises(ImagingError, match="symbolic link"):
        imported(fog.read(loose), store)
    assert store.manifests() == []
