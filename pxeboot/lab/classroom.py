"""A whole class in the virtual room: what technicians, administrators and machines do, step by step.

The demonstration and the end-to-end tests are both made of these steps. Everything goes the ways that a real
site has: consoles, DHCP, TFTP, HTTP, multicast and the REST API.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

from pxeboot.lab import disks, guest
from pxeboot.lab.errors import LabError
from pxeboot.lab.machine import Firmware, MachineSpec, QemuMachine
from pxeboot.lab.netns import HttpClient
from pxeboot.lab.room import Room
from pxeboot.lab.server import Server, Value
from pxeboot.lab.simhost import SimulatedHost

# Four emulated machines at once on two cores: a minute to the agent and half a minute to the own disk when
# nobody else works there, 310 and 223 s seen with a load of 18.
MENU_LIMIT = AGENT_LIMIT = GUEST_LIMIT = 900.0
OFF_LIMIT = 300.0

SETTINGS: dict[str, dict[str, Value]] = {
    # Emulated machines are some twenty times slower than real ones: time limits and rate follow.
    "boot": {"menu_seconds": 120, "token_seconds": 1200},
    "registration": {"name_template": "B204-##", "then": "poweroff"},
    "tasks": {"boot_seconds": 1200},
    "multicast": {"rate_mbit": 48.0, "gather_seconds": 120.0},
}


@dataclass
class Seat:
    """A place of the class: one machine, what it is called, and what became of it."""

    label: str
    firmware: Firmware
    disk: Path
    machine: QemuMachine | None = None
    simulated: SimulatedHost | None = None
    host: str = ""  # name after registration
    registered: bool = False
    booted_own_disk: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """`qemu` or `simulated`."""
        return "qemu" if self.machine else "simulated"

    def qemu(self) -> QemuMachine:
        """The machine. LabError for a simulated host."""
        if self.machine is None:
            raise LabError(f"{self.label} is a simulated host")
        return self.machine

    def sim(self) -> SimulatedHost:
        """The simulated host. LabError for a machine."""
        if self.simulated is None:
            raise LabError(f"{self.label} is a machine")
        return self.simulated

    def power_on(self) -> None:
        """Press the button."""
        (self.machine or self.sim()).power_on()

    def took(self, stage: str, since: float) -> None:
        """Note how long a stage of this seat took (monotonic start)."""
        self.seconds[stage] = round(time.monotonic() - since, 1)


class ApiProblem(LabError):
    """The REST API refused: the problem document is in `problem`."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(f"{status} {problem.get('code')}: {problem.get('detail')}")
        self.status, self.problem = status, problem


class Classroom:
    """The room, the daemon and its seats. Use as a context manager; leaving removes everything.

    `say` is told in a sentence what happens. `directory` keeps disks and logs. Raises LabError.
    """

    def __init__(
        self,
        directory: Path,
        boot_files: Path,
        *,
        settings: Mapping[str, Mapping[str, Value]] | None = None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.directory, self.say = directory, say
        directory.mkdir(parents=True, exist_ok=True)
        self.room = Room(directory)
        self._boot_files = boot_files
        tables = {name: dict(table) for name, table in SETTINGS.items()}
        for name, table in (settings or {}).items():
            tables.setdefault(name, {}).update(table)
        self._settings = tables
        self.seats: list[Seat] = []
        self.technician = ""

    def __enter__(self) -> Classroom:
        self.room.open()
        try:
            self.server = Server(self.room, self._boot_files, self._settings)
            self.technician = self.room.port("technician", address=str(self.room.subnet[2]))
            self.server.start()
        except BaseException:
            self.room.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.room.close()

    # --- seats ---------------------------------------------------------------------------------------------

    def seat(self, label: str, firmware: Firmware, disk: Path, *, memory: int = 1280) -> Seat:
        """Put a QEMU machine into the room, switched off."""
        machine = QemuMachine(self.room, MachineSpec(label, firmware=firmware, disk=disk, memory=memory))
        seat = Seat(label, firmware, disk, machine=machine)
        self.seats.append(seat)
        return seat

    def simulated_seat(self, label: str, size: int) -> Seat:
        """Put a simulated host with an empty disk file into the room, switched off."""
        disk = self.directory / f"{label}.raw"
        disks.create(disk, size)
        seat = Seat(label, "uefi", disk, simulated=SimulatedHost(self.room, label, disk))
        self.seats.append(seat)
        return seat

    def each(self, seats: Iterable[Seat], step: Callable[[Seat], None]) -> None:
        """Do a step at several seats at once; the first failure is raised when all have ended."""
        chosen = list(seats)
        with ThreadPoolExecutor(max_workers=max(1, len(chosen))) as pool:
            for future in [pool.submit(step, seat) for seat in chosen]:
                future.result()

    # --- what a technician does at the consoles ------------------------------------------------------------

    def register(self, seat: Seat, *, answers: Mapping[str, str] | None = None) -> None:
        """Boot an unknown machine from the network and register it at its console.

        Without `answers` quickly; with them in full: `name` and `group` are typed as a technician would.
        """
        if seat.simulated is not None:
            self._register_simulated(seat)
            return
        machine, started = seat.qemu(), time.monotonic()
        console = machine.console
        console.skip()
        machine.power_on()
        console.expect(r"is not registered", MENU_LIMIT)
        seat.took("power-on to menu", started)
        time.sleep(1.0)  # a person reads the menu first; GRUB is still drawing it
        console.send("q" if answers else "r")
        console.expect(r"pxeboot agent \S+", AGENT_LIMIT)
        seat.took("power-on to agent", started)
        if answers:
            console.answer(r"Registration: name \[[^\]]*\]:", answers.get("name", ""), AGENT_LIMIT)
            if "group" in answers:
                choice = console.expect(rf"(\d+)\) {answers['group']}\b", AGENT_LIMIT)
                console.send(choice.group(1) + "\r")
        done = console.expect(r"agent: registered name=(\S+) state=(\S+)", AGENT_LIMIT)
        seat.host, seat.registered = done.group(1), True
        machine.wait_off(OFF_LIMIT)
        seat.took("registration", started)

    def _register_simulated(self, seat: Seat) -> None:
        simulated, started = seat.sim(), time.monotonic()
        simulated.register = True
        simulated.power_on()
        simulated.wait_off(OFF_LIMIT)
        simulated.register = False
        found = self.get(f"/hosts/{simulated.mac}")
        seat.host, seat.registered = found["name"], True
        seat.took("registration", started)

    # --- what administrators and scripts do ----------------------------------------------------------------

    def client(self, timeout: float = 30.0) -> HttpClient:
        """An HTTP client on the technician's desk, without credentials."""
        return HttpClient(self.technician, self.room.server_address, self.server.port, timeout=timeout)

    def call(self, method: str, path: str, body: Any = None, *, key: str = "") -> Any:
        """One call of the REST API as the administrator. ApiProblem when it is refused."""
        headers = {"Authorization": f"Bearer {self.server.token()}"}
        if key:
            headers["Idempotency-Key"] = key
        answer = self.client().request(method, f"/api/v1{path}", json_body=body, headers=headers)
        if answer.status >= 400:
            raise ApiProblem(answer.status, answer.json())
        return answer.json() if answer.body else None

    def get(self, path: str) -> Any:
        """GET."""
        return self.call("GET", path)

    def approve(self, seats: Iterable[Seat], group: str = "") -> None:
        """Approve hosts, and put them into a group."""
        names = [seat.host for seat in seats]
        results = self.call("POST", "/hosts:approve", {"hosts": names})["results"]
        refused = [result for result in results if not result["ok"]]
        if refused:
            raise LabError(f"not approved: {refused}")
        for name in names if group else []:
            self.call("PATCH", f"/hosts/{name}", {"group": group})

    def start(self, kind: str, *, key: str = "", **request: Any) -> str:
        """Start an operation; its identifier."""
        body = {"kind": kind, **request}
        return str(self.call("POST", "/operations", body, key=key or str(uuid.uuid4()))["id"])

    def operation(self, identifier: str) -> dict[str, Any]:
        """An operation with its tasks."""
        found: dict[str, Any] = self.get(f"/operations/{identifier}")
        return found

    def tasks(self, identifier: str) -> dict[str, dict[str, Any]]:
        """The tasks of an operation, by host name."""
        return {task["host"]: task for task in self.operation(identifier)["tasks"]}

    def follow(
        self, identifier: str, limit: float, until: Callable[[dict[str, Any]], bool] | None = None
    ) -> Any:
        """Wait until an operation is over (or `until` says so), telling its progress; the operation.

        LabError after `limit` seconds. A server that is being restarted is waited for.
        """
        deadline, told, last = time.monotonic() + limit, "", 0.0
        while True:
            try:
                found = self.operation(identifier)
            except (OSError, HTTPException):
                found = None
            if found is not None:
                line = ", ".join(f"{task['host']} {_words(task)}" for task in found["tasks"])
                now = time.monotonic()
                if line != told and (now - last > 5 or found["state"] != "running"):
                    self.say(f"  {line}")
                    told, last = line, now
                if found["state"] != "running" or (until is not None and until(found)):
                    return found
            if time.monotonic() > deadline:
                raise LabError(f"operation {identifier} was not over after {limit:.0f} s: {told}")
            time.sleep(0.5)

    # --- what the machines do afterwards -------------------------------------------------------------------

    def expect_guest(self, seat: Seat, started: float | None = None, limit: float = GUEST_LIMIT) -> None:
        """Wait until the machine has booted the system on its own disk under its own name.

        `started` (monotonic): since when; its agent said then what comes next.
        """
        started = time.monotonic() if started is None else started
        shown = seat.qemu().console.expect(guest.HELLO, limit)
        if shown.group(1) != seat.host:
            raise LabError(f"{seat.host} calls itself {shown.group(1)!r} after the deploy")
        secure = shown.group(3)
        if (seat.firmware == "uefi-secureboot") != (secure == "on"):
            raise LabError(f"{seat.host}: Secure Boot is {secure!r} in the installed system")
        seat.booted_own_disk = True
        seat.took("own disk", started)


def _words(task: Mapping[str, Any]) -> str:
    if task["state"] in ("running", "verifying") and task["stage"]:
        percent = f" {task['percent']} %" if task["percent"] is not None else ""
        return f"{task['stage']}{percent}"
    return str(task["state"])
