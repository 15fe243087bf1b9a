"""The small NTFS reader agrees with ntfs-3g's tools, and damaged bytes raise nothing but its own error."""

import contextlib
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.disk.ntfs import NtfsError, Volume
from imaging.errors import DiskError

MIB = 1 << 20


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@cache
def made(*options: str) -> bytes:
    """A volume with a page file, an empty swap file (no clusters) and a folder named like Windows' memory."""
    with TemporaryDirectory() as place:
        path = Path(place, "volume")
        with open(path, "wb") as file:
            file.truncate(12 * MIB)
        run("mkntfs", "-q", "-Q", "-F", *options, str(path))
        for name, size in (
            ("pagefile.sys", 300_000),
            ("swapfile.sys", 0),
            ("small", 10),
            ("large", 2_000_000),
        ):
            content = Path(place, name)
            content.write_bytes(name.encode() * (size // len(name) + 1) if size else b"")
            run("ntfscp", "-f", str(path), str(content), name)
        return path.read_bytes()


def volume(data: bytes) -> Volume:
    def read_at(offset: int, length: int) -> bytes:
        if offset < 0 or offset + length > len(data):
            raise DiskError("outside")
        return data[offset : offset + length]

    return Volume(read_at)


@pytest.mark.parametrize("options", [(), ("-c", "512"), ("-c", "65536"), ("-s", "4096")])
def test_files_and_clusters(options: tuple[str, ...], tmp_path: Path) -> None:
    data = made(*options)
    found = volume(data)
    (tmp_path / "volume").write_bytes(data)
    info = run("ntfsinfo", "-f", "-m", str(tmp_path / "volume"))
    facts = {
        name.strip(): value.strip() for name, _, value in (line.partition(":") for line in info.splitlines())
    }
    assert found.cluster == int(facts["Cluster Size"])
    clusters, free = int(facts["Volume Size in Clusters"]), int(facts["Free Clusters"].split()[0])
    assert found.used_bytes == (clusters - free) * found.cluster
    assert set(found.files) == {"pagefile.sys"}
    page = found.files["pagefile.sys"]
    held = b"".join(data[start : start + length] for start, length in page.runs)
    assert held[: page.size] == b"pagefile.sys" * (page.size // 12)
    assert (found.flags, found.hibernated, found.log_is_clean) == (0, False, True)


def test_no_ntfs_at_all() -> None:
    with pytest.raises(NtfsError, match="no NTFS boot sector"):
        volume(bytes(4096))


@cache
def places() -> list[int]:
    """Where bytes matter: the boot sector, records of the MFT, $LogFile's head, the root's index."""
    data = made()
    found = volume(data)
    mft = found._mft[0][0]
    log = found._attribute(2, 0x80).runs[0][0]
    spots = [*range(3, 90), *range(log, log + 64)]
    spots += [mft + record * found.record_size + at for record in (0, 2, 3, 5, 6) for at in range(560)]
    number = next(reference for name, reference in found._root_entries() if name == "pagefile.sys") & 0xFFFFFF
    return spots + [mft + number * found.record_size + at for at in range(560)]


@settings(deadline=None)  # the first example makes the volume
@given(st.data())
def test_damage_raises_only_disk_errors(data: st.DataObject) -> None:
    sound = made()
    spots = data.draw(st.lists(st.sampled_from(places()), min_size=1, max_size=5))
    spoiled = {at: data.draw(st.integers(0, 255)) for at in spots}

    def read_at(offset: int, length: int) -> bytes:
        if offset < 0 or offset + length > len(sound):
            raise DiskError("outside")
        piece = bytearray(sound[offset : offset + length])
        for at, value in spoiled.items():
            if offset <= at < offset + length:
                piece[at - offset] = value
        return bytes(piece)

    with contextlib.suppress(DiskError):
        found = Volume(read_at)
        for look in ("flags", "log_is_clean", "hibernated", "used_bytes", "files"):
            with contextlib.suppress(DiskError):
                getattr(found, look)
