"""Which kernel modules travel, with what they need."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest
import zstandard

from pxeboot.bootenv import modules, recipe

DEP = """\
kernel/drivers/net/ethernet/intel/e1000e/e1000e.ko.xz:
kernel/drivers/net/usb/r8152.ko.xz: kernel/drivers/net/mii.ko.xz kernel/drivers/usb/core/usbcore.ko.xz
kernel/drivers/net/mii.ko.xz:
kernel/drivers/usb/core/usbcore.ko.xz: kernel/drivers/usb/common/usb-common.ko.xz
kernel/drivers/usb/common/usb-common.ko.xz:
kernel/drivers/net/wireless/intel/iwlwifi/iwlwifi.ko.xz: kernel/net/wireless/cfg80211.ko.xz
kernel/net/wireless/cfg80211.ko.xz:
kernel/sound/core/snd.ko.xz:
kernel/drivers/gpu/drm/i915/i915.ko.xz:
kernel/drivers/net/ethernet/mellanox/mlxsw/mlxsw_core.ko.xz:
kernel/drivers/scsi/qla2xxx/qla2xxx.ko.xz:
kernel/drivers/scsi/sd_mod.ko.xz:
kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz
kernel/fs/jbd2/jbd2.ko.xz:
"""


def chosen() -> set[str]:
    dependencies = modules.parse_dependencies(DEP)
    picked = modules.select(dependencies, recipe.MODULES, recipe.MODULES_DROP)
    return {modules.module_name(path) for path in modules.close(picked, dependencies)}


def test_cards_disks_and_file_systems_come_with_what_they_need() -> None:
    assert chosen() == {"e1000e", "r8152", "mii", "usbcore", "usb_common", "sd_mod", "ext4", "jbd2"}


def test_radio_sound_and_graphics_stay_at_home() -> None:
    assert not chosen() & {"iwlwifi", "cfg80211", "snd", "i915", "mlxsw_core", "qla2xxx"}


@pytest.mark.parametrize(
    ("path", "pattern", "fits"),
    [
        ("drivers/hv/hv_vmbus", "drivers/hv/*", True),
        ("drivers/hv/sub/x", "drivers/hv/*", False),
        ("drivers/hv/sub/x", "drivers/hv/**", True),
        ("drivers/hv", "drivers/hv/**", False),
        ("drivers/net/ethernet/qlogic/qede/qede", "drivers/net/ethernet/qlogic/qed*/**", True),
        ("drivers/net/ethernet/qlogic/qla3xxx", "drivers/net/ethernet/qlogic/qed*/**", False),
        ("a", "**", True),
    ],
)
def test_patterns(path: str, pattern: str, fits: bool) -> None:
    assert recipe.matches(path, [pattern]) is fits


def module(**info: str) -> bytes:
    strings = b"".join(b"\0" + f"{key}={value}".encode() for key, value in info.items())
    return b"\x7fELF\0\0code" + strings + b"\0\0more"


def test_modinfo_reads_nul_terminated_strings() -> None:
    content = module(license="GPL", firmware="rtl_nic/rtl8168h-2.fw") + b"\0firmware=tigon/tg3.bin\0"
    assert modules.modinfo(content, "firmware") == ["rtl_nic/rtl8168h-2.fw", "tigon/tg3.bin"]
    assert modules.modinfo(content, "ware") == []


def test_soft_dependencies() -> None:
    content = module(softdep="pre: crc32c-intel b post: c") + module(weakdep="d")
    assert modules.soft_dependencies(content) == {"crc32c_intel", "b", "c", "d"}


def test_install_packs_modules_anew_and_finds_firmware(tmp_path: Path) -> None:
    tree, root = tmp_path / "tree", tmp_path / "root"
    base = tree / "usr/lib/modules/6.12-test"
    files = {
        "kernel/drivers/net/ethernet/realtek/r8169.ko.xz": module(
            firmware="rtl_nic/a.fw", softdep="pre: realtek"
        ),
        "kernel/lib/realtek.ko.xz": module(firmware="rtl_nic/gone.fw"),
        "kernel/sound/snd.ko.xz": module(),
    }
    for name, content in files.items():
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_bytes(lzma.compress(content))
    (tree / "usr/lib/firmware/rtl_nic").mkdir(parents=True)
    (tree / "usr/lib/firmware/rtl_nic/a.fw").write_bytes(b"firmware")
    listing = "".join(f"{name}:\n" for name in files)
    done, lacking = modules.install(tree, root, "6.12-test", listing)
    assert [modules.module_name(path) for path in done] == ["r8169", "realtek"]
    assert lacking == ["rtl_nic/gone.fw"]
    packed = root / "usr/lib/modules/6.12-test/kernel/drivers/net/ethernet/realtek/r8169.ko.zst"
    assert zstandard.decompress(packed.read_bytes()) == files[done[0]]
    assert (root / "usr/lib/firmware/rtl_nic/a.fw").read_bytes() == b"firmware"
    assert not (root / "usr/lib/modules/6.12-test/kernel/sound").exists()
