"""Which UEFI boot entries a deployed disk needs, and which old ones go: decided from text, changed elsewhere.

An entry names its system partition by GUID (UEFI 2.10 §10.3.5.1, hard drive media device path). A deploy
that changes GUIDs, or a new disk in an old machine, leaves entries that lead nowhere and lacks those that
would; many firmwares make one of their own at each start, so they also pile up.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from imaging.agent.firmware import (
    BootEntries,
    BootEntry,
    is_uefi,
    mount_efivars,
    network_first,
    parse_efibootmgr,
    run_tool,
)
from imaging.disk.device import Disk
from imaging.disk.table import read_table
from imaging.errors import ImagingError
from imaging.resize.fat import Entry, Fat, FatError
from imaging.tables import GptTable

_SYSTEM = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"  # UEFI 2.10 table 5.7: EFI System Partition

_HARD_DRIVE = re.compile(r"\bHD\(\d+,GPT,([0-9a-fA-F-]{36})")
_FILE = re.compile(r"File\(([^)]*)\)|\)/(\\[^\t ]*)")
#: A vendor directory's loader: the first of these that is there. shim before what only shim may start.
_LOADERS = ("shimx64.efi", "grubx64.efi", "systemd-bootx64.efi", "refind_x64.efi", "bootx64.efi")
_WINDOWS = "efi/microsoft/boot/bootmgfw.efi"
_FALLBACK = "efi/boot/bootx64.efi"
#: What systems call their entries where no file says so.
_NAMES = {"systemd": "Linux Boot Manager", "fedora": "Fedora", "refind": "rEFInd Boot Manager"}
_MAX_NAME = 60


class Loader(NamedTuple):
    """A boot loader on the disk: the entry's name, and its path as UEFI writes it."""

    name: str
    path: str


class Repair(NamedTuple):
    """What to do: entries to delete, loaders to make entries for, and what counts as present already."""

    delete: tuple[str, ...]
    create: tuple[Loader, ...]
    present: tuple[str, ...]


def loaders_on(entries: Iterable[Entry], read: Callable[[Entry], bytes]) -> list[Loader]:
    """The boot loaders of a system partition, from everything below its EFI directory.

    Windows first, then vendors by name; the fallback loader only when it is the only one. ``read`` gives the
    bytes of a small file (shim's BOOTX64.CSV, which has the entry's proper name).
    """
    files = {entry.path.lower(): entry for entry in entries if not entry.directory}
    found = []
    if _WINDOWS in files:
        found.append(Loader("Windows Boot Manager", _uefi(files[_WINDOWS].path)))
    vendors = sorted({path.split("/")[1] for path in files if path.count("/") == 2})
    for vendor in vendors:
        if vendor in ("boot", "microsoft"):
            continue
        name = next((name for name in _LOADERS if f"efi/{vendor}/{name}" in files), None)
        if name is None:
            continue
        entry = files[f"efi/{vendor}/{name}"]
        given = files.get(f"efi/{vendor}/bootx64.csv")
        label = csv_name(read(given), name) if given is not None else ""
        proper = entry.path.split("/")[1]
        found.append(Loader(label or _NAMES.get(vendor, proper)[:_MAX_NAME], _uefi(entry.path)))
    if not found and _FALLBACK in files:
        found.append(Loader("UEFI OS", _uefi(files[_FALLBACK].path)))
    return found


def csv_name(data: bytes, loader: str) -> str:
    """The name for ``loader`` in shim's BOOTX64.CSV (UTF-16: file, name, arguments, description)."""
    text = data.decode("utf-16", "replace") if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
    for line in (text or data.decode("utf-16-le", "replace")).splitlines():
        fields = [part.strip() for part in line.split(",")]
        if len(fields) >= 2 and fields[0].lower() == loader.lower():
            name = "".join(c for c in fields[1] if c.isprintable() and c not in "\t\n\ufffd")
            return name[:_MAX_NAME]
    return ""


def partition_of(entry: BootEntry) -> str:
    """GUID (lower case) of the partition an entry starts from; "" when it starts from no GPT partition."""
    found = _HARD_DRIVE.search(entry.path)
    return found[1].lower() if found else ""


def loader_of(entry: BootEntry) -> str:
    """Path of the file an entry starts, lower case with backslashes; "" when it names none."""
    found = _FILE.search(entry.path)
    return (found[1] or found[2] or "").lower().replace("/", "\\") if found else ""


def repair(boot: BootEntries, guid: str, loaders: Sequence[Loader], present: Collection[str]) -> Repair:
    """What to change so that each loader of the system partition ``guid`` has exactly one entry.

    ``present`` are the GUIDs of all partitions in this machine: an entry of the same name and file that leads
    to none of them is stale. Other systems' entries, and entries that are no files on disks, stay.
    """
    guid = guid.lower()
    here = {name.lower() for name in present} | {guid}
    delete: list[str] = []
    create: list[Loader] = []
    kept: list[str] = []
    for loader in loaders:
        path = loader.path.lower()
        ours = [e for e in boot.entries if partition_of(e) == guid and loader_of(e) == path]
        # The one earliest in the boot order is the one people know; an inactive one would not be started.
        ours.sort(key=lambda e: (not e.active, _place(boot.order, e.id)))
        same = [e for e in ours if e.name == loader.name] or ours
        if same:
            kept.append(same[0].id)
            delete += [e.id for e in ours if e is not same[0] and e.name == loader.name]
        else:
            create.append(loader)
        delete += [
            e.id
            for e in boot.entries
            if e.name == loader.name
            and loader_of(e) == path
            and partition_of(e)
            and partition_of(e) not in here
        ]
    return Repair(tuple(dict.fromkeys(delete)), tuple(create), tuple(kept))


def order_after(boot: BootEntries, ours: Sequence[str]) -> list[str]:
    """The boot order with the deployed system's entries right behind the network's, and the network first.

    ``boot`` are the entries as they are after the repair. Without an active network entry the deployed system
    is first.
    """
    known = {entry.id for entry in boot.entries}
    order = [id for id in dict.fromkeys([*boot.order, *ours]) if id in known]
    network = {entry.id for entry in boot.entries if entry.network and entry.active}
    first = network_first(boot._replace(order=order)) or order
    lead = list(itertools.takewhile(lambda id: id in network, first))
    mine = [id for id in ours if id in known]
    return [*lead, *mine, *(id for id in first if id not in lead and id not in mine)]


def _place(order: Sequence[str], id: str) -> int:
    return order.index(id) if id in order else len(order)


def _uefi(path: str) -> str:
    return "\\" + path.replace("/", "\\")


# --- the shell around it: efibootmgr, best effort ---


def system_partition(path: str, sector_size: int) -> tuple[int, str, list[Loader]] | None:
    """(number, GUID, loaders) of the disk's first EFI system partition with a loader; None without one.

    Reads the disk without mounting anything; what cannot be read counts as not there.
    """
    try:
        with Disk(path, sector_size=sector_size) as disk:
            table, partitions = read_table(disk)
            if not isinstance(table, GptTable):
                return None
            for p in partitions:
                if p.type_guid != _SYSTEM:
                    continue
                start = p.start
                try:
                    system = Fat(lambda offset, length, start=start: disk.read_at(start + offset, length))  # type: ignore[misc]
                    loaders = loaders_on(system.walk("EFI"), lambda entry: system.read(entry, 65536))  # noqa: B023
                except FatError:
                    continue
                if loaders:
                    return p.number, p.unique_guid, loaders
    except ImagingError:
        pass
    return None


def partition_guids(paths: Iterable[str]) -> set[str]:
    """GUIDs of all partitions on these disks; disks that cannot be read count as empty."""
    found = set()
    for path in paths:
        try:
            with Disk(path) as disk:
                found |= {p.unique_guid for p in read_table(disk)[1] if p.unique_guid}
        except ImagingError:
            continue
    return found


def repair_entries(
    disk: str, sector_size: int, others: Iterable[str], log: Callable[[str], None]
) -> Repair | None:
    """Make the firmware's boot entries fit the deployed ``disk``, the network staying first.

    ``others`` are paths of all disks of this machine. Returns what was done; None on BIOS machines and when
    the disk has no loader. Best effort: an entry that the firmware refuses is logged, not an error, for most
    firmwares find the disk without one.
    """
    if not is_uefi():
        return None
    mount_efivars()
    system = system_partition(disk, sector_size)
    if system is None:
        return None
    number, guid, loaders = system

    def call(*arguments: str) -> BootEntries:
        text = run_tool("efibootmgr", *arguments)
        log(f"efibootmgr {' '.join(arguments)}\n{text.strip() or 'failed'}")
        return parse_efibootmgr(text)

    before = call("-v")
    todo = repair(before, guid, loaders, partition_guids(others))
    for id in todo.delete:
        call("-b", id, "-B")
    for loader in todo.create:
        # --create-only leaves the boot order to us.
        call("--create-only", "--disk", disk, "--part", str(number), "--label", loader.name,
             "--loader", loader.path)  # fmt: skip
    now = call("-v")
    done = repair(now, guid, loaders, ())
    order = order_after(now, done.present)
    if order and order != now.order:
        call("-o", ",".join(order))
    return todo._replace(present=done.present)
