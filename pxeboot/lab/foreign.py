"""Somebody else's DHCP server in the room: it gives addresses and knows nothing of booting.

The network that our proxy mode is for. A real dnsmasq or Kea runs in a namespace of its own (`pxl-RUN-dhcp`)
with an address of its own on the room's switch: no DNS, no TFTP, no boot file, nothing outside the room.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Literal

from pxeboot.lab import processes
from pxeboot.lab.errors import LabError
from pxeboot.lab.room import Room

Product = Literal["dnsmasq", "kea"]

READY_LIMIT = 60.0
# What each says in its log when it has opened port 67.
_READY = {"dnsmasq": r"DHCP, IP range", "kea": r"DHCP4_STARTED"}
LEASE_SECONDS = 600


class ForeignDhcp:
    """A DHCP server that is not ours. It starts with ``start()`` and stops with the room.

    It sits at the room's third address, or ``here``: on our server's own machine, where it has port 67. It
    gives the addresses 50 to 90 for ten minutes.

    ``ping``: dnsmasq first looks for three seconds whether a new address is in use, one address at a time, as
    it does by default; its offer then comes long after a proxy's. ``fragment`` is added to its configuration,
    in its own words: what `pxeboot dhcp snippet` prints. Its log, ``room.directory/dhcp.log``, has every
    message it got and sent.
    """

    def __init__(
        self,
        room: Room,
        product: Product = "dnsmasq",
        *,
        here: bool = False,
        ping: bool = True,
        fragment: str = "",
    ) -> None:
        self.room, self.product, self._ping, self._fragment = room, product, ping, fragment
        self.address = room.server_address if here else str(room.subnet[3])
        self.first, self.last = str(room.subnet[50]), str(room.subnet[90])
        self.namespace = room.server if here else room.port("dhcp", address=self.address)
        self.log_path = room.directory / "dhcp.log"
        self._process: subprocess.Popen[bytes] | None = None
        room.on_close(self.stop)

    def start(self) -> None:
        """Start it and wait until it listens. LabError with its log when it does not."""
        if self._process is not None:
            raise LabError("the foreign DHCP server is already running")
        self.log_path.unlink(missing_ok=True)
        with self.log_path.open("wb") as log:
            self._process = self.room.spawn(
                self.command(),
                namespace=self.namespace,
                stdout=log,
                stderr=log,
                cwd=self.room.runtime,
                env=self._environment(),
            )
        deadline = time.monotonic() + READY_LIMIT
        while not re.search(_READY[self.product], self.log()):
            status = self._process.poll()
            if status is not None or time.monotonic() > deadline:
                self.stop()
                what = f"ended with status {status}" if status is not None else "did not get ready"
                raise LabError(f"{self.product} {what}:\n{self.log()[-1500:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it; nothing happens when it is not running."""
        if self._process is not None:
            processes.stop(self._process)
            self._process = None

    def log(self) -> str:
        """All it said."""
        try:
            return self.log_path.read_text("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def command(self) -> list[str]:
        """How it is started; writes its configuration."""
        return self._dnsmasq() if self.product == "dnsmasq" else self._kea()

    def _environment(self) -> dict[str, str]:
        # Kea keeps its lock and pid files where Debian's service has made directories, unless told otherwise.
        places = dict.fromkeys(("KEA_LOCKFILE_DIR", "KEA_PIDFILE_DIR"), str(self.room.runtime))
        return {**os.environ, **places}

    def _dnsmasq(self) -> list[str]:
        mask = self.room.subnet.netmask
        settings = self.room.runtime / "dnsmasq.conf"
        settings.write_text(self._fragment)
        out = [processes.need("dnsmasq"), "--keep-in-foreground", f"--conf-file={settings}", "--user=root"]
        out += [
            "--port=0",
            "--log-dhcp",
            "--log-facility=-",
            f"--pid-file={self.room.runtime / 'dnsmasq.pid'}",
        ]
        out += ["--interface=eth0", "--bind-interfaces", "--dhcp-authoritative"]
        out += [f"--dhcp-leasefile={self.room.runtime / 'dnsmasq.leases'}"]
        out += [] if self._ping else ["--no-ping"]
        return [*out, f"--dhcp-range={self.first},{self.last},{mask},{LEASE_SECONDS}"]

    def _kea(self) -> list[str]:
        path = self.room.runtime / "kea.json"
        settings = kea_settings(self.room.subnet, self.first, self.last, path.parent)
        if self._fragment:
            lines = (line for line in self._fragment.splitlines() if not line.lstrip().startswith("//"))
            settings.update(json.loads("\n".join(lines))["Dhcp4"])
        path.write_text(json.dumps({"Dhcp4": settings}))
        return [processes.need("kea-dhcp4"), "-c", str(path)]


def kea_settings(subnet: ipaddress.IPv4Network, first: str, last: str, directory: Path) -> dict[str, object]:
    """Kea's configuration for one subnet on ``eth0``: addresses, nothing that has to do with booting."""
    return {
        "interfaces-config": {"interfaces": ["eth0"], "dhcp-socket-type": "raw"},
        "lease-database": {"type": "memfile", "persist": True, "name": str(directory / "kea.leases")},
        "valid-lifetime": LEASE_SECONDS,
        "subnet4": [{"id": 1, "subnet": str(subnet), "pools": [{"pool": f"{first} - {last}"}]}],
        "loggers": [{"name": "kea-dhcp4", "severity": "INFO", "output_options": [{"output": "stdout"}]}],
    }
