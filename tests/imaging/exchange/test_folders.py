"""Reading folders without their content: partition tables as text, pieces by name, what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.errors import ImagingError
from imaging.exchange import clonezilla, fog, formats, paths, sfdisk, swap
from imaging.exchange.errors import ExchangeError, FolderInvalid, PathRefused
from tests.imaging.disks import run

GPT = """label: gpt
label-id: 8F7C9F5E-1D1C-4D5A-9A0E-5A5A00000009
device: /dev/nvme0n1
unit: sectors
first-lba: 34
last-lba: 1000215182
sector-size: 512

/dev/nvme0n1p1 : start=        2048, size=      204800, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=8F7C9F5E-1D1C-4D5A-9A0E-5A5A00000001, name="EFI system, one", attrs="GUID:63"
/dev/nvme0n1p2 : start=      206848, size=       32768, type=E3C9E316-0B5C-4DB8-817D-F92DF00215AE, uuid=8F7C9F5E-1D1C-4D5A-9A0E-5A5A00000002
"""  # noqa: E501
OLD = """# partition table of /dev/sda
unit: sectors

/dev/sda1 : start=     2048, size=   204800, Id= 7, bootable
/dev/sda2 : start=   206848, size=  1000000, Id= 5
/dev/sda3 : start=        0, size=        0, Id= 0
/dev/sda4 : start=        0, size=        0, Id= 0
/dev/sda5 : start=   208896, size=   500000, Id=83
"""


def test_dumps_of_new_and_old_sfdisk_are_read() -> None:
    dump = sfdisk.parse(GPT.encode(), "d1.partitions")
    assert (dump.label, dump.last_lba, dump.end) == ("gpt", 1000215182, 239616)
    first = dump.rows[0]
    assert (first.number, first.start, first.size) == (1, 2048, 204800)
    assert (first.name, first.uuid[-4:], first.device) == ("EFI system, one", "0001", "/dev/nvme0n1p")
    old = sfdisk.parse(OLD.encode(), "d1.partitions")
    assert old.label == "dos"
    assert [(row.number, row.type, row.bootable) for row in old.rows] == [
        (1, "7", True),
        (2, "5", False),
        (5, "83", False),
    ]


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=400),
        st.lists(
            st.sampled_from(
                ["label: gpt", "label: dos", "/dev/sda1 : ", "start=", "size=", "9" * 25, "1", ",", "\n"]
            ),
            max_size=30,
        ).map(lambda words: "".join(words).encode()),
    )
)
def test_any_text_is_a_dump_or_refused(data: bytes) -> None:
    try:
        dump = sfdisk.parse(data, "d1.partitions")
    except FolderInvalid:
        return
    assert dump.rows
    assert all(row.size > 0 for row in dump.rows)


def test_pieces_are_found_in_order_and_holes_named(tmp_path: Path) -> None:
    for name in ("d1p1.img", "d1p1.img.001", "d1p1.img.002", "d1p10.img", "d1p2.img.000", "d1p2.img.002"):
        (tmp_path / name).write_bytes(b"x")
    assert [p.name for p in fog.pieces(tmp_path, "d1p1.img")] == ["d1p1.img", "d1p1.img.001", "d1p1.img.002"]
    assert fog.pieces(tmp_path, "d1p3.img") == ()
    with pytest.raises(FolderInvalid, match=r"d1p2.img.001 is missing"):
        fog.pieces(tmp_path, "d1p2.img")
    (tmp_path / "d1p1.img.000").write_bytes(b"x")
    with pytest.raises(FolderInvalid, match="which is right"):
        fog.pieces(tmp_path, "d1p1.img")


def clonezilla_folder(folder: Path, *names: str) -> Path:
    """A folder of an MBR disk with one partition, and files of these names."""
    folder.mkdir()
    (folder / "sda-pt.sf").write_text("label: dos\n/dev/sda1 : start=2048, size=20480, type=83\n")
    (folder / "sda-mbr").write_bytes(bytes(510) + b"\x55\xaa")
    (folder / "parts").write_text("sda1\n")
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "holds no partition's content"),
        (("sda1.ntfs-img.aa",), "saved with ntfsclone"),
        (("sda1.000",), "made by partimage"),
        (("sda1.ext4-ptcl-img.gz", "sda1.ext4-ptcl-img.zst"), "two images of sda1"),
        (("sda1.ext4-ptcl-img.gz", "sda1.xfs-ptcl-img.gz.aa"), "two images of sda1"),
        (("sda1.ext4-ptcl-img.gz.aa", "sda1.ext4-ptcl-img.gz.ac"), "piece .ab is missing"),
        (("sda2.ext4-ptcl-img.gz",), "holds no partition's content"),
        (("lvm_vg_dev.list",), "LVM volumes"),
        (("ecryptfs.info",), "it is encrypted"),
    ],
)
def test_what_clonezilla_folders_cannot_be_read_is_said(
    names: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    with pytest.raises(FolderInvalid, match=said):
        clonezilla.read(clonezilla_folder(tmp_path / "image", *names))


def test_suffixes_go_on_behind_z(tmp_path: Path) -> None:
    suffixes = [f"{a}{b}" for a in "ab" for b in "abcdefghijklmnopqrstuvwxyz"][:30]
    folder = clonezilla_folder(tmp_path / "image", *(f"sda1.ext4-ptcl-img.zst.{s}" for s in suffixes))
    content = clonezilla.read(folder)[0].contents[1]
    assert isinstance(content, clonezilla.Packed)
    assert [path.suffix for path in content.files] == [f".{s}" for s in suffixes]
    os.unlink(content.files[27])
    with pytest.raises(FolderInvalid, match=r"piece .bb is missing"):
        clonezilla.read(folder)


def test_folders_and_files_are_recognised_by_their_names(tmp_path: Path) -> None:
    clonezilla_folder(tmp_path / "cz")
    (tmp_path / "fog").mkdir()
    (tmp_path / "fog/d1.mbr").write_bytes(b"")
    (tmp_path / "a.pxi").write_bytes(b"")
    (tmp_path / "b.vmdk").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    found = [formats.recognise(tmp_path / name) for name in ("cz", "fog", "a.pxi", "b.vmdk")]
    assert found == ["clonezilla", "fog", "bundle", "vmdk"]
    assert formats.recognise(tmp_path / "b.vmdk", "raw") == "raw"
    for name, wanted in (
        ("empty", "auto"),
        ("cz", "fog"),
        ("fog", "raw"),
        ("a.pxi", "fog"),
        ("gone", "auto"),
    ):
        with pytest.raises(ExchangeError):
            formats.recognise(tmp_path / name, wanted)


@given(st.text(max_size=40))
def test_no_name_leaves_its_folder(name: str) -> None:
    root = Path("/srv/exchange")
    try:
        path = paths.inside(root, name)
    except PathRefused:
        return
    assert os.path.normpath(path) == str(path)
    assert path.is_relative_to(root)
    assert path != root


def test_pipes_and_devices_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    for path in (tmp_path / "pipe", tmp_path / "null", Path("/dev/null")):
        with pytest.raises(PathRefused):
            paths.open_regular(path)


def test_a_swap_header_is_mkswaps_own(tmp_path: Path) -> None:
    area = tmp_path / "swap"
    area.write_bytes(bytes(1 << 20))
    run("mkswap", "-L", "swap", "-U", "8f7c9f5e-1d1c-4d5a-9a0e-5a5a00000001", area)
    made = swap.header(1 << 20, "8f7c9f5e-1d1c-4d5a-9a0e-5a5a00000001", "swap")
    assert made == area.read_bytes()[:4096]
    with pytest.raises(ValueError):
        swap.header(1 << 20, "nonsense", "")


def test_a_folder_that_mixes_two_tables_is_refused(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"")
    os.truncate(disk, 64 << 20)
    run("sgdisk", "-n", "1:2048:+8M", "-n", "2:0:+8M", disk)
    folder = tmp_path / "image"
    folder.mkdir()
    run("sgdisk", "-b", folder / "d1.mbr", disk)
    (folder / "d1.partitions").write_text(run("sfdisk", "-d", disk).replace(str(disk), "/dev/sda"))
    with pytest.raises(FolderInvalid, match="holds no partition's content"):
        fog.read(folder)
    run("sgdisk", "-d", "2", disk)
    (folder / "d1.partitions").write_text(run("sfdisk", "-d", disk).replace(str(disk), "/dev/sda"))
    with pytest.raises(FolderInvalid, match="name other partitions"):
        fog.read(folder)
    damaged = bytearray((folder / "d1.mbr").read_bytes())
    damaged[1600] ^= 1
    (folder / "d1.mbr").write_bytes(damaged)
    with pytest.raises(ImagingError, match="partition table is damaged"):
        fog.read(folder)
