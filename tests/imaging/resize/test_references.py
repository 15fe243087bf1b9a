"""Names in configuration files: exchanged where they are meant, left alone where they only look alike."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.resize.references import LINUX_FILES, changes, find_files, replacer, rewrite_tree

OLD, NEW = "8f7c9f5e-1d1c-4d5a-9a0e-5a5a00000002", "0ec31d40-02b3-45e4-9ff0-61e586d86091"
FAT_OLD, FAT_NEW = "1234-ABCD", "9F0E-77AA"
MBR_OLD, MBR_NEW = "1a2b3c4d-01", "0f0e0d0c-01"
change = replacer({OLD: NEW, FAT_OLD: FAT_NEW, MBR_OLD: MBR_NEW})

GRUB = f"""
set default="0"
if [ x$feature_platform_search_hint = xy ]; then
  search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt3  {OLD}
fi
menuentry 'Debian' --class debian $menuentry_id_option 'gnulinux-simple-{OLD}' {{
  linux /boot/vmlinuz root=UUID={OLD} ro resume=UUID={OLD} quiet
}}
menuentry 'Old' {{ linux /vmlinuz root=PARTUUID={MBR_OLD} }}
""".encode()


def test_a_grub_configuration_follows() -> None:
    after = change(GRUB).decode()
    assert OLD not in after
    assert after.count(NEW) == 4
    assert f"root=PARTUUID={MBR_NEW}" in after
    assert len(after) == len(GRUB)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"UUID={FAT_OLD} /boot/efi vfat", f"UUID={FAT_NEW} /boot/efi vfat"),
        (f"UUID={FAT_OLD.lower()} /boot/efi", f"UUID={FAT_NEW.lower()} /boot/efi"),
        (f'UUID="{OLD.upper()}"', f'UUID="{NEW.upper()}"'),
        (f"/dev/disk/by-uuid/{OLD} / ext4", f"/dev/disk/by-uuid/{NEW} / ext4"),
    ],
)
def test_each_spelling_keeps_its_own(before: str, after: str) -> None:
    assert change(before.encode()) == after.encode()


@pytest.mark.parametrize(
    "text",
    [
        "UUID=8f7c9f5e-1234-ABCD-9a0e-5a5a00000002",  # a serial number as groups of another UUID
        f"UUID=0{OLD}",
        f"UUID={OLD}0",
        "1a2b3c4d-011",
        "PARTUUID=aa1a2b3c4d-01",
    ],
)
def test_other_names_that_contain_one_are_left_alone(text: str) -> None:
    assert change(text.encode()) == text.encode()


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_keep_their_length_and_every_change_is_told(before: bytes, after: bytes) -> None:
    text = before + OLD.encode() + after
    changed = change(text)
    assert len(changed) == len(text)
    patched = bytearray(text)
    for at, piece in changes(text, changed):
        patched[at : at + len(piece)] = piece
    assert bytes(patched) == changed


def test_names_of_different_length_are_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="same length"):
        replacer({"a": "bb"})


def test_files_are_changed_in_place_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/boot/grub").mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.write_text(OLD)
    fstab = tmp_path / "root/etc/fstab"
    fstab.write_text(f"UUID={OLD} / ext4\n")
    fstab.chmod(0o640)
    (tmp_path / "root/etc/crypttab").symlink_to(outside)
    (tmp_path / "root/etc/kernel").symlink_to(tmp_path)
    (tmp_path / "cmdline").write_text(OLD)
    (tmp_path / "root/boot/grub/grub.cfg").write_bytes(GRUB)
    before = fstab.stat()
    root = os.open(tmp_path / "root", os.O_RDONLY)
    try:
        changed = rewrite_tree(root, LINUX_FILES, change)
        assert rewrite_tree(root, LINUX_FILES, change) == []
        assert [path for path, _, _ in find_files(root, ("etc/*",))] == ["etc/fstab"]
    finally:
        os.close(root)
    assert changed == ["etc/fstab", "boot/grub/grub.cfg"]
    assert fstab.read_text() == f"UUID={NEW} / ext4\n"
    assert (fstab.stat().st_ino, fstab.stat().st_mode) == (before.st_ino, before.st_mode)
    assert outside.read_text() == OLD
    assert (tmp_path / "cmdline").read_text() == OLD
