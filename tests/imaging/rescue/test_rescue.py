"""Files are chosen by patterns and copied as they are, from trees that would like to lead elsewhere."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from imaging.disk.namespace import in_own_namespace
from imaging.rescue.archive import LISTING, Archive
from imaging.rescue.sources import roots
from imaging.rescue.walk import Chooser, walk
from tests.imaging.disks import MIB, make_disk, run

ODD = b"caf\xe9 \n\xff.txt"  # no UTF-8


def tree(root: Path) -> Path:
    home = root / "home/ada/Documents"
    home.mkdir(parents=True)
    (home / "letter.txt").write_text("dear")
    os.link(home / "letter.txt", home / "same.txt")
    (home / "big.iso").write_bytes(b"x" * 3_000_000)
    os.symlink("/etc/shadow", home / "leads-out")
    os.symlink("/", root / "home/ada/everything")
    os.mkfifo(home / "pipe")
    with open(os.fsencode(home) + b"/" + ODD, "wb") as file:
        file.write(b"odd")
    (root / "home/bob").mkdir()
    (root / "home/bob/notes").write_text("bob")
    (root / "etc").mkdir()
    (root / "etc/shadow").write_text("secret")
    return root


def chosen(root: Path, *paths: str, exclude: tuple[str, ...] = (), ignore_case: bool = False) -> list[str]:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        chooser = Chooser(paths, exclude, ignore_case=ignore_case)
        return [entry.path for entry in walk(fd, chooser, lambda path, reason: pytest.fail(path))]
    finally:
        os.close(fd)


def packed(root: Path, *paths: str) -> tuple[tarfile.TarFile, Archive]:
    out = io.BytesIO()
    archive = Archive(out, lambda: None, lambda done: None)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for entry in walk(fd, Chooser(paths), lambda path, reason: archive.missed(f"pc1/{path}", reason)):
            archive.add(entry, "pc1")
    finally:
        os.close(fd)
    archive.close("pc1")
    return tarfile.open(fileobj=io.BytesIO(out.getvalue()), errors="surrogateescape"), archive


def test_patterns_mean_folders_with_all_below_and_never_follow_links(tmp_path: Path) -> None:
    root = tree(tmp_path)
    everything = chosen(root, "home/*/Documents")
    assert everything[0] == "home/ada/Documents"
    assert "home/ada/Documents/letter.txt" in everything
    assert not [path for path in everything if "everything" in path or "bob" in path]
    assert "home/ada/Documents/leads-out" in everything
    assert chosen(root, "home/ada/everything/etc") == []
    assert chosen(root, "home/bob/notes") == ["home/bob/notes"]
    assert chosen(root, "home", exclude=("*.iso", "home/ada")) == ["home", "home/bob", "home/bob/notes"]


def test_windows_names_are_compared_without_regard_to_case(tmp_path: Path) -> None:
    root = tree(tmp_path)
    assert chosen(root, "HOME/Bob/NOTES") == []
    assert chosen(root, "HOME/Bob/NOTES", ignore_case=True) == ["home/bob/notes"]


def test_an_archive_holds_what_was_there_and_says_what_it_lacks(tmp_path: Path) -> None:
    tar, archive = packed(tree(tmp_path), "home")
    with tar:
        names = {member.name: member for member in tar.getmembers()}
        folder = "pc1/home/ada/Documents"
        letter = tar.extractfile(f"{folder}/letter.txt")
        assert letter is not None
        assert letter.read() == b"dear"
        assert names[f"{folder}/same.txt"].linkname == f"{folder}/letter.txt"
        assert names[f"{folder}/leads-out"].issym()
        assert names[f"{folder}/leads-out"].linkname == "/etc/shadow"
        odd = f"{folder}/{os.fsdecode(ODD)}"
        assert names[odd].size == 3
        assert not [name for name in names if "shadow" in name]
        assert all(name.startswith("pc1/") for name in names)
        listing = tar.extractfile(f"pc1/{LISTING}")
        assert listing is not None
        assert listing.read() == f"{folder}/pipe\tneither a file, a folder nor a link\n".encode()
    assert (archive.files, archive.links, archive.bytes) == (4, 3, 3_000_010)


def test_gnu_tar_unpacks_it(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    root = tree(tmp_path / "root")
    out = tmp_path / "x.tar"
    with open(out, "wb") as sink:
        archive = Archive(sink, lambda: None, lambda done: None)
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        for entry in walk(fd, Chooser(["home"]), lambda path, reason: None):
            archive.add(entry, "pc1")
        os.close(fd)
        archive.close("pc1")
    (tmp_path / "to").mkdir()
    subprocess.run(["tar", "-xf", out, "-C", tmp_path / "to"], check=True)
    where = os.fsencode(tmp_path / "to/pc1/home/ada/Documents") + b"/" + ODD
    with open(where, "rb") as file:
        assert file.read() == b"odd"
    assert (tmp_path / "to/pc1/home/ada/Documents/big.iso").stat().st_size == 3_000_000


def test_a_file_that_ends_early_keeps_its_size_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "root/home/file"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a" * 100_000)
    real = os.pread

    def worn(fd: int, length: int, at: int) -> bytes:
        if at <= 8192 < at + length:
            raise OSError(5, "Input/output error")
        return real(fd, length, at)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("imaging.rescue.archive.os.pread", worn)
        tar, archive = packed(tmp_path / "root", "home")
    with tar:
        got = tar.extractfile("pc1/home/file")
        assert got is not None
        data = got.read()
    assert data == b"a" * 8192 + bytes(4096) + b"a" * (100_000 - 8192 - 4096)
    assert archive.unreadable == [("pc1/home/file", "4096 of 100000 bytes cannot be read: they are zeros")]


@pytest.mark.disk
def test_ext4_and_ntfs_of_a_real_disk(tmp_path: Path) -> None:
    """Both mounted read-only; what cannot be mounted is named; the disk stays as it was."""
    disk = make_disk(tmp_path / "disk.raw", tmp_path)
    part = tmp_path / "ntfs.part"
    with open(part, "wb") as file:
        file.truncate(24 * MIB)
    run("mkntfs", "-Q", "-F", "-L", "Win dows", part)
    note = tmp_path / "note"
    note.write_text("lettre d'été")
    run("ntfscp", "-f", part, note, "Rapport été.TXT")
    with open(disk, "r+b") as file:
        file.seek(122 * MIB)
        file.write(part.read_bytes())
    before = disk.read_bytes()
    found: dict[str, list[str]] = {}
    missed: list[tuple[str, str]] = []

    def visit(prefix: str, root: int, ignore_case: bool) -> None:
        chooser = Chooser(["etc/host*", "rapport*.txt"], ignore_case=ignore_case)
        found[prefix] = [entry.path for entry in walk(root, chooser, lambda path, why: pytest.fail(path))]

    in_own_namespace(lambda: roots([str(disk)], visit, lambda path, why: missed.append((path, why))))
    assert found["disk1/partition3-root"] == ["etc/hostname", "etc/hosts"]
    assert found["disk1/partition4"] == ["Rapport été.TXT"]
    assert missed[0] == ("disk1/partition1", "it holds unknown, which cannot be looked into")
    assert not [where for where, _ in missed if "partition5" in where], "nobody looks for files in swap"
    assert disk.read_bytes() == before
