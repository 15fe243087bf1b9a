"""The main job on real firmware: what `make demo` tells, checked, and a machine killed in the middle."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pxeboot.lab import guest
from pxeboot.lab.classroom import Classroom
from pxeboot.lab.demo import Story
from tests.e2e.test_light_room import STAGE_LIMIT, blank, read_file, receiving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def story(var: Path, boot_files: Path, reference: guest.Guest) -> Iterator[Story]:
    directory = var / "story"
    shutil.rmtree(directory, ignore_errors=True)
    with Classroom(directory, boot_files, say=print) as classroom:
        yield Story(classroom, reference, simulated=3)
    shutil.rmtree(directory / "server" / "store", ignore_errors=True)
    for disk in directory.glob("*.raw"):
        disk.unlink()


def test_machines_of_each_firmware_are_registered_at_their_consoles(story: Story) -> None:
    story.register()
    found = {host["name"]: host for host in story.classroom.get("/hosts")["items"]}
    assert len(found) == 7
    for seat in [story.reference, *story.targets]:
        host = found[seat.host]
        assert host["state"] == "approved"
        assert host["firmware"] == ("bios" if seat.firmware == "bios" else "uefi")
        assert bool(host["secure_boot"]) == (seat.firmware == "uefi-secureboot")
        assert seat.qemu().spec.mac in host["macs"]
        assert host["serial"] == seat.qemu().spec.serial


def test_the_reference_is_captured(story: Story) -> None:
    image = story.capture()
    assert image["latest"]["name"] == "debian@1"
    assert image["latest"]["used_bytes"] > 600_000_000


def test_everybody_gets_it_by_multicast_and_boots_it_under_a_new_name(story: Story) -> None:
    done = story.deploy()
    assert done["state"] == "done"
    for task in done["tasks"]:
        assert task["verified"]
        assert task["bytes_multicast"] > 0, "it came by multicast"
    for seat in story.all_targets:
        assert seat.booted_own_disk
        assert read_file(seat.disk, "/etc/hostname").strip() == seat.host


def test_a_machine_killed_in_mid_deploy_resumes(story: Story) -> None:
    room, victim, others = story.classroom, story.targets[0], story.simulated
    for seat in (victim, *others):
        blank(seat)
    identifier = room.start("deploy", hosts=[s.host for s in (victim, *others)], image="debian@1")
    victim.qemu().console.skip()
    for seat in (victim, *others):
        seat.power_on()
    room.follow(identifier, 400, until=receiving(victim.host, 0.3))
    victim.qemu().kill()

    def neighbours_done(operation: dict[str, Any]) -> bool:
        return all(t["state"] == "done" for t in operation["tasks"] if t["host"] != victim.host)

    room.follow(identifier, STAGE_LIMIT, until=neighbours_done)
    victim.power_on()
    done = room.follow(identifier, 600)
    assert done["state"] == "done", done
    tasks = {task["host"]: task for task in done["tasks"]}
    assert all(tasks[seat.host]["attempt"] == 1 for seat in others)
    assert tasks[victim.host]["attempt"] == 2
    assert tasks[victim.host]["result"]["chunks"]["kept"] > 0
    room.expect_guest(victim)
