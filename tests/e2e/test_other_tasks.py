"""Two machines from power-on: an NVMe disk is wiped by its own format, and somebody signs in by SSH.

Both boot at once. The ssh client is OpenSSH's, on the technician's desk in the room's network; it believes
only the host key that the server tells.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pxeboot.lab import netns
from pxeboot.lab.classroom import Classroom
from pxeboot.lab.machine import MachineSpec, QemuMachine

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2400)]

SIZE = 64 << 20
LIMIT = 600.0


@pytest.fixture
def room(var: Path, boot_files: Path) -> Iterator[Classroom]:
    directory = var / "other-tasks"
    shutil.rmtree(directory, ignore_errors=True)
    with Classroom(directory, boot_files, settings={"tasks": {"then": "poweroff"}}, say=print) as classroom:
        yield classroom
    for disk in directory.glob("*.raw"):
        disk.unlink()


def machine(room: Classroom, name: str) -> QemuMachine:
    disk = room.directory / f"{name}.raw"
    disk.write_bytes(random.Random(4).randbytes(1 << 20) * (SIZE >> 20))
    spec = MachineSpec(name, firmware="bios", disk=disk, disk_bus="nvme", memory=768)
    made = QemuMachine(room.room, spec)
    room.call("POST", "/hosts", {"name": name, "macs": [spec.mac], "state": "approved"})
    return made


def test_an_nvme_disk_is_wiped_by_its_own_format_and_ssh_reaches_a_debug_shell(
    room: Classroom, tmp_path: Path
) -> None:
    doomed, broken = machine(room, "doomed"), machine(room, "broken")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    public = key.with_suffix(".pub").read_text().strip()
    wipe = room.start("wipe", hosts=["doomed"], confirm="doomed", wipe={"method": "auto", "countdown": 2})
    shell = room.start("shell", hosts=["broken"], shell={"keys": [public], "minutes": 40})
    doomed.power_on()
    broken.power_on()

    where = opened(room, shell)
    shown = broken.console.expect(r"agent: shell address=(\S+) port=22 key=(SHA256:\S+)\s", 120)
    assert (shown.group(1), shown.group(2)) == (where["address"], where["fingerprint"])
    without_key = ssh_fails(room, where, "-o", "PubkeyAuthentication=no", "-o", "BatchMode=yes")
    assert "Permission denied (publickey)" in without_key
    said = ssh(room, key, where, "id -u; nvme id-ctrl -o json /dev/nvme0; finish")
    assert said.startswith("0\n")
    assert json.loads(said[2:])["mn"].startswith("QEMU NVMe")

    done = room.follow(wipe, LIMIT)
    record = done["tasks"][0]["result"]["wipe"][0]
    assert done["state"] == "done", done["tasks"][0]["reason"]
    assert (record["method"], record["verified"], record["size"]) == ("nvme-format", True, SIZE)
    assert record["proof"]["before"] > 1000
    assert not any((room.directory / "doomed.raw").read_bytes())
    text = room.server.command("task", "certificate", done["tasks"][0]["id"]).decode()
    assert "all disks wiped and verified" in text
    assert record["serial"] in text
    ended = room.follow(shell, 120)
    assert ended["state"] == "done"
    logins = ended["tasks"][0]["result"]["shell_logins"]
    assert logins[0]["address"] == str(room.room.subnet[2])
    for each in (doomed, broken):
        each.wait_off(180)
    assert any((room.directory / "broken.raw").read_bytes()), "nothing was asked of this disk"


def opened(room: Classroom, operation: str) -> dict[str, Any]:
    """Where the debug shell is, once it is open."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        task = room.operation(operation)["tasks"][0]
        assert task["state"] in ("queued", "booting", "running"), task["reason"]
        if where := task["result"].get("shell"):
            return dict(where)
        time.sleep(0.5)
    raise AssertionError("no debug shell")


def ssh_command(where: dict[str, Any], known: Path, *more: str) -> list[str]:
    known.write_text(f"{where['address']} {where['host_key']}\n")
    return [
        "ssh", "-F", "none", "-o", f"UserKnownHostsFile={known}", "-o", "GlobalKnownHostsFile=/dev/null",
        "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=90", *more, f"root@{where['address']}",
    ]  # fmt: skip


def on_the_desk(room: Classroom, argv: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a program in the namespace of the technician's desk."""
    path = netns.path_of(room.technician)
    return subprocess.run(
        ["nsenter", f"--net={path}", *argv], capture_output=True, text=True, timeout=300, check=False,
        stdin=subprocess.DEVNULL, env={**os.environ, "SSH_AUTH_SOCK": ""},
    )  # fmt: skip


def ssh(room: Classroom, key: Path, where: dict[str, Any], command: str) -> str:
    argv = ssh_command(where, key.parent / "known", "-i", str(key), "-o", "IdentitiesOnly=yes")
    done = on_the_desk(room, [*argv, command])
    assert done.returncode == 0, done.stderr
    return done.stdout


def ssh_fails(room: Classroom, where: dict[str, Any], *more: str) -> str:
    done = on_the_desk(room, [*ssh_command(where, room.directory / "known", *more), "true"])
    assert done.returncode == 255
    return done.stderr
