"""What may be read, and what may not."""

import os

import pytest
from hypothesis import given
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


@pytest.mark.parametrize("name", ["absent", "grub/absent", "grub/grub.cfg/x", "n" * 300, "é", "Inside"])
def test_absent(folder, name):
    assert folder.open(name, PEER) is None


@pytest.mark.parametrize("name", ["outside", "sibling/secret", "../secret", "grub", "fifo", "loop"])
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
