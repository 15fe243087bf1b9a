"""What may be read, and what may not."""

import errno
import os
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tftp.files import AccessViolation, Folder, Overlay, Peer, normalise

PEER = Peer("10.0.0.9", 2000)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("shimx64.efi", "shimx64.efi"),
        ("//grubx64.efi", "grubx64.efi"),  # shim, after UEFI HTTP Boot and after some PXE firmware
        ("\\EFI\\debian\\grubx64.efi", "EFI/debian/grubx64.efi"),
        ("./grub//grub.cfg", "grub/grub.cfg"),
        ("a%2e%2e/b", "a%2e%2e/b"),
        ("..a/b..", "..a/b.."),
    ],
)
def test_normalise(name, plain):
    assert normalise(name) == plain


@pytest.mark.parametrize(
    "name", ["..", "../x", "/../x", "a/../../x", "a\\..\\b", "", "/", ".", "a\nb", "a\x7f"]
)
def test_refused_names(name):
    with pytest.raises(AccessViolation):
        normalise(name)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "boot"
    (root / "grub").mkdir(parents=True)
    (root / "grub" / "grub.cfg").write_bytes(b"configfile")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "boot-not").mkdir()
    (tmp_path / "boot-not" / "secret").write_bytes(b"secret")
    (root / "inside").symlink_to("grub/grub.cfg")
    (root / "outside").symlink_to("../secret")
    (root / "sibling").symlink_to(tmp_path / "boot-not")
    (root / "absolute").symlink_to(tmp_path / "secret")
    (root / "absolute-inside").symlink_to(root / "grub" / "grub.cfg")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "fifo")
    return Folder(root)


def test_files(folder):
    content = folder.open("//grub\\grub.cfg", PEER)
    assert len(content) == 10
    assert content[0:6] == b"config"
    assert content[6:100] == b"file"
    content.close()
    content.close()
    with pytest.raises(OSError):
        content[0:1]
    assert folder.open("inside", PEER)[0:10] == b"configfile"
    assert folder.open("absolute-inside", PEER)[0:10] == b"configfile"


@pytest.mark.parametrize("name", ["absent", "grub/absent", "grub/grub.cfg/x", "n" * 300, "é", "grub\\..."])
def test_absent(folder, name):
    assert folder.open(name, PEER) is None


@pytest.mark.parametrize(
    "name", ["outside", "sibling/secret", "../secret", "grub", "fifo", "loop", "absolute"]
)
def test_refused(folder, name):
    with pytest.raises(AccessViolation):
        folder.open(name, PEER)


@given(st.text(max_size=40))
def test_no_name_gets_out(name):
    try:
        plain = normalise(name)
    except AccessViolation:
        return
    assert os.path.normpath(plain) == plain
    assert not plain.startswith(("/", ".."))


def test_overlay(folder):
    def virtual(name, peer, local):
        return f"for {peer.address}".encode() if name == "grub/grub.cfg" else None

    files = Overlay(virtual, folder)
    assert files.open("/grub/grub.cfg", PEER) == b"for 10.0.0.9"
    assert files.open("inside", PEER)[0:10] == b"configfile"
    assert files.open("absent", PEER) is None
    with pytest.raises(AccessViolation):
        files.open("../secret", PEER)


def test_a_folder_that_is_itself_a_link(folder, tmp_path):
    (tmp_path / "link").symlink_to("boot")
    assert Folder(tmp_path / "link").open("inside", PEER)[0:4] == b"conf"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["..", ".", "", "grub", "GRUB", "outside", "sibling", "absolute", "secret", "boot-not", "%2e%2e"]
        )
        | st.text(max_size=5),
        max_size=6,
    ),
    st.sampled_from(["/", "\\", "//"]),
)
def test_no_name_reads_what_lies_outside(folder, parts, separator):
    try:
        content = folder.open(separator.join(parts), PEER)
    except AccessViolation:
        return
    assert content is None or content[0:6] == b"config"


def test_a_link_swapped_while_we_look_leads_nowhere(folder, tmp_path):
    """Checking a path and then opening it would lose this race within a few hundred tries."""
    link, done, seen = tmp_path / "boot" / "swapped", threading.Event(), set()
    link.symlink_to("grub/grub.cfg")

    def swap():
        for number in range(100_000):
            if done.is_set():
                return
            fresh = tmp_path / "boot" / "fresh"
            fresh.symlink_to("../secret" if number % 2 else "grub/grub.cfg")
            fresh.rename(link)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(2000):
            try:
                seen.add(folder.open("swapped", PEER)[0:6])
            except AccessViolation:
                seen.add(None)
    finally:
        done.set()
        swapper.join()
    assert seen <= {b"config", None}


def test_names_in_another_case(tmp_path):
    """Windows' loaders ask for `\\Boot\\BCD` and `\\boot\\bcd` alike."""
    (tmp_path / "Boot" / "Fonts").mkdir(parents=True)
    (tmp_path / "Boot" / "BCD").write_bytes(b"store")
    (tmp_path / "Boot" / "Fonts" / "wgl4_boot.ttf").write_bytes(b"font")
    (tmp_path / "boot.ini").write_bytes(b"lower")
    (tmp_path / "BOOT.INI").write_bytes(b"upper")
    folder = Folder(tmp_path)
    for name, content in (
        ("\\boot\\bcd", b"store"),
        ("/BOOT/FONTS/WGL4_BOOT.TTF", b"font"),
        ("boot.ini", b"lower"),  # exactly so: no other is looked for
        ("BOOT.INI", b"upper"),
        ("Boot.Ini", b"upper"),  # neither: the first in order of bytes
    ):
        assert folder.open(name, PEER)[0:9] == content, name
    assert folder.open("boot/bcd.log", PEER) is None
    with pytest.raises(AccessViolation):
        folder.open("boot/fonts", PEER)
    assert Folder(tmp_path, any_case=False).open("boot/bcd", PEER) is None


def test_a_listing_in_memory_is_renewed(tmp_path):
    os.utime(tmp_path, (1, 1))  # long ago, so that the listing is kept
    folder = Folder(tmp_path)
    assert folder.open("A", PEER) is None
    (tmp_path / "a").write_bytes(b"new")
    assert folder.open("A", PEER)[0:3] == b"new"


def test_a_file_changed_under_a_reader_is_an_error(tmp_path):
    (tmp_path / "f").write_bytes(b"old" * 1000)
    content = Folder(tmp_path).open("f", PEER)
    (tmp_path / "f").write_bytes(b"new" * 1000)
    os.utime(tmp_path / "f", (1, 1))
    with pytest.raises(OSError, match="changed"):
        content[0:10]


def test_a_file_replaced_under_a_reader_is_read_to_its_end(tmp_path):
    (tmp_path / "f").write_bytes(b"old")
    content = Folder(tmp_path).open("f", PEER)
    (tmp_path / "g").write_bytes(b"new")
    (tmp_path / "g").rename(tmp_path / "f")
    assert content[0:3] == b"old"
    assert Folder(tmp_path).open("f", PEER).identity != content.identity


def test_no_descriptor_left_is_no_fault_of_the_name(folder, monkeypatch):
    def none_left(*args, **kwargs):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "open", none_left)
    with pytest.raises(OSError, match="Too many"):
        folder.open("inside", PEER)
