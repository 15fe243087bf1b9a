"""Disks of virtual machines, there and back; and files that try to bring in another file of this machine."""

import contextlib
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.disk import part
from imaging.errors import Cancelled, ImagingError
from imaging.exchange import containers, diskfile, export, qemu
from imaging.exchange.errors import ContainerRefused, ExchangeError, NoRoom
from imaging.manifest import Manifest
from imaging.pipeline import no_progress
from imaging.store import ChunkStore
from tests.imaging import disks
from tests.imaging.disks import run

MIB = 1 << 20
QEMU = {"raw": "raw", "qcow2": "qcow2", "vmdk": "vmdk", "vmdk-sparse": "vmdk", "vhdx": "vhdx"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ChunkStore]:
    with ChunkStore(tmp_path / "store", reserve=0) as opened:
        yield opened


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scratch = tmp_path_factory.mktemp("vm")
    return disks.make_disk(scratch / "disk.img", scratch)


def brought_in(path: Path, kind: str, store: ChunkStore, direct: bool | None = None) -> Manifest:
    def upload(frames: object) -> None:
        for hash, frame in frames:  # type: ignore[attr-defined]
            store.add_frame(hash, frame)

    manifest = diskfile.read(
        path, kind, missing=store.missing, upload=upload, work=path.parent, direct=direct
    )
    store.put_manifest(manifest.to_bytes(), bytes(64))
    return manifest


def given_out(
    manifest: Manifest, store: ChunkStore, path: Path, kind: str, direct: bool | None = None
) -> Path:
    files = export.export(manifest, lambda ref: store.frame(ref.hash), path, kind, no_progress, direct=direct)
    assert len(files) == 1
    return files[0]


@pytest.mark.disk
@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("kind", list(export.FORMATS))
def test_a_disk_goes_out_and_comes_back_as_the_same_version(
    kind: str, direct: bool, disk: Path, store: ChunkStore, tmp_path: Path
) -> None:
    if not direct and kind in ("raw", "vmdk"):
        pytest.skip("there is only one way for these")
    manifest = brought_in(disk, "raw", store)
    path = given_out(manifest, store, tmp_path / "out", kind, direct)
    assert path.suffix == "." + QEMU[kind]
    assert not [name for name in os.listdir(tmp_path) if "partial" in name]
    if kind != "raw":
        reference = given_out(manifest, store, tmp_path / "reference", "raw")
        run("qemu-img", "compare", "-f", "raw", "-F", QEMU[kind], reference, path)
        run("qemu-img", "check", "-f", QEMU[kind], path) if kind != "vmdk-sparse" else None
        assert path.stat().st_blocks * 512 < 80 * MIB  # unused blocks take no room
    if kind == "vmdk":
        assert b'createType="streamOptimized"' in path.read_bytes()[:4096]
    assert brought_in(path, QEMU[kind], store, direct).id == manifest.id


@pytest.mark.disk
@pytest.mark.parametrize("kind", ["vdi", "vhd", "qcow2"])
def test_files_of_other_programs_come_in(kind: str, disk: Path, store: ChunkStore, tmp_path: Path) -> None:
    path = tmp_path / f"disk.{kind}"
    packed = ["-c"] if kind == "qcow2" else []
    fixed = ["-o", "subformat=fixed,force_size"] if kind == "vhd" else []
    run("qemu-img", "convert", *packed, *fixed, "-f", "raw", "-O", containers.DRIVERS[kind], disk, path)
    assert brought_in(path, kind, store).id == brought_in(disk, "raw", store).id


@pytest.mark.disk
def test_without_loop_devices_a_partition_is_looked_at_in_a_copy(
    disk: Path, store: ChunkStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that runs as a user of its own has no devices; what it brings in is the same."""
    path = tmp_path / "golden.raw"
    run("cp", "--sparse=always", disk, path)
    with_loop = brought_in(path, "raw", store)
    monkeypatch.setattr(part, "may_loop", lambda: False)
    monkeypatch.setattr(part, "loop_device", None)
    assert brought_in(path, "raw", store).id == with_loop.id
    assert not [name for name in os.listdir(tmp_path) if "part" in name]


@pytest.mark.disk
def test_a_raw_disk_that_begins_like_a_qcow2_stays_raw(disk: Path, store: ChunkStore, tmp_path: Path) -> None:
    """A guest owns the first bytes of its disk: if they were believed, it could ask for any file of ours."""
    trap = tmp_path / "trap.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "/etc/shadow", "-F", "raw", trap, "164M")
    raw = tmp_path / "guest.raw"
    run("cp", "--sparse=always", disk, raw)
    disks.put(raw, 0, trap.read_bytes()[:440])  # boot code: the partition table stays
    probed = subprocess.run(["qemu-img", "info", "--output=json", str(raw)], capture_output=True, check=False)
    assert b"Header extension" in probed.stderr  # what it says of qcow2 files: it believed the guest
    manifest = brought_in(raw, containers.kind_of_name(raw.name), store)
    table = manifest.disks[0].table
    assert table is not None
    assert table.mbr[:4] == b"QFI\xfb"
    assert manifest.disks[0].size == disk.stat().st_size


def test_a_disk_with_a_backing_file_is_refused(tmp_path: Path) -> None:
    trap = tmp_path / "trap.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "/etc/shadow", "-F", "raw", trap, "10M")
    with pytest.raises(ContainerRefused, match="only the difference to another file"):
        qemu.look(trap, "qcow2")


def test_a_disk_with_its_content_elsewhere_is_refused(tmp_path: Path) -> None:
    trap = tmp_path / "trap.qcow2"
    (tmp_path / "data").write_bytes(bytes(10 * MIB))
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path / 'data'}", trap, "10M")
    with pytest.raises(ContainerRefused, match="keeps its content in another file"):
        qemu.look(trap, "qcow2")
    flat = tmp_path / "flat.vmdk"
    run("qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", flat, "10M")
    with pytest.raises(ContainerRefused, match="only describes a disk"):
        qemu.look(flat, "vmdk")
    twisted = tmp_path / "twisted.vmdk"
    run("qemu-img", "create", "-q", "-f", "vmdk", twisted, "10M")
    whole = twisted.read_bytes()
    for old, new, said in (
        (b'"monolithicSparse"', b'"vmfs"            ', "of type 'vmfs'"),
        (b"parentCID=ffffffff", b"parentCID=12345678", "difference to another file"),
        (b" SPARSE ", b" FLAT   ", "content is in other files"),
        (struct.pack("<Q", 20480), bytes(8), "content is in other files"),
    ):
        assert old in whole
        twisted.write_bytes(whole.replace(old, new, 1))
        with pytest.raises(ContainerRefused, match=said):
            qemu.look(twisted, "vmdk")


def test_names_say_what_a_file_is_and_headers_must_agree(tmp_path: Path) -> None:
    assert [containers.kind_of_name(name) for name in ("a.IMG", "b.vhdx", "c.d.qcow2")] == [
        "raw",
        "vhdx",
        "qcow2",
    ]
    with pytest.raises(ContainerRefused, match="say it with --format"):
        containers.kind_of_name("disk")
    file = tmp_path / "file"
    file.write_bytes(bytes(MIB))
    for kind in set(containers.DRIVERS) - {"raw"}:
        with pytest.raises(ContainerRefused, match="is not a"):
            qemu.look(file, kind)
    (tmp_path / "link.raw").symlink_to("/etc/shadow")
    with pytest.raises(ImagingError, match="symbolic link"):
        qemu.look(tmp_path / "link.raw", "raw")


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(containers.DRIVERS)),
    st.sampled_from([b"", b"QFI\xfb\0\0\0\3", b"KDMV\1\0\0\0", b"vhdxfile", b"conectix"]),
    st.binary(max_size=200),
)
def test_any_header_is_taken_or_refused(kind: str, magic: bytes, rest: bytes) -> None:
    data = (magic + rest).ljust(4096, b"\1")
    with contextlib.suppress(ContainerRefused):
        containers.examine(kind, lambda offset, length: data[offset : offset + length], len(data))


@pytest.mark.disk
def test_an_export_that_cannot_be_finished_leaves_nothing(
    disk: Path, store: ChunkStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = brought_in(disk, "raw", store)
    target = tmp_path / "out" / "disk.qcow2"
    target.parent.mkdir()
    with pytest.raises(Cancelled):
        export.export(
            manifest, lambda ref: store.frame(ref.hash), target, "qcow2", no_progress, stop=lambda: True
        )
    # A container that forgets what was written to it: reading it back shows that.
    real = qemu.exported

    def forgetful(path: Path, kind: str, *, write: bool = False):  # type: ignore[no-untyped-def]
        if not write:
            subprocess.run(
                ["qemu-io", "-f", kind, "-c", "write -P 7 50M 4k", str(path)], check=True, capture_output=True
            )
        return real(path, kind, write=write)

    with monkeypatch.context() as patch:
        patch.setattr(qemu, "exported", forgetful)
        with pytest.raises(ImagingError, match="does not read back"):
            given_out(manifest, store, target, "qcow2")
        patch.undo()
        patch.setattr(export, "_SPARE", 1 << 60)
        with pytest.raises(NoRoom, match="not enough room"):
            given_out(manifest, store, target, "qcow2")
    assert os.listdir(target.parent) == []
    target.write_bytes(b"precious")
    with pytest.raises(ExchangeError, match="exists already"):
        given_out(manifest, store, target, "qcow2")
    assert target.read_bytes() == b"precious"


@pytest.mark.disk
def test_several_disks_become_several_files(disk: Path, store: ChunkStore, tmp_path: Path) -> None:
    first = brought_in(disk, "raw", store)
    manifest = Manifest([first.disks[0], first.disks[0]])
    files = export.export(
        manifest, lambda ref: store.frame(ref.hash), tmp_path / "lab.raw", "raw", no_progress
    )
    assert [file.name for file in files] == ["lab-1.raw", "lab-2.raw"]
    run("cmp", *files)
