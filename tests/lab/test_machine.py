"""QEMU is asked for the machine that was meant."""

from __future__ import annotations

import uuid
from itertools import pairwise
from pathlib import Path

import pytest

from pxeboot.lab.errors import LabError
from pxeboot.lab.machine import Firmware, MachineSpec, mac_of

WHERE = {"runtime": Path("/run/x"), "variables": Path("/v/pc.vars.fd"), "tap": "t-pc"}


def options(spec: MachineSpec, name: str) -> list[str]:
    """Every value of one of QEMU's options."""
    arguments = spec.arguments(**WHERE)  # type: ignore[arg-type]
    return [value for option, value in pairwise(arguments) if option == name]


def device(spec: MachineSpec, kind: str) -> str:
    return next(value for value in options(spec, "-device") if value.startswith(kind))


def test_a_bios_machine_keeps_the_cards_rom_and_shows_its_screen_on_the_serial_line() -> None:
    spec = MachineSpec("pc", firmware="bios")
    assert "romfile" not in device(spec, "virtio-net-pci")
    assert "graphics=off" in options(spec, "-machine")[0]
    assert not any("pflash" in drive for drive in options(spec, "-drive"))


def test_a_uefi_machine_uses_the_firmwares_own_pxe_and_no_ipv6() -> None:
    spec = MachineSpec("pc", firmware="uefi")
    assert device(spec, "virtio-net-pci").endswith("romfile=")
    assert options(spec, "-drive")[0].endswith("OVMF_CODE_4M.fd")
    assert "name=opt/org.tianocore/IPv6PXESupport,string=n" in options(spec, "-fw_cfg")
    assert "smm=off" in options(spec, "-machine")[0]


def test_http_boot_is_first_when_pxe_is_switched_off() -> None:
    spec = MachineSpec("pc", firmware="uefi", network_boot="http")
    assert "name=opt/org.tianocore/IPv4PXESupport,string=n" in options(spec, "-fw_cfg")
    assert not any("IPv4PXESupport" in value for value in options(MachineSpec("pc"), "-fw_cfg"))


def test_a_card_that_ovmf_has_no_driver_for_keeps_its_ipxe() -> None:
    assert "romfile" not in device(MachineSpec("pc", firmware="uefi", card="e1000"), "e1000")


def test_secure_boot_means_microsofts_keys_and_variables_that_only_smm_may_write() -> None:
    spec = MachineSpec("pc", firmware="uefi-secureboot")
    assert options(spec, "-drive")[0].endswith("OVMF_CODE_4M.ms.fd")
    assert "smm=on" in options(spec, "-machine")[0]
    assert options(spec, "-global") == ["driver=cfi.pflash01,property=secure,value=on"]


@pytest.mark.parametrize(
    ("bus", "kind"), [("virtio", "virtio-blk-pci"), ("nvme", "nvme"), ("ahci", "ide-hd,bus=ide.0")]
)
def test_the_disk_has_a_serial_number_on_every_bus(bus: str, kind: str) -> None:
    spec = MachineSpec("pc", disk=Path("/d.raw"), disk_bus=bus, serial="S1")  # type: ignore[arg-type]
    assert "serial=S1D" in device(spec, kind)


def test_the_network_comes_before_the_disk_unless_told_otherwise() -> None:
    first = MachineSpec("pc", disk=Path("/d.raw"))
    assert "bootindex=0" in device(first, "virtio-net-pci")
    assert "bootindex=1" in device(first, "virtio-blk-pci")
    local = MachineSpec("pc", disk=Path("/d.raw"), network_first=False)
    assert "bootindex=0" in device(local, "virtio-blk-pci")


def test_two_machines_differ_in_everything_that_identifies_them_and_one_is_always_the_same() -> None:
    one, again, other = MachineSpec("pc-1"), MachineSpec("pc-1"), MachineSpec("pc-2")
    assert (one.mac, one.serial, one.identity) == (again.mac, again.serial, again.identity)
    assert one.mac != other.mac
    assert one.serial != other.serial
    assert one.identity != other.identity
    assert f"uuid={one.identity}" in options(one, "-smbios")[0]
    assert mac_of("pc-1").startswith("52:54:00:")


def test_a_given_identity_is_kept() -> None:
    identity = uuid.UUID("11111111-2222-3333-4444-555555555555")
    spec = MachineSpec("pc", mac="52:54:00:AA:BB:CC", serial="X", identity=identity)
    assert (spec.mac, spec.serial, spec.identity) == ("52:54:00:aa:bb:cc", "X", identity)


def test_the_emulator_is_the_default_and_kvm_only_on_demand() -> None:
    assert options(MachineSpec("pc"), "-accel") == ["tcg,thread=multi"]
    assert options(MachineSpec("pc", accel="kvm"), "-accel") == ["kvm"]


def test_an_unknown_firmware_is_refused() -> None:
    wrong: Firmware = "efi"  # type: ignore[assignment]
    with pytest.raises(LabError, match="none of bios, uefi, uefi-secureboot"):
        MachineSpec("pc", firmware=wrong)
