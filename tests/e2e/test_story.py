"""The main job on real firmware: what `make demo` tells, checked, with a machine killed in the middle."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pxeboot.lab import guest
from pxeboot.lab.classroom import Classroom
from pxeboot.lab.demo import DEPLOY_LIMIT, Story
from tests.e2e.test_light_room import read_file, receiving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]


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
    """One machine loses its power on the way: it resumes where it was, and nobody else notices."""
    room, victim = story.classroom, story.targets[0]

    def power_cut(identifier: str) -> None:
        room.follow(identifier, DEPLOY_LIMIT, until=receiving(victim.host, 0.2))
        victim.qemu().kill()
        assert room.tasks(identifier)[victim.host]["state"] == "running"
        victim.power_on()

    done = story.deploy(power_cut)
    assert done["state"] == "done"
    for task in done["tasks"]:
        assert task["verified"]
        if task["host"] == victim.host:
            assert task["attempt"] == 2
            assert task["result"]["chunks"]["kept"] > 0, "what was on its disk was kept"
        else:
            assert task["attempt"] == 1
            assert task["bytes_multicast"] > 0, "it came by multicast"
    for seat in story.all_targets:
        assert seat.booted_own_disk
        assert read_file(seat.disk, "/etc/hostname").strip() == seat.host
