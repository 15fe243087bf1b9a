"""Boot entries: found by looking, none twice, none that lead nowhere, and the network first."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.agent.bootentries import (
    Loader,
    csv_name,
    loader_of,
    loaders_on,
    order_after,
    partition_of,
    repair,
    system_partition,
)
from imaging.agent.firmware import BootEntries, BootEntry, parse_efibootmgr
from imaging.resize.fat import Entry
from tests.imaging.disks import make_disk, put, run

OLD, NEW, OTHER = (f"{digit * 8}-0000-4000-8000-000000000000" for digit in "123")
DEBIAN = Loader("debian", "\\EFI\\debian\\shimx64.efi")
WINDOWS = Loader("Windows Boot Manager", "\\EFI\\Microsoft\\Boot\\bootmgfw.efi")
PXE = "PciRoot(0x0)/Pci(0x1f,0x6)/MAC(8cec4b000001,0)/IPv4(0.0.0.00.0.0.0,0,0)"


def hd(guid: str, path: str) -> str:
    return f"HD(1,GPT,{guid},0x800,0x219800)/File({path})"


def firmware(*entries: tuple[str, str], order: str = "") -> BootEntries:
    """Entries numbered from 0000 as efibootmgr prints them, read back by our own parser."""
    text = "".join(f"Boot{n:04X}* {name}\t{path}\n" for n, (name, path) in enumerate(entries))
    ids = order.split(",") if order else [f"{n:04X}" for n in range(len(entries))]
    return parse_efibootmgr(f"BootCurrent: 0000\nBootOrder: {','.join(ids)}\n{text}")


def test_a_new_partition_guid_replaces_the_entry_that_led_to_the_old_one() -> None:
    boot = firmware(("PXE IPv4", PXE), ("debian", hd(OLD, "\\EFI\\debian\\shimx64.efi")))
    todo = repair(boot, NEW, [DEBIAN], {NEW})
    assert todo == (("0001",), (DEBIAN,), ())


def test_an_entry_that_fits_stays_and_its_doubles_go() -> None:
    same = ("debian", hd(NEW, "\\EFI\\DEBIAN\\SHIMX64.EFI"))
    boot = firmware(("PXE IPv4", PXE), same, same, same, order="0000,0002,0001,0003")
    todo = repair(boot, NEW, [DEBIAN], {NEW})
    assert todo == (("0001", "0003"), (), ("0002",))


def test_the_same_system_on_another_disk_of_this_machine_keeps_its_entry() -> None:
    boot = firmware(("debian", hd(OTHER, "\\EFI\\debian\\shimx64.efi")))
    assert repair(boot, NEW, [DEBIAN], {NEW, OTHER}) == ((), (DEBIAN,), ())
    assert repair(boot, NEW, [DEBIAN], {NEW}).delete == ("0000",)


def test_other_names_and_things_that_are_no_files_on_disks_are_not_ours() -> None:
    boot = firmware(
        ("ubuntu", hd(OLD, "\\EFI\\ubuntu\\shimx64.efi")),
        ("debian", "VenHw(99e275e7)"),
        ("My debian", hd(OLD, "\\EFI\\debian\\shimx64.efi")),
        ("debian", hd(OLD, "\\EFI\\debian\\fwupdx64.efi")),
    )
    assert repair(boot, NEW, [DEBIAN], {NEW}).delete == ()


def test_efibootmgr_18_prints_files_without_the_word() -> None:
    entry = BootEntry("0001", True, "debian", f"HD(1,GPT,{NEW},0x800,0x100000)/\\EFI\\debian\\shimx64.efi")
    assert partition_of(entry) == NEW
    assert loader_of(entry) == "\\efi\\debian\\shimx64.efi"


@pytest.mark.parametrize("name", ["efibootmgr-v.txt", "efibootmgr-17.txt"])
def test_real_outputs_are_understood(name: str) -> None:
    boot = parse_efibootmgr((Path(__file__).parent / "samples" / name).read_text())
    todo = repair(boot, "18121b45-5a92-4fdd-8128-7e61f1cbd7eb", [DEBIAN, WINDOWS], ())
    if name == "efibootmgr-v.txt":
        assert todo.present == ("0004",)
        assert todo.create == (WINDOWS,)
        assert todo.delete == ("0000",)
        assert order_after(boot, todo.present) == ["0003", "0004", "0000", "0002"]


def test_the_network_stays_first_and_the_new_system_comes_behind_it() -> None:
    disk = ("debian", hd(NEW, "\\EFI\\debian\\shimx64.efi"))
    cdrom = ("DVD", "PciRoot(0x0)/Sata(1)")
    boot = firmware(("PXE IPv4", PXE), ("PXE IPv6", PXE.replace("v4", "v6")), cdrom, disk)
    assert order_after(boot, ["0003"]) == ["0000", "0001", "0003", "0002"]
    boot = firmware(disk, ("PXE IPv4", PXE))._replace(current="0001")
    assert order_after(boot, ["0000"]) == ["0001", "0000"]
    boot = firmware(cdrom, disk, order="0000")
    assert order_after(boot, ["0001"]) == ["0001", "0000"]


def test_loaders_are_found_by_looking() -> None:
    paths = [
        "EFI/BOOT/BOOTX64.EFI",
        "EFI/Microsoft/Boot/bootmgfw.efi",
        "EFI/debian/shimx64.efi",
        "EFI/debian/grubx64.efi",
        "EFI/debian/BOOTX64.CSV",
        "EFI/systemd/systemd-bootx64.efi",
        "EFI/tools/memtest.efi",
    ]
    entries = [Entry(path, False, 10, 2) for path in paths]
    found = loaders_on(entries, lambda entry: "\ufeffshimx64.efi,Debian 13,,x\n".encode("utf-16-le"))
    assert found == [
        WINDOWS,
        Loader("Debian 13", DEBIAN.path),
        Loader("Linux Boot Manager", "\\EFI\\systemd\\systemd-bootx64.efi"),
    ]
    assert loaders_on(entries[:1], lambda entry: b"") == [Loader("UEFI OS", "\\EFI\\BOOT\\BOOTX64.EFI")]
    assert loaders_on([], lambda entry: b"") == []


def test_a_system_partition_is_found_on_a_real_disk(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk", tmp_path)
    assert system_partition(str(disk), 512) is None  # its only loader is not where firmware looks
    esp = tmp_path / "esp"
    with open(esp, "wb") as file:
        file.truncate(40 << 20)
    run("mkfs.vfat", "-F", "32", esp)
    run("mmd", "-i", esp, "::EFI", "::EFI/ubuntu")
    run("mcopy", "-i", esp, "/etc/hostname", "::EFI/ubuntu/shimx64.efi")
    put(disk, 2 << 20, esp.read_bytes())
    found = system_partition(str(disk), 512)
    assert found is not None
    assert found[0] == 2
    assert found[2] == [Loader("ubuntu", "\\EFI\\ubuntu\\shimx64.efi")]
    assert system_partition(str(tmp_path / "nothing"), 512) is None


@given(st.binary(max_size=400))
def test_any_csv_gives_a_name_or_none(data: bytes) -> None:
    name = csv_name(data, "shimx64.efi")
    assert len(name) <= 60
    assert name.isprintable()


GUIDS = st.sampled_from([OLD, NEW, OTHER])
PATHS = st.one_of(
    st.just(PXE),
    st.builds(hd, GUIDS, st.sampled_from([DEBIAN.path, WINDOWS.path, "\\EFI\\x\\y.efi"])),
    st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=40),
)
ENTRIES = st.lists(
    st.builds(
        BootEntry,
        st.sampled_from([f"{n:04X}" for n in range(12)]),
        st.booleans(),
        st.sampled_from(["debian", "Windows Boot Manager", "PXE", ""]),
        PATHS,
    ),
    max_size=12,
    unique_by=lambda entry: entry.id,
)


@given(ENTRIES, st.lists(st.sampled_from([f"{n:04X}" for n in range(14)]), unique=True), st.sets(GUIDS))
def test_carried_out_a_repair_leaves_nothing_to_do_and_loses_nobody_elses_entry(
    entries: list[BootEntry], order: list[str], present: set[str]
) -> None:
    boot = BootEntries("", order, entries)
    todo = repair(boot, NEW, [DEBIAN, WINDOWS], present)
    kept = [entry for entry in entries if entry.id not in todo.delete]
    made = [
        BootEntry(f"{0x100 + n:04X}", True, loader.name, hd(NEW, loader.path))
        for n, loader in enumerate(todo.create)
    ]
    after = BootEntries("", order, kept + made)
    again = repair(after, NEW, [DEBIAN, WINDOWS], present)
    assert (again.delete, again.create) == ((), ())
    assert len(again.present) == 2
    for gone in (entry for entry in entries if entry.id in todo.delete):
        assert gone.name in (DEBIAN.name, WINDOWS.name)
        assert not gone.network or partition_of(gone)
    new_order = order_after(after, again.present)
    assert len(set(new_order)) == len(new_order)
    known = {entry.id for entry in after.entries}
    network = {entry.id for entry in after.entries if entry.network and entry.active}
    # Only a network entry that was in nobody's order may have joined it.
    assert set(new_order) - network == ((set(order) & known) | set(again.present)) - network
    assert not network or not order or new_order[0] in network or not network & set(new_order)


@given(st.text(max_size=500))
def test_any_output_of_efibootmgr_can_be_judged(text: str) -> None:
    boot = parse_efibootmgr(text)
    todo = repair(boot, NEW, [DEBIAN], ())
    order_after(boot, todo.present)
