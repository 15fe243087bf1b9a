"""Signatures of the real boot files, of spoiled ones, and of bytes that are no program at all."""

from __future__ import annotations

import contextlib
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pxeboot.doctor import bootfiles, pe, signers

BOOT = Path(__file__).resolve().parents[3] / "var" / "boot"
NOW = datetime(2026, 11, 24, tzinfo=UTC)
needs_files = pytest.mark.skipif(
    not (BOOT / "shimx64.efi").exists(), reason="the boot environment is not built"
)


def read(name: str) -> signers.Signed:
    return signers.read((BOOT / name).read_bytes())


@needs_files
def test_debians_shim_is_signed_twice_by_microsoft_and_whole() -> None:
    shim = read("shimx64.efi")
    assert shim.issuers == ["Microsoft Corporation UEFI CA 2011", "Microsoft UEFI CA 2023"]
    assert all(signer.intact for signer in shim.signers)
    assert ("shim", 4) in shim.program.sbat


@needs_files
def test_this_shim_accepts_this_grub_and_this_kernel() -> None:
    shim = read("shimx64.efi")
    for name in ("grubx64.efi", "vmlinuz"):
        other = read(name)
        assert other.issuers == ["Debian Secure Boot CA"]
        assert signers.vouched_by(shim, other) == "Debian Secure Boot CA"
        assert signers.too_old(shim, other) == []
    assert signers.vouched_by(shim, shim) == "", "Microsoft's signature is none of shim's own business"


@needs_files
def test_one_changed_byte_is_noticed() -> None:
    data = bytearray((BOOT / "grubx64.efi").read_bytes())
    data[0x5000] ^= 1
    assert [signer.intact for signer in signers.read(bytes(data)).signers] == [False]


@needs_files
def test_a_cut_file_is_no_whole_program() -> None:
    data = (BOOT / "grubx64.efi").read_bytes()
    for size in (0, 1, 63, 64, 200, 1000, len(data) // 2, len(data) - 1):
        with pytest.raises(pe.PeError):
            signers.read(data[:size])


@needs_files
@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4095), st.integers(0, 255)), min_size=1, max_size=30))
def test_a_damaged_header_raises_only_our_error(changes: list[tuple[int, int]]) -> None:
    data = bytearray((BOOT / "shimx64.efi").read_bytes()[:400_000])
    for at, value in changes:
        data[at] = value
    with pytest.raises(pe.PeError):  # it is cut, too
        signers.read(bytes(data))


@needs_files
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 9000), st.integers(0, 255))
def test_a_damaged_signature_raises_only_our_error(back: int, value: int) -> None:
    data = bytearray((BOOT / "shimx64.efi").read_bytes())
    data[len(data) - 1 - back] = value
    with contextlib.suppress(pe.PeError):
        signers.read(bytes(data))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=2000))
@example(b"MZ" + b"\0" * 58 + b"\x40\0\0\0PE\0\0" + b"\xff" * 300)
@example(b"MZ" + b"\0" * 58 + b"\x40\0\0\0PE\0\0\x64\x86\x00\x00" + b"\0" * 16 + b"\x0b\x02" + b"\0" * 300)
def test_any_bytes_are_a_program_or_our_error(data: bytes) -> None:
    for text in (data, b"MZ" + data):
        with contextlib.suppress(pe.PeError):
            signers.read(text)


# --- the folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if not (BOOT / "shimx64.efi").exists():
        pytest.skip("the boot environment is not built")
    for file in BOOT.iterdir():
        if file.is_file():
            (tmp_path / file.name).symlink_to(file)
    return tmp_path


def levels(folder: Path) -> dict[str, str]:
    return {one.subject: one.level for one in bootfiles.check_files(folder)}


def test_the_files_that_were_built_are_fine(folder: Path) -> None:
    assert "error" not in levels(folder).values()
    found = bootfiles.check_signatures(folder, NOW)
    shim = next(one for one in found if one.subject == "shimx64.efi")
    assert shim.level == "ok"
    assert "UEFI CA 2011" in shim.sentence
    assert "UEFI CA 2023" in shim.sentence
    assert not [one for one in found if one.level in ("warning", "error")]


def test_a_missing_loader_says_which_machines_cannot_boot(folder: Path) -> None:
    (folder / "undionly.kpxe").unlink()
    [error] = [one for one in bootfiles.check_files(folder) if one.level == "error"]
    assert "BIOS machines cannot boot" in error.sentence
    assert "pxeboot bootenv build" in error.remedy


def test_an_altered_loader_is_told_by_both_checks(folder: Path) -> None:
    data = bytearray((folder / "grubx64.efi").read_bytes())
    data[0x5000] ^= 1
    (folder / "grubx64.efi").unlink()
    (folder / "grubx64.efi").write_bytes(data)
    assert levels(folder)["grubx64.efi"] == "error"
    [error] = [one for one in bootfiles.check_signatures(folder, NOW) if one.level == "error"]
    assert "altered after it was signed" in error.sentence


def test_an_unsigned_shim_or_a_stranger_behind_it_is_told(folder: Path) -> None:
    (folder / "shimx64.efi").unlink()
    shutil.copy(BOOT / "ipxe.efi", folder / "shimx64.efi")
    found = {one.subject: one for one in bootfiles.check_signatures(folder, NOW)}
    assert found["shimx64.efi"].level == "warning"
    assert "not signed" in found["shimx64.efi"].sentence
    assert "does not accept grubx64.efi" in found["grubx64.efi"].sentence


def test_garbage_in_the_folder_is_a_finding(folder: Path) -> None:
    (folder / "bootia32.efi").write_bytes(b"MZ, but nothing else")
    (folder / "bootenv.json").unlink()
    (folder / "bootenv.json").write_text("[]")
    found = {one.subject: one for one in bootfiles.check_signatures(folder, NOW)}
    assert found["bootia32.efi"].level == "error"
    assert levels(folder)[str(folder)] == "warning"
    assert bootfiles.check_signatures(folder / "nowhere", NOW)[0].level == "note"


def test_a_grub_below_the_level_that_shim_enforces_is_revoked() -> None:
    program = pe.Program(0x8664, (), b"", (("sbat", 1), ("grub", 3)), (), ())
    shim = pe.Program(0x8664, (), b"", (), (), (("sbat", 1), ("grub", 4)))
    assert signers.too_old(signers.Signed(shim, ()), signers.Signed(program, ())) == ["grub 3 < 4"]
