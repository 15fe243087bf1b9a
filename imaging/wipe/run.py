"""Wiping one disk from the look at what it can do to the record of what was done."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from imaging.disk.device import Disk
from imaging.errors import ImagingError
from imaging.other_options import WipeOptions
from imaging.wipe import abilities, erase, proof
from imaging.wipe.abilities import Abilities
from imaging.wipe.erase import WipeFailed


@dataclass(slots=True)
class Target:
    """One disk to be wiped, as the caller knows it; ``file``: a file that stands for a disk."""

    path: str
    size: int
    serial: str = ""
    wwn: str = ""
    model: str = ""
    transport: str = ""
    rotational: bool = False
    file: bool = False


def look(target: Target, wiped: Collection[str], sys: str = "/sys") -> Abilities:
    """Ask a disk what it can do. ``wiped``: the paths of all disks of this task."""
    name = os.path.basename(os.path.realpath(target.path))
    if target.file:
        return Abilities(discard=True, zeros_after_discard=True)
    limit = _read(f"{sys}/block/{name}/queue/discard_max_bytes")
    discard = limit.isdecimal() and int(limit) > 0
    if target.transport == "nvme":
        controller = erase.controller_of(target.path)
        others = tuple(
            path
            for path in namespaces(os.path.basename(controller), sys)
            if os.path.realpath(path) not in {os.path.realpath(each) for each in wiped}
        )
        zeros = abilities.zeros_when_deallocated(_ask("nvme", "id-ns", target.path, "-o", "json"))
        nvme = abilities.parse_id_ctrl(_ask("nvme", "id-ctrl", controller, "-o", "json"))
        return Abilities(nvme=nvme, others=others, discard=discard, zeros_after_discard=zeros)
    if target.transport in ("sata", "scsi"):
        said = _ask("hdparm", "-I", target.path)
        return Abilities(
            ata=abilities.parse_hdparm(said), discard=discard, rotational=target.rotational,
            zeros_after_discard=abilities.zeros_after_trim(said),
        )  # fmt: skip
    return Abilities(discard=discard, rotational=target.rotational)


def namespaces(controller: str, sys: str = "/sys") -> list[str]:
    """Device nodes of all namespaces of an NVMe controller, like ``/dev/nvme0n2``."""
    try:
        names = os.listdir(f"{sys}/block")
    except OSError:
        return []
    return [f"/dev/{name}" for name in sorted(names) if name.startswith(f"{controller}n") and "p" not in name]


def wipe(
    target: Target,
    options: WipeOptions,
    able: Abilities,
    *,
    progress: Callable[[int], None],
    check: Callable[[], None],
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Wipe one disk and read it again; returns its record. ``progress`` gets bytes, about the disk's size
    for each pass and once more for ``verify: full``.

    The record of a disk that could not be wiped has ``verified`` false and ``error`` a sentence; only a task
    that must end raises. Raises WipeRefused before anything is changed.
    """
    began = time.monotonic()
    record: dict[str, Any] = {
        "path": target.path, "serial": target.serial, "wwn": target.wwn, "model": target.model,
        "size": target.size, "transport": target.transport, "asked": options.method, "method": "",
        "passes": 0, "seconds": 0.0, "verified": False, "proof": {}, "notes": [], "error": "",
    }  # fmt: skip
    methods, notes = abilities.choose(options.method, able, fallback=options.fallback)
    record["notes"] += notes
    try:
        with Disk(target.path, write=True) as disk:
            offsets = proof.places(disk.size)
            before = proof.remember(disk, offsets)
        method = _erase(target, options, able, methods, record, progress, check, tell)
        record["method"] = method
        record["passes"] = options.passes if method == "overwrite" else 1
        zeros = abilities.promises_zeros(method, able)
        with Disk(target.path) as disk:
            disk.drop_caches()
            if options.verify == "full" and zeros:
                found = proof.prove_all(disk, progress)
            else:
                found = proof.prove(disk, offsets, before, zeros=zeros)
            disk.reread_table()
        record["proof"] = found.to_json() | {"before": len(before)}
        if not zeros and not before:
            record["notes"].append("None of the places that were read held data before.")
        record["verified"] = found.holds and not record.get("unwritable")
        if record.get("unwritable"):
            count = len(record["unwritable"])
            record["error"] = f"{count} blocks could not be overwritten: destroy the disk."
        elif not found.holds:
            other = "overwrite" if method != "overwrite" else "another method"
            record["error"] = f"After {method}, {found.sentence()}: wipe it by {other}, or destroy the disk."
        if abilities.spares_remain(method, able):
            record["notes"].append("Blocks that a flash disk has put aside are out of reach of this method.")
        if target.transport in ("sata", "scsi") and not target.file:
            hidden = abilities.hidden_sectors(_ask("hdparm", "-N", target.path))
            if hidden and method != "ata-secure-erase":
                record["notes"].append(f"A protected area of {hidden} sectors is hidden; it was not reached.")
    except (ImagingError, OSError) as error:
        record["error"] = str(error)
    record["seconds"] = round(time.monotonic() - began, 1)
    return record


def _erase(
    target: Target,
    options: WipeOptions,
    able: Abilities,
    methods: tuple[str, ...],
    record: dict[str, Any],
    progress: Callable[[int], None],
    check: Callable[[], None],
    tell: Callable[[str], None],
) -> str:
    """Try the methods in turn until one comes to its end; its name. Raises the last one's error."""
    for at, method in enumerate(methods):
        tell(f"{target.path}: {method}")
        try:
            if method == "ata-secure-erase":
                erase.ata_secure_erase(target.path, target.size, able, progress)
            elif method == "nvme-format":
                erase.nvme_format(target.path, target.size, progress)
            elif method == "nvme-sanitize":
                erase.nvme_sanitize(target.path, target.size, able, progress)
            else:
                with Disk(target.path, write=True) as disk:
                    if method == "discard":
                        erase.discard(disk, progress, check)
                    else:
                        bad = erase.overwrite(disk, options.passes, progress, check)
                        if bad:
                            record["unwritable"] = [list(each) for each in bad[:100]]
        except (WipeFailed, abilities.WipeRefused) as error:
            if at + 1 == len(methods):
                raise
            record["notes"].append(f"{method} failed ({error}), so {methods[at + 1]} was tried.")
            tell(f"{target.path}: {error}")
        else:
            return method
    raise WipeFailed(f"No method is left for {target.path}.")  # `methods` is never empty


def _ask(*command: str) -> str:
    """What a program says, whatever its status; "" when it is not there or silent for 30 s."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30.0, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace")


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
