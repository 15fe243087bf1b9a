"""Which method follows from what a disk says it can do.

The outputs of hdparm are written after its format (9.65), with the security parts as published listings of
real disks have them; those of nvme-cli are written after its JSON (2.x). samples/hdparm-qemu.txt is recorded:
the boot environment on a machine of QEMU.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imaging.wipe import abilities
from imaging.wipe.abilities import Abilities, AtaSecurity, Nvme, WipeRefused, choose

SSD = """
/dev/sda:

ATA device, with non-removable media
\tModel Number:       Some SSD 500GB
Commands/features:
\tEnabled\tSupported:
\t   *\tSMART feature set
\t    \tSecurity Mode feature set
\t   *\tData Set Management TRIM supported (limit 8 blocks)
\t   *\tDeterministic read ZEROs after TRIM
Security: 
\tMaster password revision code = 65534
\t\tsupported
\tnot\tenabled
\tnot\tlocked
\tnot\tfrozen
\tnot\texpired: security count
\t\tsupported: enhanced erase
\t4min for SECURITY ERASE UNIT. 8min for ENHANCED SECURITY ERASE UNIT.
Logical Unit WWN Device Identifier: 5001b448bbc61f38
Checksum: correct
"""  # noqa: W291
FROZEN = SSD.replace("\tnot\tfrozen", "\t\tfrozen")
WITHOUT = SSD.partition("Security:")[0] + "Checksum: correct\n"
LOCKED = SSD.replace("\tnot\tenabled", "\t\tenabled").replace("\tnot\tlocked", "\t\tlocked")
OLD_MARGIN = FROZEN.replace("\tnot\t", "not\t")


def nvme(**values: int) -> str:
    return json.dumps({"mn": "x", "oacs": 0, "fna": 0, "sanicap": 0, "nn": 1} | values)


def test_the_security_of_an_ata_disk_is_read_line_by_line() -> None:
    assert abilities.parse_hdparm(SSD) == AtaSecurity(supported=True, minutes=4)
    assert abilities.parse_hdparm(FROZEN) == AtaSecurity(supported=True, frozen=True, minutes=4)
    assert abilities.parse_hdparm(OLD_MARGIN) == AtaSecurity(supported=True, frozen=True, minutes=4)
    locked = abilities.parse_hdparm(LOCKED)
    assert locked == AtaSecurity(supported=True, enabled=True, locked=True, minutes=4)
    assert abilities.parse_hdparm(WITHOUT) is None
    assert abilities.parse_hdparm("") is None
    assert abilities.zeros_after_trim(SSD)
    assert not abilities.zeros_after_trim(SSD.replace("*\tDeterministic", "\tDeterministic"))


def test_a_recorded_disk_without_security_is_overwritten() -> None:
    said = (Path(__file__).parent / "samples/hdparm-qemu.txt").read_text()
    assert "QEMU HARDDISK" in said
    able = Abilities(ata=abilities.parse_hdparm(said), zeros_after_discard=abilities.zeros_after_trim(said))
    assert able == Abilities()
    assert choose("auto", able, fallback=False) == (("overwrite",), [])


def test_a_protected_area_is_found() -> None:
    said = "\n/dev/sda:\n max sectors   = 976771055/976773168, HPA is enabled\n"
    assert abilities.hidden_sectors(said) == 2113
    assert abilities.hidden_sectors(said.replace("976771055", "976773168")) == 0
    assert abilities.hidden_sectors("") == 0


def test_what_an_nvme_controller_can_do() -> None:
    assert abilities.parse_id_ctrl(nvme(oacs=0x10A)) == Nvme(format=True)
    full = nvme(oacs=0x17, fna=0b101, sanicap=0b11)
    assert abilities.parse_id_ctrl(full) == Nvme(True, True, True, True)
    assert abilities.parse_id_ctrl(nvme(oacs=0x15)) == Nvme()
    assert abilities.parse_id_ctrl("not json") is None
    assert abilities.zeros_when_deallocated('{"dlfeat": 9}')
    assert not abilities.zeros_when_deallocated('{"dlfeat": 2}')


@pytest.mark.parametrize("key", ["status", "Sanitize in Progress"])  # its name varied with the version
def test_how_far_sanitizing_is(key: str) -> None:
    text = json.dumps({"nvme0": {"sprog": 32768, "sstat": {"global_erased": 0, key: "(2) In Progress."}}})
    state = abilities.parse_sanitize_log(text)
    assert (state.running, state.failed, round(state.share, 2)) == (True, False, 0.5)
    done = abilities.parse_sanitize_log('{"sprog": 65535, "sstat": 257}')
    assert (done.running, done.failed, done.share) == (False, False, 1.0)
    assert abilities.parse_sanitize_log('{"nvme0": {"sprog": 1, "sstat": 3}}').failed


SATA = Abilities(ata=abilities.parse_hdparm(SSD), discard=True, zeros_after_discard=True)
COLD = Abilities(ata=abilities.parse_hdparm(FROZEN), discard=True)
PLAIN = Abilities(rotational=True)
SIMPLE_NVME = Abilities(nvme=Nvme(format=True), discard=True)
GOOD_NVME = Abilities(nvme=Nvme(True, True, True, True), discard=True)


@pytest.mark.parametrize(
    ("able", "methods"),
    [
        (PLAIN, ("overwrite",)),
        (SATA, ("ata-secure-erase", "overwrite")),
        (COLD, ("overwrite",)),
        (SIMPLE_NVME, ("nvme-format", "overwrite")),
        (GOOD_NVME, ("nvme-sanitize", "nvme-format", "overwrite")),
        (Abilities(nvme=Nvme(True, True, True, True), others=("/dev/nvme0n2",)), ("overwrite",)),
        (Abilities(nvme=Nvme(format=True), others=("/dev/nvme0n2",)), ("nvme-format", "overwrite")),
    ],
)
def test_auto_takes_the_most_thorough_that_hits_nothing_else(able: Abilities, methods: tuple[str]) -> None:
    assert choose("auto", able, fallback=False)[0] == methods


def test_auto_tells_that_a_frozen_disk_was_overwritten() -> None:
    assert "frozen" in choose("auto", COLD, fallback=False)[1][0]


@pytest.mark.parametrize(
    ("method", "able", "sentence"),
    [
        ("ata-secure-erase", COLD, "frozen by the firmware: switch the machine off and on"),
        ("ata-secure-erase", PLAIN, "no ATA security: choose auto or overwrite"),
        ("discard", PLAIN, "does not take discards"),
        ("nvme-format", SATA, "no NVMe disk"),
        ("nvme-sanitize", SIMPLE_NVME, "cannot sanitize: choose nvme-format"),
        ("nvme-format", Abilities(nvme=Nvme()), "cannot format"),
        (
            "nvme-sanitize",
            Abilities(nvme=Nvme(sanitize_block=True), others=("/dev/nvme0n2",)),
            "would take /dev/nvme0n2 along",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_way_out_or_overwritten(
    method: str, able: Abilities, sentence: str
) -> None:
    with pytest.raises(WipeRefused, match=sentence):
        choose(method, able, fallback=False)
    methods, notes = choose(method, able, fallback=True)
    assert methods == ("overwrite",)
    assert method in notes[0]


def test_zeros_are_promised_only_where_they_are() -> None:
    promised = abilities.promises_zeros
    assert promised("overwrite", PLAIN)
    assert promised("ata-secure-erase", SATA)
    assert promised("discard", SATA)
    assert not promised("discard", COLD)
    assert not promised("nvme-format", GOOD_NVME)
    assert abilities.spares_remain("overwrite", SIMPLE_NVME)
    assert not abilities.spares_remain("overwrite", PLAIN)
    assert not abilities.spares_remain("nvme-format", SIMPLE_NVME)
