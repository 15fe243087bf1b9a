"""The power of a machine is cut in mid-write, and again when it has said that it is done.

An emulated machine with the real boot environment, on a disk that forgets half of what its guest's kernel did
not flush (tests/forgetful). The same at many more moments, without a machine, is in
tests/imaging/agent/test_power_cut.py.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imaging.deploy import verify
from imaging.manifest import Manifest
from imaging.store import ChunkStore
from pxeboot.lab.classroom import AGENT_LIMIT, Classroom
from pxeboot.lab.machine import MachineSpec, QemuMachine
from tests.e2e.test_light_room import SETTINGS, STAGE_LIMIT, receiving
from tests.forgetful import ForgetfulDisk
from tests.imaging.disks import MIB, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2400)]

SIZE, FILES = 256 * MIB, 120
VICTIM = "victim"


@pytest.fixture
def classroom(var: Path, boot_files: Path) -> Iterator[Classroom]:
    directory = var / "power-cut"
    shutil.rmtree(directory, ignore_errors=True)
    # So slow that there is a middle of the deploy.
    settings = {**SETTINGS, "multicast": {"rate_mbit": 60.0, "gather_seconds": 3.0}}
    settings["tasks"] = {"boot_seconds": 300}
    with Classroom(directory, boot_files, settings=settings, say=print) as classroom:
        yield classroom
    shutil.rmtree(directory, ignore_errors=True)


def make_source(path: Path, scratch: Path) -> None:
    """A disk with one ext4 full of noise, and no system that could be given a name: it must stay as it is."""
    dice = random.Random(3)
    tree = scratch / "tree"
    tree.mkdir()
    for number in range(FILES):
        (tree / f"file{number}").write_bytes(dice.randbytes(MIB))
    with open(path, "wb") as file:
        file.truncate(SIZE)
    run("sgdisk", "-n1:2048:+240M", path)
    run("mkfs.ext4", "-q", "-F", "-E", f"offset={MIB}", "-d", tree, path, "240M")


def test_a_machine_loses_its_power_in_mid_write_and_when_it_is_done(
    classroom: Classroom, tmp_path: Path
) -> None:
    source = classroom.simulated_seat("source", SIZE)
    make_source(source.disk, tmp_path)
    classroom.register(source)
    classroom.approve([source])
    captured = classroom.start("capture", hosts=[source.host], image="noise")
    source.power_on()
    assert classroom.follow(captured, STAGE_LIMIT)["state"] == "done"

    medium = tmp_path / "medium"
    medium.write_bytes(random.Random(4).randbytes(MIB) * (SIZE // MIB))
    with ForgetfulDisk(medium) as disk:
        spec = MachineSpec(VICTIM, firmware="bios", disk=disk.path, disk_cache="writeback", memory=1280)
        machine = QemuMachine(classroom.room, spec)
        classroom.call("POST", "/hosts", {"name": VICTIM, "macs": [spec.mac]})
        deployed = classroom.start("deploy", hosts=[VICTIM], image="noise@1")
        disk.power_on()
        machine.power_on()
        classroom.follow(deployed, AGENT_LIMIT, until=receiving(VICTIM, 0.5))
        while not disk.at_stake:  # the kernel writes when it likes to
            time.sleep(0.01)
        machine.kill()
        forgotten = disk.cut()
        assert forgotten > 0
        print(f"  the disk forgot {forgotten} blocks of 4 KiB")

        disk.power_on()
        machine.console.skip()
        machine.power_on()
        machine.console.expect(r"agent: then=", AGENT_LIMIT)
        machine.kill()
        assert disk.cut() == 0, "done was said before all was on the medium"
    done = classroom.follow(deployed, 120)
    assert done["state"] == "done", done
    task = done["tasks"][0]
    assert (task["attempt"], task["verified"]) == (2, True)
    assert task["result"]["chunks"]["kept"] > 10, "it went on where it was"
    with ChunkStore(classroom.server.data_dir / "store", readonly=True) as store:
        manifest = Manifest.from_bytes(store.manifest(task["result"]["manifest"])[0])
    assert verify(medium, manifest).ok
