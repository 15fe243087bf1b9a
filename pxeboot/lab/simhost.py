"""A simulated host: the real agent against a disk file, in a namespace of its own, booted as firmware would.

No virtual machine: DHCP by a real client that says it is a UEFI PXE client, the boot script fetched over
HTTP from the host's own address and read as GRUB would read it, and `python -m imaging.agent` started with
the kernel command line that the script gives.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from pxeboot.lab import grubscript, netns, processes
from pxeboot.lab.errors import LabError
from pxeboot.lab.machine import mac_of
from pxeboot.lab.room import Room

AGENT_LIMIT = 3600.0
DHCP_LIMIT = 60.0
HTTP_LIMIT = 60.0

# udhcpc calls its script with what to do and the lease in the environment (busybox
# examples/udhcp/simple.script).
_SCRIPT = """#!/bin/sh
# $1: deconfig | bound | renew | nak | leasefail
case "$1" in
deconfig)
    ip addr flush dev "$interface" ;;
bound|renew)
    ip addr flush dev "$interface"
    ip addr add "$ip/$mask" broadcast + dev "$interface"
    ip route replace 224.0.0.0/4 dev "$interface"
    [ -n "$router" ] && ip route replace default via "${router%% *}" dev "$interface"
    printf '%s\\n' "ip=$ip" "mask=$mask" "router=$router" "siaddr=$siaddr" "serverid=$serverid" \\
        "boot_file=$boot_file" "tftp=$tftp" "bootfile=$bootfile" "sname=$sname" "lease=$lease" \\
        > "$PXEBOOT_LEASE.new" && mv "$PXEBOOT_LEASE.new" "$PXEBOOT_LEASE" ;;
esac
exit 0
"""


@dataclass(frozen=True)
class Lease:
    """What DHCP gave: own address, the boot server (next server, else the DHCP server), boot file name or
    "".
    """

    address: str
    server: str
    boot_file: str
    seconds: int

    @classmethod
    def parse(cls, text: str) -> Lease:
        """From the file that the DHCP client's script writes; LabError without an address or a server."""
        fields = dict(line.partition("=")[::2] for line in text.splitlines())
        siaddr = fields.get("siaddr", "")
        server = siaddr if siaddr not in ("", "0.0.0.0") else fields.get("serverid", "")
        if not fields.get("ip") or not server:
            raise LabError(f"the lease has no address or no server: {text!r}")
        boot_file = fields.get("boot_file") or fields.get("bootfile") or ""
        return cls(fields["ip"], server, boot_file, int(fields.get("lease") or 0))


@dataclass(frozen=True)
class Boot:
    """How one power cycle went: what the boot script said, and the agent's exit status when it ran one."""

    kind: str
    """``agent``, ``local`` (own disk) or ``menu`` (waited for somebody)."""
    mode: str
    status: int | None
    seconds: float


class SimulatedHost:
    """One light host. ``power_on()`` boots it in the background, again and again as the agent reboots it,
    until its script says to boot its own disk, somebody must choose from a menu, or it is switched off.

    ``register``: at a menu, choose the entry that registers (``quick`` or ``full`` needs answers: not
    here); without, it stays at the menu, which for it means off. ``boots`` tells what happened. Logs:
    ``NAME.sim.log``.
    """

    def __init__(
        self,
        room: Room,
        name: str,
        disk: Path,
        *,
        mac: str = "",
        register: bool = False,
        http_port: int = 80,
        max_boots: int = 8,
        environment: dict[str, str] | None = None,
        on_boot: Callable[[SimulatedHost, Boot], None] | None = None,
    ) -> None:
        self.room, self.name, self.disk = room, name, disk
        self.mac = (mac or mac_of(name)).lower()
        self.uuid = uuid.uuid5(uuid.NAMESPACE_OID, f"pxeboot lab {name} {self.mac}")
        self.register, self.http_port, self.max_boots = register, http_port, max_boots
        self.environment = environment or {}
        self.dhcp_limit = DHCP_LIMIT
        self.namespace = room.port(f"h{hashlib.sha256(name.encode()).hexdigest()[:10]}", mac=self.mac)
        self.log_path = room.directory / f"{name}.sim.log"
        self.boots: list[Boot] = []
        self.lease: Lease | None = None
        self.error: LabError | None = None
        self._on_boot = on_boot
        self._agent: subprocess.Popen[bytes] | None = None
        self._client: subprocess.Popen[bytes] | None = None
        self._off = threading.Event()
        self._thread: threading.Thread | None = None
        self._files = Path(tempfile.mkdtemp(prefix="sim-", dir=room.runtime))
        script = self._files / "udhcpc.sh"
        script.write_text(_SCRIPT)
        script.chmod(0o755)
        (self._files / "inventory.json").write_text(json.dumps(self.inventory()))
        room.on_close(self.power_off)

    def inventory(self) -> dict[str, Any]:
        """What dmidecode and /sys would tell of this host, where the agent cannot ask them
        (``--inventory``).
        """
        digest = hashlib.sha256(self.name.encode()).hexdigest()
        return {
            "uuid": str(self.uuid),
            "serial": "SIM" + digest[:9].upper(),
            "manufacturer": "Virtual Room",
            "product": "Simulated PC",
            "firmware": "uefi",
            "secure_boot": False,
        }

    # --- power ---------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether it is on and has not come to rest."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def agent_pid(self) -> int | None:
        """The process id of the agent at work here, None while there is none."""
        agent = self._agent
        return agent.pid if agent is not None and agent.poll() is None else None

    def power_on(self) -> None:
        """Press the button; the host lives in a thread of its own."""
        if self.busy:
            raise LabError(f"{self.name} is already on")
        self._off.clear()
        self.error = None
        self._thread = threading.Thread(target=self._live, name=f"sim-{self.name}", daemon=True)
        self._thread.start()

    def wait_off(self, timeout: float) -> list[Boot]:
        """Wait until it has come to rest; its boots so far. LabError when it has not, or with what went
        wrong.
        """
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                raise LabError(f"{self.name} was still busy after {timeout:.0f} s")
        if self.error is not None:
            raise self.error
        return self.boots

    def power_off(self) -> None:
        """Pull the plug: agent and DHCP client die at once (SIGKILL)."""
        self._off.set()
        for process in (self._agent, self._client):
            if process is not None and process.poll() is None:
                process.kill()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(15)

    def _live(self) -> None:
        try:
            for _ in range(self.max_boots):
                boot = self.boot_once()
                self.boots.append(boot)
                if self._on_boot:
                    self._on_boot(self, boot)
                if boot.kind != "agent" or self._off.is_set():
                    return
            self.error = LabError(f"{self.name} was sent into the agent {self.max_boots} times in a row")
        except LabError as error:
            if not self._off.is_set():
                self.error = error
                self._note(f"failed: {error}")
        except (OSError, HTTPException) as error:
            if not self._off.is_set():
                self.error = LabError(f"{self.name}: {error}")
                self._note(f"failed: {error}")
        finally:
            self._stop_client()

    # --- one boot ------------------------------------------------------------------------------------------

    def boot_once(self) -> Boot:
        """One power cycle as firmware, loader and boot environment would do it. Raises LabError, OSError,
        HTTPException.
        """
        started = time.monotonic()
        lease = self._ask_dhcp(firmware=True)
        entry = self.fetch_script(lease)
        if entry is None or entry.command_line is None:
            kind = "menu" if entry is None else "local"
            self._note(f"boots {kind}")
            return Boot(kind, "", None, time.monotonic() - started)
        # The boot environment is another DHCP client on the same card, with a lease of its own to renew.
        self._ask_dhcp(firmware=False)
        status = self._run_agent(entry.command_line)
        mode = entry.parameters.get("pxeboot.mode", "")
        return Boot("agent", mode, status, time.monotonic() - started)

    def fetch_script(self, lease: Lease) -> grubscript.Entry | None:
        """Fetch and read this host's GRUB configuration; the entry it would boot, None when it waits at a
        menu.
        """
        script = self._read_script(lease, f"/boot/grub/{self.mac.replace(':', '-')}")
        entry = next((each for each in script.entries if each.id == "register-quick"), None)
        if self.register and entry is not None:
            script = self._read_script(lease, entry.config.partition(")")[2])
        return script.chosen()

    def _read_script(self, lease: Lease, path: str) -> grubscript.Script:
        client = netns.HttpClient(self.namespace, lease.server, self.http_port, timeout=HTTP_LIMIT)
        answer = client.get(path)
        if answer.status != 200:
            raise LabError(f"{self.name}: its boot script was answered {answer.status}: {answer.text[:200]}")
        self._note(f"--- boot script\n{answer.text}\n---")
        return grubscript.parse(answer.text, {"net_default_server": lease.server, "grub_platform": "efi"})

    def _ask_dhcp(self, *, firmware: bool) -> Lease:
        self._stop_client()
        lease_path = self._files / "lease"
        lease_path.unlink(missing_ok=True)
        command = [
            processes.need("busybox"),
            "udhcpc",
            "-f",
            "-i",
            "eth0",
            "-s",
            str(self._files / "udhcpc.sh"),
        ]
        command += ["-t", "5", "-T", "2", "-A", "1", "-a0"]
        if firmware:
            # RFC 4578: client architecture 7 (x64 UEFI), network interface, machine identifier (type 0 +
            # GUID).
            command += ["-q", "-n", "-V", "PXEClient:Arch:00007:UNDI:003016"]
            command += ["-x", "0x5d:0007", "-x", "0x5e:010310", "-x", f"0x61:00{self.uuid.bytes_le.hex()}"]
            command += ["-O", "bootfile", "-O", "tftp"]
        else:
            command += ["-x", f"hostname:{self.name}"] if self.name.isascii() else []
        command += ["-C"] if firmware else []
        environment = {**os.environ, "PXEBOOT_LEASE": str(lease_path)}
        # Firmware goes on asking for a minute (EDK2: 4, 8, 16, 32 s); udhcpc gives up after three requests,
        # too early when the server's disk is busy: an acknowledgement waits until the lease is on it.
        deadline = time.monotonic() + self.dhcp_limit
        while not lease_path.exists():
            if self._off.is_set():
                raise LabError(f"{self.name} was switched off")
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} got no address by DHCP within {self.dhcp_limit:.0f} s")
            if self._client is None or self._client.poll() not in (None, 0):
                with self.log_path.open("ab") as log:
                    self._client = self.room.spawn(
                        command, namespace=self.namespace, stdout=log, stderr=log, env=environment
                    )
            time.sleep(0.05)
        assert self._client is not None
        self.lease = Lease.parse(lease_path.read_text())
        if firmware:
            with contextlib.suppress(subprocess.TimeoutExpired):  # with its lease it ends; else it is stopped
                self._client.wait(10)
        return self.lease

    def _run_agent(self, command_line: str) -> int:
        command = [sys.executable, "-m", "imaging.agent", "--cmdline", command_line]
        command += [
            "--disk",
            str(self.disk),
            "--simulated",
            "--inventory",
            str(self._files / "inventory.json"),
        ]
        root = str(Path(__file__).resolve().parents[2])
        environment = {**os.environ, **self.environment, "PYTHONPATH": root, "PYTHONUNBUFFERED": "1"}
        self._note("agent starts")
        with self.log_path.open("ab") as log:
            self._agent = self.room.spawn(
                command, namespace=self.namespace, stdout=log, stderr=log, env=environment
            )
        if self._off.is_set():
            self._agent.kill()
        try:
            status = self._agent.wait(AGENT_LIMIT)
        except subprocess.TimeoutExpired:
            self._agent.kill()
            raise LabError(f"{self.name}: its agent did not end within {AGENT_LIMIT:.0f} s") from None
        self._note(f"agent ended with status {status}")
        return status

    def _stop_client(self) -> None:
        if self._client is not None:
            processes.stop(self._client, grace=1)
            self._client = None

    def _note(self, text: str) -> None:
        with self.log_path.open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%H:%M:%S', time.gmtime())} {self.name}: {text}\n")
