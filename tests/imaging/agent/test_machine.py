"""What the agent knows of its machine: samples of dmidecode and efibootmgr, and trees that look like /sys."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.agent.disks import file_disk, list_disks
from imaging.agent.dmi import identity_in_sysfs, identity_of, parse_dmidecode
from imaging.agent.errors import AgentError
from imaging.agent.firmware import is_uefi, network_first, parse_efibootmgr, secure_boot
from imaging.agent.inventory import cpu_of, list_nics, memory_of

SAMPLES = Path(__file__).parent / "samples"


def sample(name: str) -> str:
    return (SAMPLES / name).read_text()


# -- SMBIOS --


def test_a_dell_tells_who_it_is() -> None:
    identity = identity_of(sample("dmidecode-dell.txt"))
    assert identity.uuid == "4c4c4544-0035-3010-805a-c7c04f515832"  # lower case, as iPXE's ${uuid}
    assert (identity.manufacturer, identity.product, identity.serial) == (
        "Dell Inc.",
        "OptiPlex 7060",
        "G50ZQX2",
    )
    assert (identity.bios_vendor, identity.bios_version, identity.bios_date) == (
        "Dell Inc.",
        "1.15.0",
        "01/15/2024",
    )


def test_what_a_vendor_did_not_fill_in_is_no_identity() -> None:
    identity = identity_of(sample("dmidecode-unfilled.txt"))
    # Thousands of boards share this "UUID": to trust it would make one host of them all.
    assert (identity.uuid, identity.serial, identity.product, identity.manufacturer) == ("", "", "", "")
    assert identity.bios_version == "P1.80"


def test_qemu_has_a_uuid_and_no_serial_number() -> None:
    identity = identity_of(sample("dmidecode-qemu.txt"))
    assert identity.uuid == "9f0c2d1e-4a5b-4c6d-8e7f-001122334455"
    assert identity.serial == ""
    assert identity.product == "Standard PC (Q35 + ICH9, 2009)"


def test_lists_inside_a_structure_are_not_fields() -> None:
    kinds = dict(parse_dmidecode(sample("dmidecode-dell.txt")))
    assert kinds[0]["Characteristics"] == ""
    assert "PCI is supported" not in kinds[0]


def test_sysfs_stands_in_for_dmidecode(tmp_path: Path) -> None:
    folder = tmp_path / "class/dmi/id"
    folder.mkdir(parents=True)
    (folder / "product_uuid").write_text("4C4C4544-0035-3010-805A-C7C04F515832\n")
    (folder / "product_serial").write_text("Default string\n")
    assert identity_in_sysfs(str(tmp_path))[:2] == ("4c4c4544-0035-3010-805a-c7c04f515832", "")


@given(st.text())
def test_any_text_has_some_identity(text: str) -> None:
    assert len(identity_of(text)) == 7
    assert parse_efibootmgr(text).entries is not None


# -- firmware --


def test_the_network_entry_of_this_boot_goes_first() -> None:
    boot = parse_efibootmgr(sample("efibootmgr-v.txt"))
    assert boot.current == "0003"
    assert [entry.id for entry in boot.entries if entry.network] == ["0002", "0003"]
    assert boot.entries[0].name == "Windows Boot Manager"
    assert network_first(boot) == ["0003", "0004", "0000", "0002"]


def test_an_older_efibootmgr_prints_no_paths_and_names_must_do() -> None:
    boot = parse_efibootmgr(sample("efibootmgr-17.txt"))
    assert network_first(boot) == ["0001", "0002", "0000"]


def test_an_order_that_is_right_stays() -> None:
    text = sample("efibootmgr-v.txt").replace("0004,0000,0003,0002", "0002,0004,0000,0003")
    assert network_first(parse_efibootmgr(text)) is None


def test_without_a_network_entry_nothing_is_changed() -> None:
    boot = parse_efibootmgr("BootOrder: 0000\nBoot0000* debian\tHD(1,GPT)/File(\\EFI\\debian\\shimx64.efi)\n")
    assert network_first(boot) is None


def test_secure_boot_is_the_fifth_byte(tmp_path: Path) -> None:
    variables = tmp_path / "firmware/efi/efivars"
    assert not is_uefi(str(tmp_path))
    assert secure_boot(str(tmp_path)) is None
    variables.mkdir(parents=True)
    variable = variables / "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    variable.write_bytes(b"\6\0\0\0\1")
    assert is_uefi(str(tmp_path))
    assert secure_boot(str(tmp_path)) is True
    variable.write_bytes(b"\6\0\0\0\0")
    assert secure_boot(str(tmp_path)) is False


# -- disks --


def make_disk(sys: Path, name: str, where: str, gigabytes: int = 500, **files: str) -> None:
    device = sys / "devices" / where
    folder = device / "block" / name
    folder.mkdir(parents=True)
    (folder / "device").symlink_to(device)
    (folder / "size").write_text(f"{gigabytes * 10**9 // 512}\n")
    (sys / "block").mkdir(exist_ok=True)
    (sys / "block" / name).symlink_to(folder)
    for file, text in files.items():
        path = folder / file.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def test_every_kind_of_disk_is_told_apart(tmp_path: Path) -> None:
    make_disk(tmp_path, "nvme0n1", "pci0/0000:01:00.0/nvme/nvme0", device__serial="S4EWNX0R  \n",
              device__model="Samsung SSD 970\n", wwid="eui.0025385b01\n", queue__logical_block_size="4096\n",
              queue__rotational="0\n")  # fmt: skip
    make_disk(tmp_path, "sda", "pci0/0000:00:1f.2/ata1/host0/target0/0:0:0:0", device__vendor="ATA     \n",
              device__model="ST1000DM003-1ER162\n", queue__rotational="1\n",
              device__wwid="naa.5000c500\n")  # fmt: skip
    (tmp_path / "block/sda/device/vpd_pg80").write_bytes(b"\0\x80\0\x08Z4Y12345")
    make_disk(tmp_path, "sdb", "pci0/usb1/1-1/1-1:1.0/host2/target2/2:0:0:0", removable="1\n")
    make_disk(tmp_path, "vda", "pci0/virtio3", serial="root-disk\n")
    make_disk(tmp_path, "sr0", "pci0/ata2/host1/target1/1:0:0:0", gigabytes=1)
    make_disk(tmp_path, "mmcblk0", "pci0/mmc0/mmc0:0001", device__type="MMC\n")
    make_disk(tmp_path, "mmcblk0boot0", "pci0/mmc0/mmc0:0001/x")
    make_disk(tmp_path, "mmcblk1", "pci0/mmc1/mmc1:0001", device__type="SD\n")
    make_disk(tmp_path, "sdc", "pci0/ata3/host3/target3/3:0:0:0", gigabytes=0)
    (tmp_path / "devices/virtual/block/loop0").mkdir(parents=True)
    (tmp_path / "devices/virtual/block/loop0/size").write_text("2048")
    (tmp_path / "block/loop0").symlink_to(tmp_path / "devices/virtual/block/loop0")

    disks = {disk.name: disk for disk in list_disks(str(tmp_path))}
    assert {name: disk.transport for name, disk in disks.items()} == {
        "nvme0n1": "nvme", "sda": "sata", "sdb": "usb", "vda": "virtio", "mmcblk0": "mmc", "mmcblk1": "sd",
    }  # fmt: skip
    nvme, sata = disks["nvme0n1"], disks["sda"]
    assert (nvme.serial, nvme.wwn, nvme.model) == ("S4EWNX0R", "eui.0025385b01", "Samsung SSD 970")
    assert (nvme.sector_size, nvme.rotational, nvme.path) == (4096, False, "/dev/nvme0n1")
    assert (sata.serial, sata.model, sata.rotational) == ("Z4Y12345", "ST1000DM003-1ER162", True)
    assert sata.wwn == "naa.5000c500"
    assert disks["vda"].serial == "root-disk"


def test_a_file_can_be_a_disk(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(4096))
    assert file_disk(str(path)).size == 4096
    with pytest.raises(AgentError, match="No such file"):
        file_disk(str(tmp_path / "none"))


# -- the rest --


def test_processor_and_memory() -> None:
    cpuinfo = "".join(
        f"processor\t: {n}\nmodel name\t: Intel(R)  Core(TM) i5-4590 CPU\n"
        f"physical id\t: 0\ncore id\t\t: {n % 2}\n\n"
        for n in range(4)
    )
    assert cpu_of(cpuinfo) == {
        "model": "Intel(R) Core(TM) i5-4590 CPU",
        "sockets": 1,
        "cores": 2,
        "threads": 4,
    }
    assert memory_of("MemTotal:        8052372 kB\nMemFree: 1 kB\n") == 8052372 * 1024


def test_network_cards(tmp_path: Path) -> None:
    for name, kind, mac in (("eno1", "1", "8C:EC:4B:00:00:01"), ("lo", "772", "00:00:00:00:00:00")):
        (tmp_path / "class/net" / name).mkdir(parents=True)
        (tmp_path / "class/net" / name / "type").write_text(kind)
        (tmp_path / "class/net" / name / "address").write_text(mac)
    eno1 = tmp_path / "class/net/eno1"
    (eno1 / "speed").write_text("1000\n")
    (eno1 / "carrier").write_text("1\n")
    (eno1 / "device").mkdir()
    (tmp_path / "e1000e").mkdir()
    (eno1 / "device/driver").symlink_to(tmp_path / "e1000e")
    assert list_nics(str(tmp_path)) == [
        {"name": "eno1", "mac": "8c:ec:4b:00:00:01", "driver": "e1000e", "speed_mbit": 1000, "link": True,
         "wireless": False}
    ]  # fmt: skip
