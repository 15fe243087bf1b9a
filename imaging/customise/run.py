"""Everything that is done to a disk after the image, in its order: identities, drivers, files, scripts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from imaging.customise import linux, windows
from imaging.customise.order import Drop, Order, Script
from imaging.customise.scripts import run_script
from imaging.customise.steps import Steps
from imaging.customise.systems import System, find_systems, opened
from imaging.customise.tree import Tree, parts
from imaging.disk.device import Disk
from imaging.disk.inspect import read_layout
from imaging.disk.namespace import in_own_namespace
from imaging.errors import CustomiseError


class Source(Protocol):
    """Where files come from that do not travel with the order. Both raise CustomiseError."""

    def file(self, hash: str, size: int) -> Iterator[bytes]:
        """The bytes of a file drop, checked against its BLAKE3 hash by the end."""

    def driver(self, path: str, size: int) -> Iterator[bytes]:
        """The bytes of a driver file, checked by the end."""


#: A mounted system with its files.
Place = tuple[System, str, Tree]


class Customiser:
    """One order over the disks of one machine; ``steps`` has what was done, also after a failure.

    ``only``: touch no other partitions than these. ``check`` is called between and during steps and may
    raise to stop.
    """

    def __init__(
        self,
        order: Order,
        disks: Sequence[tuple[str, int]],
        *,
        only: frozenset[int] | None = None,
        source: Source | None = None,
        tell: Callable[[str], None] = lambda line: None,
        begin: Callable[[str], None] = lambda words: None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.order = order
        self.steps = Steps(tell, order.mask, begin)
        self.named: list[int] = []  # partitions whose system got the host name
        self.systems: list[System] = []
        self._disks, self._only, self._source = disks, only, source
        self._tell, self._check = tell, check

    # -- before the image

    def before(self) -> None:
        """The pre scripts, before anything is written to the disk. Raises CustomiseError."""
        self._alone(self.order.phase("pre"))

    # -- after the image

    def after(self) -> None:
        """Everything else. Raises CustomiseError naming the step, DiskBusy, DiskError, ToolMissing."""
        wanted = self._wanted()
        if wanted:
            in_own_namespace(lambda: self._in_systems(wanted))
        else:
            self._alone(self.order.phase("post"))

    def _alone(self, scripts: Sequence[Script]) -> None:
        """Scripts without a system; what they mount is seen by nobody else."""

        def run() -> None:
            for script in scripts:
                self._script(script, None)

        if scripts:
            in_own_namespace(run)

    def _wanted(self) -> set[str]:
        """What kinds of system, and which partitions, anything is to be done to."""
        order = self.order
        wanted = {drop.system for drop in order.files}
        wanted |= {script.system for script in order.phase("post") if script.system}
        if order.hostname or any(
            (order.linux.machine_id, order.linux.ssh_host_keys, order.linux.random_seed)
        ):
            wanted.add("linux")
        named = order.hostname and order.windows.name != "keep"
        if order.windows.drivers or order.windows.join or order.windows.answers or named:
            wanted.add("windows")
        return wanted

    def _in_systems(self, wanted: set[str]) -> None:
        with contextlib.ExitStack() as stack:
            disks = []
            for path, sector_size in self._disks:
                disk = stack.enter_context(Disk(path, write=True, sector_size=sector_size))
                stack.callback(disk.sync)
                found = read_layout(disk)[1]
                disks.append((disk, [p for p in found if self._only is None or p.number in self._only]))
            skipped: list[str] = []
            self.systems = find_systems(disks, wanted, skipped.append)
            for sentence in skipped:
                with self.steps.step("look") as note:
                    note.ok, note.output = False, sentence
            if skipped and not self.systems:
                raise CustomiseError(skipped[0])
            places = []
            for system in self.systems:
                self._check()
                path, tree = stack.enter_context(opened(disks[system.disk][0], system))
                places.append((system, path, tree))
            for place in places:
                self._identity(place)
            for drop in self.order.files:
                self._drop(drop, [place for place in places if place[0].fits(drop.system)], skipped)
            for script in self.order.phase("post"):
                self._in_each(script, places, skipped)

    def _identity(self, place: Place) -> None:
        self._check()
        if place[0].kind == "linux":
            self._linux(place)
        elif place[0].kind == "windows":
            self._windows(place)

    def _linux(self, place: Place) -> None:
        system, _path, tree = place
        wanted, name, where = self.order.linux, self.order.hostname, self._where(system)
        if name:
            with self.steps.step("host-name", where=where) as note:
                if linux.set_name(tree, name):
                    self._has_the_name(system, name)
                    note.output = name
                else:
                    note.output = "this system has no /etc/hostname"
        if wanted.machine_id:
            with self.steps.step("machine-id", where=where) as note:
                note.output = "emptied" if linux.forget_machine_id(tree) else "there is none"
        if wanted.random_seed:
            with self.steps.step("random-seed", where=where) as note:
                note.output = "removed" if linux.forget_random_seed(tree) else "there is none"
        if wanted.ssh_host_keys:
            with self.steps.step("ssh-host-keys", where=where) as note:
                self._check()
                kinds = linux.renew_host_keys(tree, name or "")
                note.output = f"new: {', '.join(kinds)}" if kinds else "no SSH server is installed"

    def _windows(self, place: Place) -> None:
        system, _path, tree = place
        wanted, name, where = self.order.windows, self.order.hostname, self._where(system)
        if wanted.drivers:
            self._drivers(tree, where)
        given = name if wanted.name != "keep" else None
        if not given and wanted.join is None and not wanted.answers:
            return
        with self.steps.step("windows-state", where=where) as note:
            way = windows.way(tree, wanted.name if wanted.name != "keep" else "auto")
            note.output = way
            if way == "registry" and wanted.answers:
                note.output = "registry: time zone and languages stay, for this Windows was not prepared"
        if way == "unattend":
            with self.steps.step("answer-file", where=where) as note:
                note.output = windows.answer(tree, given, wanted, bool(wanted.drivers))
            self._has_the_name(system, given)
            return
        if given:
            with self.steps.step("computer-name", where=where) as note:
                note.output = windows.name_in_registry(tree, given)
            self._has_the_name(system, given)
        if wanted.join is not None:
            with self.steps.step("domain-join", where=where):
                raise CustomiseError(
                    "This Windows was not prepared by sysprep, so it cannot join a domain by itself: prepare "
                    "the image with `sysprep /generalize /oobe /shutdown`, or take the domain join away."
                )

    def _has_the_name(self, system: System, name: str | None) -> None:
        if name:
            self.named.append(system.partition.number)

    def _drivers(self, tree: Tree, where: str) -> None:
        files = self.order.windows.drivers
        target = parts(self.order.windows.drivers_path)
        with self.steps.step("drivers", where=where) as note:
            for path, size in files:
                self._check()
                names = [windows.legal(name) for name in parts(path)]
                tree.write("/".join([*target, *names]), self._from().driver(path, size), make=True)
            total = sum(size for _, size in files)
            note.output = f"{len(files)} files, {total} bytes"

    def _from(self) -> Source:
        if self._source is None:
            raise CustomiseError("There is no server here to fetch files from.")
        return self._source

    # -- files and scripts

    def _drop(self, drop: Drop, places: list[Place], skipped: list[str]) -> None:
        if not places:
            with self.steps.step("file", drop.name) as note:
                note.output = _nowhere(drop.system, skipped)
        for system, _path, tree in places:
            self._check()
            with self.steps.step("file", drop.name, self._where(system)) as note:
                data = self._from().file(drop.hash, drop.size) if drop.content is None else drop.content
                tree.write(drop.path, data, mode=drop.mode, owner=drop.owner, make=True)
                note.output = drop.path

    def _in_each(self, script: Script, places: list[Place], skipped: list[str]) -> None:
        if not script.system:
            self._script(script, None)
            return
        fitting = [place for place in places if place[0].fits(script.system)]
        if not fitting:
            with self.steps.step("script", script.name) as note:
                note.output = _nowhere(script.system, skipped)
        for place in fitting:
            self._script(script, place)

    def _script(self, script: Script, place: Place | None) -> None:
        self._check()
        where = self._where(place[0]) if place else ""
        on = f" on {where}" if where else ""
        with self.steps.step("script", script.name, where) as note:
            ran = run_script(
                script.text,
                script.arguments,
                {**self._environment(script, place), **dict(script.environment)},
                script.seconds,
                check=self._check,
            )
            note.output, note.ok = ran.output, ran.ok
        if ran.ok:
            return
        ended = "was stopped after" if ran.status is None else f"ended with status {ran.status} after"
        last = self.order.mask(ran.last_lines())[-600:]
        sentence = f"The {script.phase} script {script.name}{on} {ended} {ran.seconds:.0f} s: " + (
            last or "it said nothing."
        )
        if script.on_error == "fail":
            raise CustomiseError(sentence)
        self._tell(f"{sentence} (going on)")

    def _environment(self, script: Script, place: Place | None) -> dict[str, str]:
        variables = dict(self.order.environment)
        variables["PXEBOOT_PHASE"] = script.phase
        variables["PXEBOOT_DISK"] = self._disks[0][0] if self._disks else ""
        variables["PXEBOOT_DISKS"] = " ".join(path for path, _ in self._disks)
        if place is not None:
            system, path, _tree = place
            variables["PXEBOOT_ROOT"] = path
            variables["PXEBOOT_SYSTEM"] = system.kind
            variables["PXEBOOT_PARTITION"] = str(system.partition.number)
        return variables

    def _where(self, system: System) -> str:
        return system.where(several=len(self._disks) > 1)


def _nowhere(system: str, skipped: list[str]) -> str:
    words = {"linux": "no Linux", "windows": "no Windows"}
    what = words.get(system) or f"no {system.replace(':', ' ')} that can be mounted"
    return " ".join([f"skipped: the disk holds {what}.", *skipped])


def set_hostname(disk_path: str | os.PathLike[str], hostname: str, *, sector_size: int = 0) -> list[int]:
    """Write ``hostname`` into every installed Linux on the disk; returns the partitions' numbers.

    Raises CustomiseError for a name that is not valid or a file system that cannot be changed, DiskBusy,
    DiskError.
    """
    from imaging.customise.order import Windows, checked_hostname

    order = Order(hostname=checked_hostname(hostname), windows=Windows(name="keep"))
    customiser = Customiser(order, [(os.fspath(disk_path), sector_size)])
    customiser.after()
    return customiser.named
