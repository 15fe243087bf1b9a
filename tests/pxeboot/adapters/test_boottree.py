"""The tree of boot files: real ones first, and made-up ones under every name that loaders ask for."""

from __future__ import annotations

import pytest

from pxeboot.adapters.boottree import FileNotes, tftp_files
from tests.plane import Plane, ip
from tftp.files import AccessViolation, Peer

PEER = Peer(ip(1), 2000)
MAC = "52:54:00:ab:cd:01"


def read(plane: Plane, name: str) -> str | None:
    files = tftp_files(plane.settings, "http://{}:8080".format)
    content = files.open(name, PEER, "10.20.0.1")
    return None if content is None else bytes(content[0 : len(content)]).decode()


@pytest.mark.parametrize(
    "name",
    [
        "grub/grub.cfg",
        "/grub//grub.cfg",
        "grub\\grub.cfg",
        "grub/x86_64-efi/grub.cfg",
        "grub/arm64-efi/grub.cfg",
        "grub/i386-pc/grub.cfg",
        "grub/grub.cfg-0A140065",
        "grub/grub.cfg-0A1",
        "grub/grub.cfg-00112233-4455-6677-8899-aabbccddeeff",
    ],
)
def test_a_grub_that_does_not_say_who_it_is_asks_by_its_own_mac(plane: Plane, name: str) -> None:
    text = read(plane, name)
    assert text is not None
    assert "$net_default_mac" in text
    assert "(http,10.20.0.1:8080)/boot/grub/" in text


@pytest.mark.parametrize(
    "name",
    [
        "grub/grub.cfg-01-52-54-00-ab-cd-01",
        "grub/grub.cfg-01-52-54-00-AB-CD-01",
        "grub/grub.cfg-52:54:00:ab:cd:01",
        "grub/x86_64-efi/grub.cfg-01-52-54-00-ab-cd-01",
    ],
)
def test_a_grub_whose_file_names_the_mac_needs_not_know_it(plane: Plane, name: str) -> None:
    text = read(plane, name)
    assert text is not None
    assert "set mac='52-54-00-ab-cd-01'" in text
    assert "net_default_mac" not in text


def test_pxelinux_is_sent_to_ipxe_and_the_same_decision(plane: Plane) -> None:
    known = read(plane, "pxelinux.cfg/01-52-54-00-ab-cd-01")
    assert known is not None
    assert "KERNEL ::ipxe.lkrn" in known
    assert f"http://10.20.0.1:8080/boot/ipxe?mac={MAC}&" in known
    for name in ("default", "0A140065", "0", "00112233-4455-6677-8899-aabbccddeeff"):
        other = read(plane, f"pxelinux.cfg/{name}")
        assert other is not None
        assert "mac=${netX/mac}&" in other


def test_an_ipxe_without_a_script_finds_one(plane: Plane) -> None:
    text = read(plane, "autoexec.ipxe")
    assert text is not None
    assert text.startswith("#!ipxe\n")
    assert "http://10.20.0.1:8080/boot/ipxe?mac=${netX/mac}&" in text


def test_a_real_file_wins(plane: Plane) -> None:
    folder = plane.settings.boot_dir / "pxelinux.cfg"
    folder.mkdir(parents=True)
    (folder / "default").write_text("LOCALBOOT 0")
    assert read(plane, "pxelinux.cfg/default") == "LOCALBOOT 0"
    assert "ipxe.lkrn" in str(read(plane, "pxelinux.cfg/01-52-54-00-ab-cd-01"))


@pytest.mark.parametrize(
    "name",
    [
        "grub/x86_64-efi/command.lst",
        "grub/grub.cfg-01-52-54-00-ab",
        "grub/grub.cfg.bak",
        "grub/a/b/grub.cfg",
        "pxelinux.cfg/01-52-54-00-ab-cd-01.txt",
        "pxelinux.cfg/52-54-00-ab-cd-01",
        "pxelinux.cfg",
        "shimx64.efi",
        "revocations.efi",
        "Boot/BCD",
    ],
)
def test_other_names_are_not_there(plane: Plane, name: str) -> None:
    assert read(plane, name) is None


def test_no_way_out(plane: Plane) -> None:
    with pytest.raises(AccessViolation):
        read(plane, "grub/../../pxeboot.sqlite")


def test_one_note_for_a_file_and_a_boot() -> None:
    notes = FileNotes()
    assert notes.is_new("10.20.0.5", "vmlinuz", 0.0)
    assert not notes.is_new("10.20.0.5", "vmlinuz", 1.0)
    assert notes.is_new("10.20.0.6", "vmlinuz", 1.0)
    assert notes.is_new("10.20.0.5", "initrd.img", 1.0)
    assert notes.is_new("10.20.0.5", "vmlinuz", 100.0)


def test_notes_do_not_grow_without_end() -> None:
    notes = FileNotes()
    for number in range(FileNotes.MOST + 10):
        notes.is_new("10.20.0.5", str(number), 0.0)
    assert notes.is_new("10.20.0.5", "0", 0.0)
    assert not notes.is_new("10.20.0.5", str(FileNotes.MOST), 0.0)
    assert len(notes._noted) <= FileNotes.MOST
