"""The demonstration: the main job from power-on to a verified disk, told as it goes, and a table."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pxeboot.bootenv.build import build as build_bootenv
from pxeboot.errors import AppError
from pxeboot.lab import disks, guest
from pxeboot.lab.classroom import OFF_LIMIT, Classroom, Seat
from pxeboot.lab.errors import LabError

GROUP, IMAGE = "B204", "debian"
CAPTURE_LIMIT, DEPLOY_LIMIT = 1200.0, 2400.0  # a few minutes on two cores of their own


class Story:
    """The demonstration's steps over a classroom; the end-to-end tests go on from where it ends."""

    def __init__(self, classroom: Classroom, reference: guest.Guest, simulated: int) -> None:
        self.classroom, self.guest = classroom, reference
        self.say = classroom.say
        directory = classroom.directory
        self.reference = classroom.seat("reference", "uefi-secureboot", directory / "reference.raw")
        disks.clone(reference.path, self.reference.disk)
        self.targets = [
            classroom.seat("bios", "bios", directory / "bios.raw"),
            classroom.seat("uefi", "uefi", directory / "uefi.raw"),
            classroom.seat("secure", "uefi-secureboot", directory / "secure.raw"),
        ]
        # An empty disk, one that somebody used before, and a larger one.
        disks.make_target(self.targets[0].disk, reference.size)
        disks.make_target(self.targets[1].disk, reference.size, foreign=True)
        disks.make_target(self.targets[2].disk, reference.size + (256 << 20))
        self.simulated = [
            classroom.simulated_seat(f"sim{number}", reference.size) for number in range(1, simulated + 1)
        ]
        self.deployed: dict[str, Any] = {}

    @property
    def all_targets(self) -> list[Seat]:
        """Everybody who gets the image."""
        return [*self.targets, *self.simulated]

    def register(self) -> None:
        """All machines power on, find us by DHCP and are registered at their consoles; then approved."""
        room = self.classroom
        room.call("POST", "/groups", {"name": GROUP, "name_template": f"{GROUP}-##"})
        self.say(
            "Power on: four machines look for a boot server; a technician registers each at its console."
        )
        # In full at one console, quickly at the others: both ways are shown. One after the other at first, so
        # that two cores are enough; names are given in order.
        room.each(self.simulated, room.register)

        def at_console(seat: Seat) -> None:
            answers = {"name": "", "group": GROUP} if seat.label == "uefi" else None
            room.register(seat, answers=answers)
            self.say(f"  {seat.label}: registered as {seat.host} ({seat.seconds['registration']:.0f} s)")

        room.each([self.reference, *self.targets], at_console)
        self.say("An administrator approves them through the API.")
        room.approve(self.all_targets, GROUP)
        room.approve([self.reference])

    def capture(self) -> dict[str, Any]:
        """The reference's disk becomes version 1 of the image."""
        room = self.classroom
        self.say(f"Capture: the disk of {self.reference.host} becomes {IMAGE}@1.")
        identifier = room.start("capture", hosts=[self.reference.host], image=IMAGE, then="poweroff")
        self.reference.power_on()
        done = room.follow(identifier, CAPTURE_LIMIT)
        _must_be_done(done)
        self.reference.seconds.update(done["tasks"][0]["seconds"])
        self.reference.qemu().wait_off(OFF_LIMIT)
        image: dict[str, Any] = room.get(f"/images/{IMAGE}")
        version = image["latest"]
        self.say(
            f"  {version['name']}: {version['used_bytes'] / 1e6:.0f} MB used, "
            f"{version['stored_bytes'] / 1e6:.0f} MB stored, {version['chunks']} chunks."
        )
        return image

    def deploy(self, meanwhile: Callable[[str], None] = lambda _operation: None) -> dict[str, Any]:
        """One call deploys it to the group by multicast; every machine verifies and boots its own disk.

        ``meanwhile`` is called with the operation when all are switched on.
        """
        room = self.classroom
        self.say(
            f"Deploy: one call sends {IMAGE}@1 to the {len(self.all_targets)} hosts of {GROUP} by multicast."
        )
        identifier = room.start("deploy", group=GROUP, image=f"{IMAGE}@1", transport="multicast")
        for seat in self.targets:
            seat.qemu().console.skip()
        for seat in self.all_targets:
            seat.power_on()
        meanwhile(identifier)
        self.deployed = room.follow(identifier, DEPLOY_LIMIT)
        _must_be_done(self.deployed)
        for seat in self.all_targets:
            seat.seconds.update(self.task(seat)["seconds"])
        self.say("Each machine restarts, is told to boot its own disk, and the system on it tells its name.")
        restarted = time.monotonic()
        room.each(self.targets, lambda seat: room.expect_guest(seat, restarted))
        for seat in self.targets:
            self.say(f"  {seat.label}: the installed system calls itself {seat.host}")
            seat.qemu().power_off()
        for seat in self.simulated:
            boots = seat.sim().wait_off(OFF_LIMIT)
            seat.booted_own_disk = boots[-1].kind == "local"
        return self.deployed

    def task(self, seat: Seat) -> dict[str, Any]:
        """The deploy task of a seat."""
        return next(task for task in self.deployed["tasks"] if task["host"] == seat.host)

    def outcome(self, image: dict[str, Any], seconds: float) -> dict[str, Any]:
        """What goes into demo.json."""
        rows = []
        for seat in [self.reference, *self.all_targets]:
            task = self.task(seat) if seat is not self.reference else {}
            rows.append(
                {
                    "name": seat.host,
                    "label": seat.label,
                    "kind": seat.kind,
                    "firmware": seat.firmware,
                    "role": "reference" if seat is self.reference else "target",
                    "registered": seat.registered,
                    "verified": bool(task.get("verified")),
                    "booted_own_disk": seat.booted_own_disk,
                    "bytes_multicast": task.get("bytes_multicast", 0),
                    "bytes_peers": task.get("bytes_peers", 0),
                    "bytes_http": task.get("bytes_http", 0),
                    "seconds": seat.seconds,
                }
            )
        latest = image["latest"]
        return {"hosts": rows, "image": latest, "seconds_total": round(seconds, 1)}


def _must_be_done(operation: dict[str, Any]) -> None:
    failed = [f"{task['host']}: {task['reason']}" for task in operation["tasks"] if task["state"] != "done"]
    if failed or operation["state"] != "done":
        raise LabError(f"{operation['title']}: {operation['state']}; " + "; ".join(failed))


def run(var: Path, out: Path, *, simulated: int = 3) -> int:
    """Run the demonstration; 0 when every step was seen to work. Writes the table to `out` as JSON."""
    console, started = Console(highlight=False), time.monotonic()
    if not console.is_terminal:
        console.width = 132  # a log is read later, on something wider than 80 columns

    def say(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:6.1f} s[/dim]  {line}", markup=True, soft_wrap=True)

    if os.geteuid() != 0:
        console.print("The virtual room needs root (network namespaces, loop devices): sudo make demo")
        return 1
    directory = var / "demo"
    shutil.rmtree(directory, ignore_errors=True)
    try:
        story_outcome = _tell(var, directory, simulated, say, started)
    except (LabError, AppError) as error:
        console.print(f"The demonstration stopped: {error}", markup=False, soft_wrap=True)
        console.print(f"Consoles and logs are in {directory}.", markup=False)
        return 1
    out.write_text(json.dumps(story_outcome, indent=2) + "\n", encoding="utf-8")
    console.print(table(story_outcome))
    targets = [row for row in story_outcome["hosts"] if row["role"] == "target"]
    good = all(row["registered"] and row["verified"] and row["booted_own_disk"] for row in targets)
    console.print(f"{story_outcome['seconds_total']:.0f} s in all; the same as JSON: {out}")
    if good:
        _remove_disks(directory)
    return 0 if good else 1


def _tell(
    var: Path, directory: Path, simulated: int, say: Callable[[str], None], started: float
) -> dict[str, Any]:
    say("Boot environment and reference system (built from Debian 13 packages when they are not there yet).")
    build_bootenv(var / "boot", var / "cache", progress=lambda line: say(f"  {line}"))
    reference = guest.build(var / "cache", progress=lambda line: say(f"  {line}"))
    with Classroom(directory, var / "boot", say=say) as classroom:
        say(f"The daemon runs in a namespace of its own at {classroom.room.server_address}.")
        story = Story(classroom, reference, simulated)
        story.register()
        image = story.capture()
        story.deploy()
        return story.outcome(image, time.monotonic() - started)


def _remove_disks(directory: Path) -> None:
    """Logs stay to be read; disks and chunks are only in the way."""
    for disk in directory.glob("*.raw"):
        disk.unlink()
    shutil.rmtree(directory / "server" / "store", ignore_errors=True)


TITLE = "What became of each host: MB by multicast, peers, HTTP; seconds until the agent, then per stage"
FIRMWARE = {"bios": "BIOS", "uefi": "UEFI", "uefi-secureboot": "UEFI, Secure Boot"}
STAGES = ("power-on to agent", "scan", "upload", "receive", "verify", "own disk")


def table(outcome: dict[str, Any]) -> Table:
    """The table per host; under the stages' names are seconds."""
    made = Table(title=TITLE, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("host", "kind", "firmware"):
        made.add_column(heading, no_wrap=True)
    for heading in ("multicast", "peers", "HTTP", "agent", *STAGES[1:]):
        made.add_column(heading, justify="right", no_wrap=True)
    for heading in ("verified", "boots it"):
        made.add_column(heading, no_wrap=True)
    for row in outcome["hosts"]:
        reference = row["role"] == "reference"
        made.add_row(
            row["name"],
            "captured" if reference else row["kind"],
            FIRMWARE[row["firmware"]],
            "" if reference else f"{row['bytes_multicast'] / 1e6:.1f}",
            "" if reference else f"{row['bytes_peers'] / 1e6:.1f}",
            "" if reference else f"{row['bytes_http'] / 1e6:.1f}",
            *(f"{row['seconds'][stage]:.0f}" if stage in row["seconds"] else "" for stage in STAGES),
            "" if reference else _yes(row["verified"]),
            "" if reference else _yes(row["booted_own_disk"]),
        )
    return made


def _yes(value: bool) -> str:
    return "yes" if value else "NO"
