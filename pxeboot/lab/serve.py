"""A virtual room that stays: the daemon, pages on 127.0.0.1, simulated hosts that boot for their tasks."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from pathlib import Path

from rich.console import Console

from pxeboot.bootenv.build import build as build_bootenv
from pxeboot.errors import AppError
from pxeboot.lab import disks, guest
from pxeboot.lab.classroom import Classroom, Seat
from pxeboot.lab.errors import LabError
from pxeboot.lab.server import Forwarder


def run(var: Path, *, port: int, simulated: int) -> int:
    """Keep the room until Ctrl-C; 0 when it ended in order."""
    console = Console(highlight=False, soft_wrap=True)
    if os.geteuid() != 0:
        console.print("The virtual room needs root (network namespaces, loop devices): sudo make serve")
        return 1
    directory = var / "serve"
    shutil.rmtree(directory, ignore_errors=True)
    try:
        build_bootenv(var / "boot", var / "cache", progress=console.print)
        reference = guest.build(var / "cache", progress=console.print)
        settings = {"multicast": {"rate_mbit": 400.0, "gather_seconds": 5.0}}
        with Classroom(directory, var / "boot", settings=settings, say=console.print) as classroom:
            _populate(classroom, reference, simulated)
            target = (classroom.room.server_address, classroom.server.port)
            with Forwarder(classroom.room.server, target, port) as door:
                password = classroom.server.password()
                console.print(f"\nPages: {door.url}   user: admin   password: {password}")
                console.print(f"API:   PXEBOOT_URL={door.url} PXEBOOT_TOKEN={classroom.server.token()}")
                console.print(
                    f"{classroom.seats[0].host} has a Debian on its disk: capture it, then deploy it to the "
                    "group B204. Simulated hosts switch themselves on for a task. Ctrl-C ends it all."
                )
                _keep(classroom)
    except KeyboardInterrupt:
        return 0
    except (LabError, AppError) as error:
        console.print(f"The room could not be kept: {error}", markup=False, soft_wrap=True)
        return 1
    return 0


def _populate(classroom: Classroom, reference: guest.Guest, simulated: int) -> None:
    """One simulated host with a system to capture, and others to deploy it to, registered and approved."""
    classroom.call("POST", "/groups", {"name": "B204", "name_template": "B204-##"})
    first = classroom.simulated_seat("sim0", reference.size)
    disks.clone(reference.path, first.disk)
    others = [classroom.simulated_seat(f"sim{number}", reference.size) for number in range(1, simulated + 1)]
    for seat in (first, *others):
        classroom.register(seat)
    classroom.approve([first])
    if others:
        classroom.approve(others, "B204")


def _keep(classroom: Classroom) -> None:
    """Switch on whoever has a task, until somebody says stop."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    while not stop.wait(2.0):
        for seat in classroom.seats:
            _switch_on(classroom, seat)


def _switch_on(classroom: Classroom, seat: Seat) -> None:
    task = classroom.get(f"/hosts/{seat.host}")["task"]
    if task is not None and task["state"] == "queued" and not seat.sim().busy:
        seat.power_on()
