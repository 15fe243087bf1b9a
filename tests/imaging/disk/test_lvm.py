"""A physical volume is understood from its own metadata, or said to be not."""

import contextlib
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.disk import lvm
from imaging.disk.lvmtext import LvmError, parse_text
from imaging.errors import DiskError

MIB = 1 << 20
ID = "abcdef-0123-4567-89ab-cdef-0123-456789"
SIZE = 64 * MIB
MDA, MDA_SIZE = 4096, 64 << 10


def crc(data: bytes) -> int:
    """LVM's CRC, bit by bit as its source defines it."""
    value = 0xF597A6CF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)
    return value


def group(volumes: str, *, pv: str = ID) -> str:
    return f"""vg0 {{
        id = "x" seqno = 7 format = "lvm2" status = ["RESIZEABLE", "READ", "WRITE"] flags = []
        extent_size = 8192      # 4 Megabytes
        physical_volumes {{ pv0 {{ id = "{pv}" device = "/dev/sda2" dev_size = 131072 pe_start = 2048 pe_count = 15 }} }}
        logical_volumes {{ {volumes} }}
    }}
    contents = "Text Format Volume Group" version = 1 description = "quo\\"ted {{ }}" creation_time = 1700000000
    """  # noqa: E501


def linear(name: str, *segments: tuple[int, int, int]) -> str:
    """A volume of (first extent, count, place on pv0)."""
    body = "".join(
        f'segment{n} {{ start_extent = {first} extent_count = {count} type = "striped" stripe_count = 1 '
        f'stripes = [ "pv0", {place} ] }}'
        for n, (first, count, place) in enumerate(segments, 1)
    )
    return f'{name} {{ id = "y" status = ["VISIBLE"] flags = [] segment_count = {len(segments)} {body} }}'


def volume(text: str, *, at: int = 512, flags: int = 0) -> bytes:
    """The first MiB of a physical volume of 64, whose metadata text begins ``at`` bytes into its ring."""
    data = bytearray(MIB)
    header = ID.replace("-", "").encode() + struct.pack("<Q", SIZE)
    header += struct.pack("<QQQQ", MIB, 0, 0, 0) + struct.pack("<QQQQ", MDA, MDA_SIZE, 0, 0)
    body = (struct.pack("<I", 32) + b"LVM2 001" + header).ljust(492, b"\0")
    data[512:1024] = b"LABELONE" + struct.pack("<QI", 1, crc(body)) + body
    raw = text.encode() + b"\0"
    head = b" LVM2 x[5A%r0N*>" + struct.pack("<IQQ", 1, MDA, MDA_SIZE)
    head += struct.pack("<QQII", at, len(raw), crc(raw), flags)
    head = head.ljust(508, b"\0")
    data[MDA : MDA + 512] = struct.pack("<I", crc(head)) + head
    first = raw[: MDA_SIZE - at]
    data[MDA + at : MDA + at + len(first)] = first
    data[MDA + 512 : MDA + 512 + len(raw) - len(first)] = raw[len(first) :]
    return bytes(data)


def read(data: bytes) -> lvm.PhysicalVolume:
    def read_at(offset: int, length: int) -> bytes:
        if offset + length > len(data):
            raise DiskError("outside")
        return data[offset : offset + length]

    return lvm.read(read_at, SIZE)


def extents(*pairs: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    return tuple((MIB + place * 4 * MIB, count * 4 * MIB) for place, count in pairs)


def test_the_crc_is_lvms() -> None:
    assert lvm._crc(b"123456789") == crc(b"123456789") != zlib.crc32(b"123456789")


def test_a_plain_volume_is_one_stretch_and_a_grown_one_is_not() -> None:
    found = read(volume(group(linear("root", (0, 2, 0)) + linear("home", (0, 1, 2), (1, 3, 5)))))
    assert found.fixed == ((0, MIB),)
    assert found.volumes == (
        lvm.Volume("vg0/root", extents((0, 2)), True),
        lvm.Volume("vg0/home", extents((2, 1), (5, 3)), False),
    )


def test_neighbours_in_order_are_one_stretch() -> None:
    found = read(volume(group(linear("root", (0, 2, 4), (2, 2, 6)))))
    assert found.volumes == (lvm.Volume("vg0/root", extents((4, 4)), True),)


def test_the_text_may_go_round_the_ring() -> None:
    text = group(linear("root", (0, 2, 0)))
    assert read(volume(text, at=MDA_SIZE - 200)) == read(volume(text))


@pytest.mark.parametrize(
    "rest",
    [
        # a thick snapshot's origin, a thin pool's data, the leg of a mirror: what users see is something else
        'snap { segment_count = 1 segment1 { start_extent = 0 extent_count = 2 type = "snapshot" '
        'chunk_size = 8 origin = "root" cow_store = "cow" } }',
        'pool { segment_count = 1 segment1 { start_extent = 0 extent_count = 2 type = "thin-pool" '
        'metadata = "meta" pool = "root" } }',
        'raid { segment_count = 1 segment1 { start_extent = 0 extent_count = 2 type = "raid1" '
        'raids = ["root_m", "root", "other_m", "other"] } }',
    ],
)
def test_what_other_volumes_are_made_of_is_not_plain(rest: str) -> None:
    found = read(volume(group(linear("root", (0, 2, 0)) + rest)))
    assert found.volumes == (lvm.Volume("vg0/root", extents((0, 2)), False),)


def test_a_striped_volume_uses_its_part_of_each_device() -> None:
    striped = (
        'fast { segment_count = 1 segment1 { start_extent = 0 extent_count = 4 type = "striped" '
        'stripe_count = 2 stripe_size = 128 stripes = ["pv0", 3, "pv1", 0] } }'
    )
    assert read(volume(group(striped))).volumes == (lvm.Volume("vg0/fast", extents((3, 2)), False),)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bytes(MIB), "no label"),
        (volume(group(linear("root", (0, 2, 0))), flags=1), "no copy of its metadata"),
        (volume(group(linear("root", (0, 2, 14)))), "lies outside"),
        (volume(group(linear("root", (0, 2, 0)), pv="other")), "does not speak of it"),
        (volume("vg0 { extent_size = "), "cannot be read"),
        (volume(group("root { segment_count = 2 }")), "segments missing"),
        (
            volume(group('new { segment_count = 1 segment1 { start_extent = 0 extent_count = 1 '
                         'type = "shiny" stripes = ["pv0", 0] } }')),
            "of the kind shiny",
        ),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_said(data: bytes, reason: str) -> None:
    with pytest.raises(LvmError, match=reason):
        read(data)


def test_text() -> None:
    assert parse_text('a { b = 1 c = "x\\"y" d = [1, "two",] # end\n e { } } f = -2 g = 1.5') == {
        "a": {"b": 1, "c": 'x"y', "d": [1, "two"], "e": {}},
        "f": -2,
        "g": 1.5,
    }


@given(st.text(alphabet='ab12 ={}[],"\\#\n.-', max_size=60))
def test_whatever_text_comes_raises_only_lvm_error(text: str) -> None:
    with contextlib.suppress(LvmError):
        parse_text(text)


SOUND = volume(group(linear("root", (0, 2, 0)) + linear("home", (0, 1, 2), (1, 3, 5))))


@given(st.lists(st.tuples(st.integers(512, 6000), st.integers(0, 255)), max_size=6))
def test_flipped_bytes_raise_only_disk_errors(flips: list[tuple[int, int]]) -> None:
    data = bytearray(SOUND)
    for at, value in flips:
        data[at] = value
    with contextlib.suppress(DiskError):
        read(bytes(data))


words = st.sampled_from(
    ["{", "}", "=", "[", "]", ",", "1", "0", "-1", "4096", '"pv0"', '"striped"', '"root"', "root", "segment1",
     "stripes", "segment_count", "start_extent", "extent_count", "type", "logical_volumes", "pv0", "vg",
     "physical_volumes", "extent_size", "pe_start", "pe_count", "id", f'"{ID}"']
)  # fmt: skip


@given(st.lists(words, max_size=40))
def test_sound_text_of_wrong_sense_raises_only_disk_errors(said: list[str]) -> None:
    with contextlib.suppress(DiskError):
        read(volume(group(linear("root", (0, 1, 0)) + " ".join(said))))
