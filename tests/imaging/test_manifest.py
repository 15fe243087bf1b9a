"""The manifest: what is written is what is read, and nothing else is accepted."""

import dataclasses
import json
import struct

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from imaging.errors import ManifestError
from imaging.manifest import CHUNK_SIZE, ChunkRef, DiskImage, GptTable, Manifest, Partition, Runs, merge_runs

MIB = 1 << 20
GUID = "54e9e10b-fea0-49ac-a1ef-ab679ecb431a"
ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"


def plain(size: int, *runs: tuple[int, int]) -> DiskImage:
    merged = merge_runs(runs)
    count = len({p for start, n in merged for p in range(start // MIB, (start + n - 1) // MIB + 1)})
    return DiskImage(size, 512, None, (), merged, b"".join(bytes([i % 256]) * 32 for i in range(count)))


def partition(number: int = 1, start: int = MIB, size: int = 4 * MIB, **changes: object) -> Partition:
    fields: dict[str, object] = {
        "number": number,
        "type_guid": ESP,
        "unique_guid": GUID,
        "name": "ESP é",
        "attributes": 1 << 63,
        "start": start,
        "size": size,
        "filesystem": "fat",
        "label": "EFI",
        "uuid": "1234-5678",
        "used": 4096,
        "capture": "used",
    }
    return Partition(**{**fields, **changes})  # type: ignore[arg-type]


def gpt_disk(*partitions: Partition, runs: Runs | None = None, hashes: bytes = b"h" * 32) -> DiskImage:
    table = GptTable(GUID, bytes(510) + b"\x55\xaa", 128, 34)
    return DiskImage(16 * MIB, 512, table, partitions or (partition(),), runs or Runs([(MIB, 4096)]), hashes)


def test_round_trip_keeps_every_field_and_the_identity() -> None:
    manifest = Manifest([gpt_disk(), plain(3 * MIB + 512, (0, 3 * MIB + 512))])
    again = Manifest.from_bytes(manifest.to_bytes())
    assert again == manifest
    assert again.disks == manifest.disks
    assert again.id == manifest.id == blake3(manifest.to_bytes()).hexdigest()


def test_a_gpt_image_has_the_identity_it_always_had() -> None:
    """Calculated by the program of before there were MBR tables: stored images are named by it."""
    disk = gpt_disk(
        partition(),
        partition(
            3, 8 * MIB, MIB, name="", attributes=0, filesystem="swap", label="", uuid="", capture="header"
        ),
        runs=Runs([(MIB, 4096), (8 * MIB, 4096)]),
        hashes=b"h" * 64,
    )
    without_table = DiskImage(3 * MIB, 4096, None, (), Runs([(0, 4096)]), b"i" * 32)
    identity = "4021eec83286d8536ff4c8940409b1e7757ae299fb665691cfa31dfed6c27e92"
    assert Manifest([disk, without_table]).id == identity


def test_a_physical_sector_size_is_only_told_where_it_differs() -> None:
    disk = gpt_disk()
    told = dataclasses.replace(disk, physical_sector_size=4096)
    assert Manifest.from_bytes(Manifest([told]).to_bytes()).disks[0].physical_sector_size == 4096
    assert b"physical" not in Manifest([disk]).to_bytes()


def test_chunks_lie_on_the_grid_and_know_their_runs() -> None:
    second = plain(10 * MIB, (4096, 512), (MIB - 512, 1024), (9 * MIB, MIB))
    manifest = Manifest([plain(2 * MIB, (MIB, 512)), second])
    assert list(manifest.chunks) == [
        ChunkRef(0, 0, MIB, MIB, b"\0" * 32, ((0, 512),)),
        ChunkRef(1, 1, 0, MIB, b"\0" * 32, ((4096, 512), (MIB - 512, 512))),
        ChunkRef(2, 1, MIB, MIB, b"\1" * 32, ((0, 512),)),
        ChunkRef(3, 1, 9 * MIB, MIB, b"\2" * 32, ((0, MIB),)),
    ]
    assert manifest.chunks[-1].index == 3
    assert manifest.chunks[1:3] == [manifest.chunks[1], manifest.chunks[2]]
    with pytest.raises(IndexError):
        manifest.chunks[4]


def test_the_last_chunk_of_a_disk_is_as_short_as_the_disk() -> None:
    assert Manifest([plain(MIB + 1024, (0, MIB + 1024))]).chunks[1].length == 1024


def test_gaps_under_32_kib_are_closed_and_wider_ones_are_not() -> None:
    assert list(merge_runs([(40960 + 32768, 512), (0, 4096), (8192, 32768)])) == [(0, 40960), (73728, 512)]
    assert list(merge_runs([(0, 512), (512 + 32767, 512)])) == [(0, 33791)]


def test_minimum_size_leaves_room_for_the_backup_table() -> None:
    assert gpt_disk().minimum_size == 5 * MIB + 33 * 512
    assert plain(10 * MIB, (0, MIB)).minimum_size == MIB


def test_the_bytes_are_those_of_the_format_page() -> None:
    data = Manifest([plain(MIB, (0, 512))]).to_bytes()
    header = (
        b'{"chunk_size":1048576,"disks":[{"chunks":1,"partitions":[],"runs":1,'
        b'"sector_size":512,"size":1048576,"table":null}],"hash":"blake3-256"}'
    )
    head = b"PXBMANIF" + struct.pack(">HHI", 1, 0, len(header))
    assert data == head + header + struct.pack(">QQ", 0, 512) + bytes(32)


def rewritten(change: object) -> bytes:
    """A small manifest whose JSON header went through ``change``, still canonical."""
    data = Manifest([gpt_disk()]).to_bytes()
    length = struct.unpack_from(">I", data, 12)[0]
    header = json.loads(data[16 : 16 + length])
    change(header)  # type: ignore[operator]
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return data[:12] + struct.pack(">I", len(text)) + text + data[16 + length :]


def test_rewriting_without_a_change_is_accepted() -> None:
    assert Manifest.from_bytes(rewritten(lambda h: None)) == Manifest([gpt_disk()])


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h.update(extra=1),
        lambda h: h.pop("hash"),
        lambda h: h.update(hash="sha256"),
        lambda h: h.update(chunk_size=1 << 22),
        lambda h: h.update(disks=[]),
        lambda h: h["disks"][0].update(size=True),
        lambda h: h["disks"][0].update(size=16 * MIB + 1),
        lambda h: h["disks"][0].update(size=5 * MIB),
        lambda h: h["disks"][0].update(sector_size=513),
        lambda h: h["disks"][0].update(chunks=2),
        lambda h: h["disks"][0].update(runs=0),
        lambda h: h["disks"][0]["table"].update(kind="mbr"),
        lambda h: h["disks"][0]["table"].update(kind="apm"),
        lambda h: h["disks"][0].update(physical_sector_size=512),
        lambda h: h["disks"][0].update(physical_sector_size=5000),
        lambda h: h["disks"][0]["partitions"][0].update(type_byte=7),
        lambda h: h["disks"][0]["table"].update(guid=GUID.upper()),
        lambda h: h["disks"][0]["table"].update(entries=1 << 40),
        lambda h: h["disks"][0]["table"].update(first_usable=5),
        lambda h: h["disks"][0]["table"].update(mbr="00"),
        lambda h: h["disks"][0]["partitions"][0].update(start=0),
        lambda h: h["disks"][0]["partitions"][0].update(size=100 * MIB),
        lambda h: h["disks"][0]["partitions"][0].update(number=0),
        lambda h: h["disks"][0]["partitions"][0].update(name="x" * 37),
        lambda h: h["disks"][0]["partitions"][0].update(attributes=1 << 64),
        lambda h: h["disks"][0]["partitions"][0].update(capture="guess"),
        lambda h: h["disks"][0]["partitions"].append(dict(h["disks"][0]["partitions"][0], number=2)),
    ],
)
def test_what_is_unknown_or_contradicts_itself_is_refused(change: object) -> None:
    with pytest.raises(ManifestError):
        Manifest.from_bytes(rewritten(change))


def test_other_versions_flags_spaces_and_trailing_bytes_are_refused() -> None:
    data = Manifest([plain(MIB, (0, 512))]).to_bytes()
    length = struct.unpack_from(">I", data, 12)[0]
    spaced = data[:12] + struct.pack(">I", length + 1) + data[16 : 16 + length] + b" " + data[16 + length :]
    for bad in (
        b"",
        data[:-1],
        data + b"\0",
        data[:9] + b"\2" + data[10:],
        data[:11] + b"\1" + data[12:],
        spaced,
    ):
        with pytest.raises(ManifestError):
            Manifest.from_bytes(bad)


@pytest.mark.parametrize(
    "runs", [[(0, 512)], [(16 * MIB - 512, 512)], [(MIB, 0)], [(MIB, 512), (MIB + 1024, 512)]]
)
def test_runs_may_not_touch_the_tables_be_empty_or_too_close(runs: list[tuple[int, int]]) -> None:
    with pytest.raises(ManifestError):
        gpt_disk(runs=Runs(runs))


def test_a_huge_run_costs_nothing_before_it_is_refused() -> None:
    with pytest.raises(ManifestError, match="chunks are used"):
        DiskImage(1 << 60, 512, None, (), Runs([(0, 1 << 60)]), b"")


def test_fifty_gigabytes_stay_cheap() -> None:
    count = 48_000
    runs = merge_runs((i * MIB // 2, 65536) for i in range(2 * count))
    manifest = Manifest([DiskImage(count * MIB, 512, None, (), runs, bytes(32 * count))])
    assert len(manifest.chunks) == count
    assert manifest.chunks[count - 1].offset == (count - 1) * CHUNK_SIZE
    assert len(manifest.to_bytes()) < 5 * MIB


@given(st.data())
def test_damaged_bytes_raise_only_manifest_error(data: st.DataObject) -> None:
    good = Manifest([gpt_disk(), plain(4 * MIB, (0, 512), (2 * MIB, MIB))]).to_bytes()
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    bad = bad[: data.draw(st.integers(0, len(bad)))] if data.draw(st.booleans()) else bad
    try:
        parsed = Manifest.from_bytes(bytes(bad))
    except ManifestError:
        return
    assert parsed.to_bytes() == bytes(bad)
    list(parsed.chunks)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


FIELDS = ["chunk_size", "hash", "disks", "size", "sector_size", "table", "partitions", "runs"]


@given(st.sampled_from(FIELDS), json_values)
def test_any_json_in_any_field_raises_only_manifest_error(key: str, value: object) -> None:
    def change(header: dict[str, object]) -> None:
        where = header if key in header else header["disks"][0]  # type: ignore[index]
        where[key] = value  # type: ignore[index]

    try:
        data = rewritten(change)
    except UnicodeEncodeError:
        return
    try:
        Manifest.from_bytes(data)
    except ManifestError:
        pass
    else:
        assert data == Manifest.from_bytes(data).to_bytes()
