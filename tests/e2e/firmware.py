"""What the firmware matrix is made of: a network, machines that boot in it, and a reader of what they said.

A network is a room with our daemon and, for proxy mode, somebody else's DHCP server. Its machines are booted
two at a time; each leaves an Outcome: its console, every message on the wire, and our journal of it.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pxeboot.lab import disks
from pxeboot.lab.dialogue import Dialogue, Said
from pxeboot.lab.errors import LabError
from pxeboot.lab.foreign import ForeignDhcp, Product
from pxeboot.lab.machine import Card, Firmware, MachineSpec, NetworkBoot, QemuMachine
from pxeboot.lab.room import Room
from pxeboot.lab.server import Server, Value

AT_ONCE = 2
MENU_LIMIT = 600.0  # seconds from power-on; 6 to 15 on an idle machine
AGENT_LIMIT = 600.0
JOURNAL_LIMIT = 60.0
US = "10.77.0.1"
THEM = "10.77.0.3"
MENU = r"is not registered"


@dataclass(frozen=True)
class Cell:
    """One machine of the matrix. ``registers``: it goes on from our menu into the boot environment.
    ``chain``: what is typed at the iPXE prompt of its card, to start another loader from there."""

    name: str
    firmware: Firmware
    card: Card = "virtio"
    network_boot: NetworkBoot = "pxe"
    registers: bool = False
    chain: str = ""


@dataclass
class Outcome:
    """How a machine's boot went."""

    mac: str
    console: str
    heard: list[Said]
    text: str
    """What was heard, a line each."""
    journal: list[dict[str, Any]]
    """Our journal of this machine, oldest first."""
    host: str = ""
    """The name it was registered under."""
    seconds: dict[str, float] = field(default_factory=dict)

    def talk(self) -> Talk:
        """Read what was said, from the beginning."""
        return Talk(self)

    def says(self, plane: str, *words: str) -> dict[str, Any]:
        """The first line of our journal with these words. Fails the test when there is none."""
        for line in self.journal:
            if line["plane"] == plane and all(word in line["sentence"] for word in words):
                return line
        raise AssertionError(f"no line of {plane} with {words} in the journal:\n{journal_text(self.journal)}")


class Talk:
    """Reads an Outcome in order: each ``next`` must be found after the one before it."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome, self._at = outcome, 0

    def next(self, what: str, *, name: str | None = None, port: int = 0, by: str = "", **detail: str) -> Said:
        """The next message of this kind (``dhcp OFFER``, ``tftp RRQ``, ``http GET``).

        ``name``: a regular expression that fits the whole boot file, file or path; ``port``: where it is
        sent;
        ``by``: the sender's address; more words: the beginning of a detail (see ``Said``), _60 for option 60.
        """
        wanted = {key.lstrip("_"): value for key, value in detail.items()}
        for index in range(self._at, len(self._outcome.heard)):
            said = self._outcome.heard[index]
            if (
                f"{said.kind} {said.what}" == what
                and (name is None or re.fullmatch(name, said.name))
                and port in (0, said.target[1])
                and by in ("", said.source[0])
                and all(said.detail.get(key, "").startswith(value) for key, value in wanted.items())
            ):
                self._at = index + 1
                return said
        asked = {"name": name, "port": port, "by": by, **wanted}
        raise AssertionError(f"no {what} {asked} after message {self._at} of:\n{self._outcome.text}")

    @staticmethod
    def fits(pattern: str, name: str) -> bool:
        """Whether a name is what the regular expression says, from end to end."""
        return re.fullmatch(pattern, name) is not None

    def never(self, what: str, *, by: str = "", port: int = 0) -> None:
        """No such message in the whole boot."""
        for said in self._outcome.heard:
            if (
                f"{said.kind} {said.what}" == what
                and by in ("", said.source[0])
                and port in (0, said.target[1])
            ):
                raise AssertionError(f"{said} was not expected in:\n{self._outcome.text}")


class Network:
    """A room whose machines are booted two at a time, beginning at once; ``outcome(name)`` waits for one."""

    def __init__(self, room: Room, server: Server, foreign: ForeignDhcp | None) -> None:
        self.room, self.server, self.foreign = room, server, foreign
        self.wire = Dialogue(room.switch, pcap=room.directory / "wire.pcap")
        room.on_close(self.wire.close)
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._booting: dict[str, Future[Outcome]] = {}

    def boot(self, cells: list[Cell]) -> None:
        """Let these machines boot in the background, in this order."""
        for cell in cells:
            self._booting[cell.name] = self._pool.submit(self._boot, cell)

    def outcome(self, name: str) -> Outcome:
        """How a machine's boot went; LabError with console, wire and journal when it did not arrive."""
        return self._booting[name].result()

    def close(self) -> None:
        """Do not begin with more machines, and let those that run come to their end."""
        self._pool.shutdown(cancel_futures=True)

    def journal(self, mac: str) -> list[dict[str, Any]]:
        """What our daemon says of a machine, oldest first."""
        answer = self.server.client(admin=True).get(f"/api/v1/events?mac={mac}&limit=200")
        items: list[dict[str, Any]] = answer.json()["items"]
        return items[::-1]

    def host(self, name: str) -> dict[str, Any]:
        """A host, by the API."""
        found: dict[str, Any] = self.server.client(admin=True).get(f"/api/v1/hosts/{name}").json()
        return found

    def _boot(self, cell: Cell) -> Outcome:
        disk = self.room.directory / f"{cell.name}.raw"
        disks.create(disk, 64 << 20)
        spec = MachineSpec(
            cell.name,
            firmware=cell.firmware,
            card=cell.card,
            network_boot=cell.network_boot,
            disk=disk,
            memory=1280 if cell.registers else 512,
        )
        machine, started = QemuMachine(self.room, spec), time.monotonic()
        seconds: dict[str, float] = {}
        try:
            machine.power_on()
            host = self._drive(machine, cell, lambda what: seconds.update({what: time.monotonic() - started}))
            # The decision is the last we write of a boot to the menu; the journal is written in batches.
            self._wait_for_decision(spec.mac)
        except LabError as error:
            parts = (str(error), "heard:", self.wire.text(spec.mac), "journal:", self._journal_text(spec.mac))
            raise LabError("\n".join(parts)) from None
        finally:
            machine.power_off()
        self.wire.catch_up()
        heard = self.wire.of(spec.mac)
        text = self.wire.text(spec.mac)
        (self.room.directory / f"{cell.name}.dialogue.txt").write_text(text + "\n")
        return Outcome(spec.mac, machine.console.text, heard, text, self.journal(spec.mac), host, seconds)

    def _drive(self, machine: QemuMachine, cell: Cell, took: Callable[[str], None]) -> str:
        """What a person does at the console; the name under which the machine was registered, or ""."""
        console = machine.console
        if cell.chain:
            # The ROM offers its prompt when the machine boots from the card; a key too early is lost.
            console.expect(r"Press Ctrl-B for the iPXE command line", MENU_LIMIT)
            console.send("\x02")
            for line in cell.chain.splitlines():
                console.answer(r"iPXE>", line, 120)
        console.expect(MENU, MENU_LIMIT)
        took("menu")
        if not cell.registers:
            return ""
        time.sleep(1.0)  # a person reads the menu first; the loader is still drawing it
        console.send("r")
        console.expect(r"pxeboot agent \S+", AGENT_LIMIT)
        took("agent")
        name = console.expect(r"agent: registered name=(\S+) state=pending", AGENT_LIMIT).group(1)
        took("registered")
        return name

    def _wait_for_decision(self, mac: str) -> None:
        deadline = time.monotonic() + JOURNAL_LIMIT
        while not any(line["kind"] == "boot.decided" for line in self.journal(mac)):
            if time.monotonic() > deadline:
                raise LabError(f"our journal has no decision about {mac} after {JOURNAL_LIMIT:.0f} s")
            time.sleep(0.1)

    def _journal_text(self, mac: str) -> str:
        try:
            return journal_text(self.journal(mac))
        except (OSError, KeyError) as error:
            return f"(cannot be read: {error})\n{self.server.log_tail()}"


def journal_text(lines: list[dict[str, Any]]) -> str:
    """A journal as lines of text."""
    return "\n".join(f"{line['at']} {line['plane']} {line['kind']}: {line['sentence']}" for line in lines)


@contextmanager
def network(
    directory: Path,
    boot_files: Path,
    cells: list[Cell],
    *,
    beside: Product | None = None,
    here: bool = False,
    ping: bool = True,
    fragment: str = "",
    dhcp: dict[str, Value] | None = None,
) -> Iterator[Network]:
    """A network with our daemon (``dhcp``: its settings there), a foreign DHCP server (``beside``,
    ``here``, ``ping``, ``fragment``: see ForeignDhcp), and these machines, booting."""
    shutil.rmtree(directory, ignore_errors=True)
    with ExitStack() as stack:
        room = stack.enter_context(Room(directory))
        settings: dict[str, dict[str, Value]] = {
            "boot": {"menu_seconds": 300},
            "registration": {"then": "poweroff"},
        }
        if dhcp:
            settings["dhcp"] = dhcp
        server = Server(room, boot_files, settings)
        foreign = None
        if beside is not None:
            if settings.get("dhcp", {}).get("mode") == "off" and not fragment:
                # It has what we tell its administrator to put into it.
                server.start()
                fragment = server.command("dhcp", "snippet", beside).decode()
            foreign = ForeignDhcp(room, beside, here=here, ping=ping, fragment=fragment)
            foreign.start()
        if not server.running:
            server.start()
        made = Network(room, server, foreign)
        stack.callback(made.close)
        made.boot(cells)
        yield made
    for disk in directory.glob("*.raw"):
        disk.unlink()
