"""Paths inside a system: whatever is asked and whatever lies there, nothing outside is touched."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.customise.tree import Tree, parts
from imaging.errors import CustomiseError


def test_paths_of_both_worlds() -> None:
    assert parts("/etc/motd") == ["etc", "motd"]
    assert parts("C:\\Windows\\Setup\\Scripts\\x.cmd") == ["Windows", "Setup", "Scripts", "x.cmd"]
    assert parts("etc//./motd") == ["etc", "motd"]


@pytest.mark.parametrize("path", ["", "/", "..", "/etc/../../x", "a\0b", "C:\\", "/" + "x" * 256])
def test_paths_that_are_none(path: str) -> None:
    with pytest.raises(CustomiseError, match="no path of a file"):
        parts(path)


@given(st.text(max_size=80))
def test_any_text_is_a_path_inside_or_refused(text: str) -> None:
    try:
        names = parts(text)
    except CustomiseError:
        return
    assert names
    assert not any(name in ("", ".", "..") or "/" in name or "\0" in name for name in names)


NAMES = st.sampled_from(["a", "b", "up", "out", "self", "loop", "dir", "file"])


@settings(max_examples=150, deadline=None)
@given(
    links=st.dictionaries(
        NAMES,
        st.sampled_from(["..", "../..", "/", "/etc", "../outside", "loop", ".", "a/../..", "/proc/self/cwd"]),
    ),
    path=st.lists(NAMES, min_size=1, max_size=4),
    data=st.binary(max_size=40),
)  # fmt: skip
def test_no_set_of_links_leads_out(links: dict[str, str], path: list[str], data: bytes) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root, outside = Path(scratch, "root"), Path(scratch, "outside")
        for directory in (root / "dir", outside):
            directory.mkdir(parents=True)
            (directory / "file").write_bytes(b"before")
        for name, target in links.items():
            if not (root / name).exists() and not (root / name).is_symlink():
                (root / name).symlink_to(target)
                (root / "dir" / ("l" + name)).symlink_to(target)
        with Tree(str(root)) as tree:
            where = "/".join(path)
            try:
                tree.write(where, data, make=True)
            except (OSError, CustomiseError):
                pass
            else:
                # None: the file took the place of a link that was on its own way, like a/a with a -> ..
                assert tree.read(where) in (data, None)
            tree.names(where)
            with contextlib.suppress(OSError):
                tree.remove(where)
        assert sorted(os.listdir(scratch)) == ["outside", "root"]
        assert [(p.name, p.read_bytes()) for p in outside.iterdir()] == [("file", b"before")]


def test_a_file_keeps_its_mode_and_a_link_is_replaced_itself(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/secret").write_text("old")
    (tmp_path / "etc/secret").chmod(0o640)
    (tmp_path / "etc/link").symlink_to("secret")
    with Tree(str(tmp_path)) as tree:
        tree.write("/etc/secret", b"new")
        tree.write("/etc/link", [b"in ", b"pieces"])
    assert (tmp_path / "etc/secret").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "etc/secret").read_text() == "new"
    assert not (tmp_path / "etc/link").is_symlink()
    assert (tmp_path / "etc/link").read_text() == "in pieces"
    assert sorted(os.listdir(tmp_path / "etc")) == ["link", "secret"]


def test_a_file_that_breaks_off_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")

    def pieces():  # type: ignore[no-untyped-def]
        yield b"half"
        raise CustomiseError("the server is gone")

    with Tree(str(tmp_path)) as tree, pytest.raises(CustomiseError, match="gone"):
        tree.write("file", pieces())
    assert (tmp_path / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_windows_does_not_care_for_case(tmp_path: Path) -> None:
    (tmp_path / "WINDOWS/system32").mkdir(parents=True)
    with Tree(str(tmp_path), ignore_case=True) as tree:
        tree.write("C:\\Windows\\System32\\Neu.txt", b"x")
        assert tree.is_file("windows/SYSTEM32/neu.TXT")
    assert (tmp_path / "WINDOWS/system32/Neu.txt").exists()


def test_a_fifo_is_neither_waited_for_nor_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with Tree(str(tmp_path)) as tree:
        assert tree.read("fifo") is None
        assert not tree.is_file("fifo")


def test_renames_elsewhere_on_the_machine_are_waited_out(tmp_path: Path) -> None:
    """openat2 answers EAGAIN to a path with ".." while anything is renamed or mounted anywhere."""
    for name in ("etc", "usr/lib", "elsewhere/a"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "usr/lib/os-release").write_text("x")
    (tmp_path / "etc/os-release").symlink_to("../usr/lib/os-release")
    stop = threading.Event()

    def rename() -> None:
        while not stop.is_set():
            os.rename(tmp_path / "elsewhere/a", tmp_path / "elsewhere/b")
            os.rename(tmp_path / "elsewhere/b", tmp_path / "elsewhere/a")

    thread = threading.Thread(target=rename)
    thread.start()
    try:
        with Tree(str(tmp_path)) as tree:
            assert all(tree.read("etc/os-release") == b"x" for _ in range(3000))
    finally:
        stop.set()
        thread.join()
