"""Partclone's images: those that partclone makes are read, what is damaged is refused with its place."""

import io
import os
import struct
import zlib
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.exchange import partclone
from imaging.exchange.errors import ExchangeError, PartcloneInvalid
from imaging.exchange.partclone import Image, bit_runs
from imaging.exchange.streams import Joined, plain
from tests.imaging.disks import run

MIB = 1 << 20
BLOCK = 1024
MODES = {
    "none": ("-a0",),
    "every block": ("-a1", "-k1"),
    "16 blocks": ("-a1", "-k16"),
    "default": ("-a1",),
    "one checksum that goes on": ("-a1", "-k16", "-K"),
}


@pytest.fixture(scope="module")
def filesystem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scratch = tmp_path_factory.mktemp("ext4")
    (scratch / "tree").mkdir()
    for number in range(30):
        (scratch / "tree" / f"file{number}").write_bytes(os.urandom(20_000 + 997 * number))
    part = scratch / "part"
    with open(part, "wb") as file:
        file.truncate(48 * MIB)
    run("mkfs.ext4", "-q", "-F", "-b", "1024", "-d", scratch / "tree", part)
    return part


@pytest.fixture(scope="module", params=list(MODES))
def image(request: pytest.FixtureRequest, filesystem: Path) -> bytes:
    path = filesystem.parent / "image"
    run("partclone.extfs", "-c", *MODES[request.param], "-s", filesystem, "-O", path, "-L", "/dev/null", "-q")
    return path.read_bytes()


def pieces(data: bytes, size: int = 60_001) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def same(image: Image, source: Path) -> int:
    count = 0
    with open(source, "rb") as file:
        for offset, data in image.blocks():
            file.seek(offset)
            assert file.read(len(data)) == data
            count += len(data)
    return count


@pytest.mark.disk
def test_partclones_own_images_hold_the_file_system(image: bytes, filesystem: Path) -> None:
    read = Image(pieces(image))
    assert (read.header.filesystem, read.header.block_size) == ("EXTFS", BLOCK)
    assert read.header.device_size == filesystem.stat().st_size
    assert same(read, filesystem) == read.used_blocks * BLOCK > 600_000


@pytest.mark.disk
@pytest.mark.parametrize("packer", ["zstd -q -19 --ultra", "gzip", "xz -1", "bzip2", "pigz-like", "cat"])
def test_packed_images_are_the_same(packer: str, filesystem: Path, tmp_path: Path) -> None:
    path = tmp_path / "image"
    run("partclone.extfs", "-c", "-s", filesystem, "-O", path, "-L", "/dev/null", "-q")
    packed = tmp_path / "packed"
    if packer == "pigz-like":  # several members, as parallel packers and appended files have them
        half = path.stat().st_size // 2
        for start, length in ((0, half), (half, None)):
            (tmp_path / "half").write_bytes(path.read_bytes()[start:][:length])
            run("sh", "-c", f"gzip -c {tmp_path / 'half'} >> {packed}")
    else:
        run("sh", "-c", f"{packer} < {path} > {packed}")
    assert same(Image(plain(Joined([packed]))), filesystem) > 600_000


@pytest.mark.disk
def test_a_flipped_bit_is_found_wherever_it_is(image: bytes) -> None:
    header = Image(pieces(image)).header
    for at in (20, 110, 200, len(image) // 2, len(image) - 3):
        damaged = bytearray(image)
        damaged[at] ^= 4
        if not header.checksum and at > 7000:
            continue  # -a0: nothing in the image itself could show it (zstd's own checksum does)
        with pytest.raises(PartcloneInvalid, match=r"damaged.*byte \d+|not known"):
            for _ in Image(pieces(bytes(damaged))).blocks():
                pass


@pytest.mark.disk
def test_a_cut_image_and_one_with_more_behind_are_refused(image: bytes) -> None:
    for at in (0, 50, 5000, len(image) // 2, len(image) - 1):
        with pytest.raises(PartcloneInvalid, match=r"ends in .* should follow byte \d+"):
            for _ in Image(pieces(image[:at])).blocks():
                pass
    with pytest.raises(PartcloneInvalid, match="goes on behind its last block"):
        for _ in Image(pieces(image + b"x")).blocks():
            pass


def made_v1(source: Path, *, wide: bool = False, right: bool = False) -> bytes:
    """An image of format 0001: blocks that are not zero count as used."""
    data = source.read_bytes()
    blocks = [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]
    used = [any(block) for block in blocks]
    out = io.BytesIO()
    out.write(
        struct.pack(
            "<15s15s4s2sIQQQ",
            partclone.MAGIC,
            b"EXTFS",
            b"0001",
            b"",
            BLOCK,
            len(data),
            len(blocks),
            sum(used),
        )
    )
    out.write(bytes(4096))
    out.write(bytes(used) + b"BiTmAgIc")
    crc = 0
    for block, flag in zip(blocks, used, strict=True):
        if flag:
            crc = zlib.crc32(block if right else block[:1] * BLOCK, crc)
            out.write(block + struct.pack("<Q" if wide else "<I", crc ^ 0xFFFFFFFF))
    return out.getvalue()


@pytest.mark.disk
@pytest.mark.parametrize("wide", [False, True])
def test_the_old_format_is_read_as_partclone_reads_it(wide: bool, filesystem: Path, tmp_path: Path) -> None:
    """Nothing writes 0001 any more: our writer of it is checked against partclone's own reader."""
    old = made_v1(filesystem, wide=wide)
    if not wide:
        (tmp_path / "old").write_bytes(old)
        run(
            "partclone.restore",
            "-s",
            tmp_path / "old",
            "-W",
            "-O",
            tmp_path / "restored",
            "-L",
            "/dev/null",
            "-q",
            "-C",
        )
        run("cmp", "-n", str(4 * MIB), tmp_path / "restored", filesystem)
    image = Image(pieces(old))
    assert image.header.version == 1
    assert same(image, filesystem) > 600_000
    damaged = bytearray(old)
    damaged[-1 if not wide else -7] ^= 1
    with pytest.raises(PartcloneInvalid, match="checksum of used block"):
        for _ in Image(pieces(bytes(damaged))).blocks():
            pass


def test_the_old_format_with_a_right_checksum_and_with_a_single_block(tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_bytes(os.urandom(BLOCK) + bytes(9 * BLOCK))
    for wide in (False, True):
        assert same(Image([made_v1(part, wide=wide)]), part) == BLOCK
    part.write_bytes(os.urandom(3 * BLOCK))
    assert same(Image([made_v1(part, right=True)]), part) == 3 * BLOCK


def made_v2(blocks: list[bytes | None], mode: int, length: int, per: int, digest) -> bytes:  # type: ignore[no-untyped-def]
    """An image of format 0002 with a checksum that Debian's partclone cannot make yet."""
    used = [block for block in blocks if block is not None]
    bits = sum(1 << at for at, block in enumerate(blocks) if block is not None)
    bitmap = bits.to_bytes((len(blocks) + 7) // 8, "little")
    head = struct.pack(
        "<16s14s4sH16sQQQQIIHHHHIBB", partclone.MAGIC, b"0.3.47", b"0002", 0xC0DE, b"EXTFS",
        len(blocks) * BLOCK, len(blocks), len(used), len(used), BLOCK, 18, 2, 64, mode, length, per, 1, 1,
    )  # fmt: skip

    def crc(data: bytes) -> bytes:
        return struct.pack("<I", zlib.crc32(data) ^ 0xFFFFFFFF)

    out = head + crc(head) + bitmap + crc(bitmap)
    for at in range(0, len(used), per):
        strip = b"".join(used[at : at + per])
        out += strip + digest(strip)
    return out


@pytest.mark.parametrize(("mode", "length"), [(0x30, 8), (0x31, 16)])
def test_the_xxh_checksums_of_newer_versions(mode: int, length: int) -> None:
    """Numbers and byte order by src/checksum.c: xxHash's own structs as little-endian machines store them."""
    import xxhash

    def digest(data: bytes) -> bytes:
        if mode == 0x30:
            return struct.pack("<Q", xxhash.xxh64_intdigest(data))
        number = xxhash.xxh3_128_intdigest(data)
        return struct.pack("<QQ", number & (1 << 64) - 1, number >> 64)  # low64, high64

    blocks = [os.urandom(BLOCK) if at % 3 else None for at in range(50)]
    data = made_v2(blocks, mode, length, 7, digest)
    found = dict.fromkeys(range(50))
    for offset, piece in Image([data]).blocks():
        for at in range(0, len(piece), BLOCK):
            found[(offset + at) // BLOCK] = bytes(piece[at : at + BLOCK])
    assert [found[at] for at in range(50)] == blocks
    damaged = bytearray(data)
    damaged[-20 - length] ^= 1
    with pytest.raises(PartcloneInvalid, match="the checksum of the"):
        for _ in Image([bytes(damaged)]).blocks():
            pass


@given(st.binary(max_size=40), st.integers(0, 340))
def test_runs_of_bits_are_those_of_counting(bitmap: bytes, count: int) -> None:
    count = min(count, len(bitmap) * 8)
    bits = [bitmap[at // 8] >> at % 8 & 1 for at in range(count)]
    found = bit_runs(bitmap, count)
    marked = [0] * count
    for first, length in zip(found[::2], found[1::2], strict=True):
        assert length > 0
        marked[first : first + length] = [1] * length
    assert marked == bits
    # Longest runs: none begins where another ends.
    assert all(found[at] + found[at + 1] < found[at + 2] for at in range(0, len(found) - 2, 2))


SMALL = made_v2(
    [os.urandom(BLOCK), None, os.urandom(BLOCK)] * 2,
    0x20,
    4,
    3,
    lambda d: struct.pack("<I", zlib.crc32(d) ^ 0xFFFFFFFF),
)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.binary(min_size=1, max_size=8)), max_size=4),
    st.integers(0, len(SMALL)),
    st.booleans(),
)
def test_foreign_bytes_raise_only_the_parsers_error(
    changes: list[tuple[int, bytes]], end: int, mend: bool
) -> None:
    data = bytearray(SMALL)
    for at, change in changes:
        data[at : at + len(change)] = change
    if mend:  # a header that is right, so that what it says is believed
        data[106:110] = struct.pack("<I", zlib.crc32(bytes(data[:106])) ^ 0xFFFFFFFF)
    data = data[:end] if end % 2 else data
    try:
        image = Image(pieces(bytes(data), 700))
        assert isinstance(image.runs, array)
        for offset, piece in image.blocks():
            assert offset >= 0
            assert len(piece) % image.header.block_size == 0
    except PartcloneInvalid:
        pass


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([b"", b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"BZh9", b"]\0\0"]),
    st.binary(),
)
def test_damaged_packing_raises_only_its_error(
    tmp_path_factory: pytest.TempPathFactory, magic: bytes, rest: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "packed"
    path.write_bytes(magic + rest)
    try:
        for _ in plain(Joined([path])):
            pass
    except ExchangeError:
        pass
