"""A physical volume with logical ones: used extents only, and in plain volumes only what their files use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from imaging.disk import lvm
from imaging.disk.loop import loop_device
from imaging.errors import FilesystemDirty, FilesystemUnsupported
from imaging.options import CaptureOptions
from imaging.store import ChunkStore
from tests.imaging.disks import run
from tests.imaging.matrix.filesystems import mounted
from tests.imaging.matrix.trees import MIB, describe, plant
from tests.imaging.matrix.way import START, captured, device, partitioned, put_back

pytestmark = pytest.mark.disk

SIZE = 400 * MIB


@pytest.fixture
def lvm_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """LVM's own program on one device, without the device mapper: this kernel may lack it."""
    monkeypatch.setenv("LVM_SYSTEM_DIR", str(tmp_path))
    monkeypatch.setenv("LVM_SUPPRESS_FD_WARNINGS", "1")

    def call(part: str, command: str) -> str:
        config = (
            f'devices {{ filter=["a|^{part}$|","r|.*|"] use_devicesfile=0 obtain_device_list_from_udev=0 '
            'external_device_info_source="none" } activation { udev_sync=0 udev_rules=0 monitoring=0 } '
            "backup { backup=0 archive=0 } global { use_lvmpolld=0 }"
        )
        verb, *rest = command.split()
        return run("lvm", verb, "--driverloaded", "n", "--config", config, *rest)

    return call


@contextmanager
def volumes(path: Path, *, write: bool = False) -> Iterator[dict[str, str]]:
    """Loop devices over the plain volumes of the physical volume in partition 1, by name."""
    with ExitStack() as stack:
        file = stack.enter_context(open(path, "r+b" if write else "rb"))

        def read_at(offset: int, length: int) -> bytes:
            file.seek(START + offset)
            return file.read(length)

        found = {}
        for volume in lvm.read(read_at, SIZE).volumes:
            if volume.plain:
                ((start, size),) = volume.extents
                found[volume.name] = stack.enter_context(
                    loop_device(file.fileno(), offset=START + start, size=size, write=write)
                )
        yield found


@pytest.fixture
def source(tmp_path: Path, lvm_tool) -> Path:  # type: ignore[no-untyped-def]
    path = partitioned(tmp_path / "source.img", SIZE, 512)
    with device(path, 512, write=True, offset=START, size=SIZE) as part:
        lvm_tool(part, f"pvcreate -y --metadatacopies 2 {part}")
        lvm_tool(part, f"vgcreate vg {part}")
        for name, size in (("root", 120), ("swap", 32), ("grown", 24), ("other", 24), ("raw", 20)):
            lvm_tool(part, f"lvcreate -an -Zn -Wn -L {size}M -n {name} vg")
        lvm_tool(part, "lvextend -L +8M vg/grown")
    with volumes(path, write=True) as found:
        assert set(found) == {"vg/root", "vg/swap", "vg/other", "vg/raw"}
        run("mkfs.ext4", "-q", "-F", found["vg/root"])
        with mounted(found["vg/root"], tmp_path / "mnt", "mount", "-t", "ext4") as root:
            plant(root)
        run("mkswap", found["vg/swap"])
        run("mkfs.vfat", found["vg/other"])
        Path(found["vg/raw"]).write_bytes(b"a database of its own kind " * 700_000)
    return path


def test_there_and_back(source: Path, tmp_path: Path, lvm_tool) -> None:  # type: ignore[no-untyped-def]
    with volumes(source) as found, mounted(found["vg/root"], tmp_path / "mnt", "mount", "-o", "ro") as root:
        facts = describe(root)
        raw = Path(found["vg/raw"]).read_bytes()
    with ChunkStore(tmp_path / "store", reserve=0) as store:
        manifest = captured(source, 512, store)
        (partition,) = manifest.disks[0].partitions
        assert (partition.filesystem, partition.capture) == ("lvm", "used")
        # 1 MiB twice, the grown volume and the raw one whole, of root what files use, of swap a page.
        assert 60 * MIB < partition.used < 100 * MIB
        target = put_back(tmp_path / "target.img", source.stat().st_size, manifest, store, 512)
    with device(target, 512, offset=START, size=SIZE) as part:
        lvm_tool(part, "vgck vg")
        lvm_tool(part, f"pvck {part}")
        assert lvm_tool(part, "lvs --noheadings -o lv_name,lv_size vg").split()[-10:] == [
            *("grown", "32.00m", "other", "24.00m", "raw", "20.00m", "root", "120.00m", "swap", "32.00m")
        ]
    with volumes(target) as found:
        run("e2fsck", "-fn", found["vg/root"])
        run("fsck.fat", "-n", found["vg/other"])
        assert run("blkid", "-p", "-s", "TYPE", "-o", "value", found["vg/swap"]) == "swap\n"
        assert Path(found["vg/raw"]).read_bytes() == raw
        with mounted(found["vg/root"], tmp_path / "mnt", "mount", "-o", "ro") as root:
            assert describe(root) == facts


def test_what_is_locked_or_unclean_in_a_volume_is_named(source: Path, tmp_path: Path) -> None:
    with ChunkStore(tmp_path / "store", reserve=0) as store:
        with volumes(source, write=True) as found, open(found["vg/root"], "r+b") as file:
            file.seek(1024 + 58)  # s_state: not clean
            file.write(b"\0")
        with pytest.raises(FilesystemDirty, match=r"^Partition 1, volume vg/root \(ext4\) .*not unmounted"):
            captured(source, 512, store)
        with volumes(source, write=True) as found, open(found["vg/root"], "r+b") as file:
            file.write(bytes(4096))
            file.seek(0)
            file.write(b"LUKS\xba\xbe\0\2")
        with pytest.raises(
            FilesystemUnsupported, match=r"^Partition 1, volume vg/root \(luks\) is encrypted"
        ):
            captured(source, 512, store)
        manifest = captured(source, 512, store, CaptureOptions(whole=("luks",)))
        assert manifest.disks[0].partitions[0].used > 150 * MIB


def test_without_metadata_of_its_own_it_is_taken_whole(tmp_path: Path, lvm_tool) -> None:  # type: ignore[no-untyped-def]
    path = partitioned(tmp_path / "source.img", 32 * MIB, 512)
    with device(path, 512, write=True, offset=START, size=32 * MIB) as part:
        lvm_tool(part, f"pvcreate -y --metadatacopies 0 {part}")
    with ChunkStore(tmp_path / "store", reserve=0) as store:
        (partition,) = captured(path, 512, store).disks[0].partitions
    assert (partition.filesystem, partition.capture, partition.used) == ("lvm", "whole", 32 * MIB)
