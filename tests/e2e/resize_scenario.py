"""Runs inside the boot environment (test_resize.py): its own tools, its own kernel, a disk of virtio.

Says on the serial line what it saw; the last line is `SCENARIO OK`, or `SCENARIO FAILED` after a traceback.
"""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from pathlib import Path

sys.path.insert(0, "/scenario")

from imaging.agent.afterwards import afterwards
from imaging.agent.console import standard_console
from imaging.agent.disks import file_disk
from imaging.agent.firmware import mount_efivars, parse_efibootmgr, run_tool
from imaging.agent.progress import Progress
from imaging.agent.server import Server
from imaging.disk.loop import loop_device
from imaging.manifest import Manifest
from imaging.options import DeployOptions
from imaging.placement import plan
from imaging.resize import grow, mapper, minimum_size, renew, shrink, why_not_shrink
from tests.imaging.resize.samples import MAKERS, MIB, MOUNT, check, fill, tree

MOUNT["f2fs"] = "f2fs"


def file_systems() -> None:
    """Each kind that this kernel mounts, made and changed by this environment's tools, in memory."""
    for kind in ("ext4", "xfs", "btrfs", "ntfs", "f2fs"):
        path = Path("/run/part")
        with open(path, "wb") as file:
            file.truncate(400 * MIB)
        MAKERS[kind](path)
        fd = os.open(path, os.O_RDWR)
        try:
            with loop_device(fd, size=400 * MIB, write=True) as device:
                fill(device, kind, 8)
                before = tree(device, kind)
            os.truncate(path, 600 * MIB)
            with loop_device(fd, size=600 * MIB, write=True) as device:
                grow(device, kind)
                new = renew(device, kind)
                if not why_not_shrink(kind):
                    least = minimum_size(device, kind)
                    shrink(device, kind, max(least + 8 * MIB, 300 * MIB))
                check(device, kind)
                assert tree(device, kind) == before, kind
                assert before, kind
        finally:
            os.close(fd)
        path.unlink()
        print(f"scenario: {kind} grown, renamed ({new.get('uuid', 'no tool')}), checked", flush=True)


def deployed_disk(size: int) -> None:
    """What lies behind the new end of /dev/vda's second partition is on /dev/vdb; make it fit."""
    manifest = Manifest.from_bytes(Path("/scenario/manifest").read_bytes())
    placement = plan(manifest.disks[0], size, DeployOptions(shrink=True), spill_limit=1 << 40)
    esp = placement.partitions[0]
    mount_efivars()
    make = ("efibootmgr", "--create", "--disk", "/dev/vda", "--part", "1")
    for label, loader in (("debian", "\\EFI\\debian\\shimx64.efi"), ("other", "\\EFI\\other\\x.efi")):
        run_tool(*make, "--label", label, "--loader", loader)
    stale = parse_efibootmgr(run_tool("efibootmgr", "-v"))
    print(f"scenario: before {[tuple(entry) for entry in stale.entries]}", flush=True)
    assert sum(esp.unique_guid in entry.path.lower() for entry in stale.entries) == 2
    assert mapper.available()
    console = standard_console(None, os.open("/dev/null", os.O_RDONLY), 1)
    progress = Progress("1", Server("http://127.0.0.1:9", patience=0), console)
    spill = os.open("/dev/vdb", os.O_RDWR)
    task = {"deploy": {"shrink": True, "identities": "renew"}}
    for _ in range(2):  # the second one finds everything done
        afterwards(task, manifest, placement, file_disk("/dev/vda"), console, progress, spill=spill)
        now = parse_efibootmgr(run_tool("efibootmgr", "-v"))
        print(f"scenario: after {now}", flush=True)
        ours = [entry for entry in now.entries if entry.name == "debian"]
        assert len(ours) == 1, ours
        assert esp.unique_guid not in ours[0].path.lower()
        assert now.order[0] == ours[0].id, now.order  # no network card in here
        assert any(entry.name == "other" for entry in now.entries)
        task, placement = {}, plan(manifest.disks[0], manifest.disks[0].size, DeployOptions())
        manifest_size = manifest.disks[0].size
        assert manifest_size >= size
    os.close(spill)


def main() -> None:
    for name in ("loop", "xfs", "btrfs", "f2fs", "ext4", "efivarfs"):
        subprocess.run(["modprobe", name], check=False)
    file_systems()
    deployed_disk(int(Path("/scenario/size").read_text()))


try:
    main()
except BaseException:
    traceback.print_exc(file=sys.stdout)
    print("SCENARIO FAILED", flush=True)
else:
    print("SCENARIO OK", flush=True)
