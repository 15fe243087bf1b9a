"""The archive writer: what GNU cpio unpacks, and the same bytes every time."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from pxeboot.bootenv import cpio


def archive(*entries: cpio.Entry, mtime: int = 1_700_000_000) -> bytes:
    out = io.BytesIO()
    assert cpio.write(entries, out, mtime) == len(out.getvalue())
    return out.getvalue()


def test_the_header_is_newc() -> None:
    data = archive(cpio.file("hello", b"12345", 0o640))
    assert data[:6] == b"070701"
    fields = [int(data[6 + 8 * i : 14 + 8 * i], 16) for i in range(13)]
    inode, mode, uid, gid, links, mtime, size = fields[:7]
    assert (inode, mode, uid, gid, links, mtime, size) == (1, stat.S_IFREG | 0o640, 0, 0, 1, 1_700_000_000, 5)
    assert fields[11] == len("hello") + 1
    assert data[110:116] == b"hello\0"
    assert data[116:121] == b"12345"  # 110 + 6 is a multiple of four: no padding before the content


def test_members_are_aligned_to_four_bytes() -> None:
    for size in range(6):
        data = archive(cpio.file("a" * size or "x", b"z" * size))
        assert len(data) % 4 == 0
        assert data.count(b"070701") == 2


def test_order_of_the_entries_does_not_matter() -> None:
    entries = [cpio.file("b/file", b"1"), cpio.directory("b"), cpio.link("a", "b/file")]
    assert archive(*entries) == archive(*reversed(entries))


def test_a_directory_comes_before_what_is_in_it() -> None:
    data = archive(cpio.file("usr/bin/x", b""), cpio.directory("usr/bin"), cpio.directory("usr"))
    assert data.index(b"usr\0") < data.index(b"usr/bin\0") < data.index(b"usr/bin/x\0")


@pytest.mark.skipif(shutil.which("cpio") is None, reason="GNU cpio is not installed")
def test_gnu_cpio_unpacks_what_was_scanned(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "usr/bin").mkdir(parents=True)
    (source / "usr/bin/tool").write_bytes(b"#!/bin/sh\n" * 1000)
    (source / "usr/bin/tool").chmod(0o4755)
    (source / "bin").symlink_to("usr/bin")
    (source / "empty").touch()
    os.utime(source / "empty", (1, 1))
    target = tmp_path / "target"
    target.mkdir()
    # Owners are left alone: only root could set them.
    unpack = ["cpio", "--extract", "--make-directories", "--quiet", "--preserve-modification-time"]
    subprocess.run(
        [*unpack, "--no-preserve-owner"], input=archive(*cpio.scan(source)), cwd=target, check=True
    )
    assert (target / "usr/bin/tool").read_bytes() == b"#!/bin/sh\n" * 1000
    assert stat.S_IMODE((target / "usr/bin/tool").stat().st_mode) == 0o755  # no set-user-ID
    assert os.readlink(target / "bin") == "usr/bin"
    assert (target / "empty").stat().st_mtime == 1_700_000_000


def test_a_device_needs_no_root() -> None:
    data = archive(cpio.character_device("dev/console", 5, 1))
    assert int(data[14:22], 16) == stat.S_IFCHR | 0o600
    assert (int(data[78:86], 16), int(data[86:94], 16)) == (5, 1)


def test_special_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe"):
        list(cpio.scan(tmp_path))
