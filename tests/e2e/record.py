"""Record what firmware asks beside somebody else's DHCP server.

`sudo .venv/bin/python -m tests.e2e.record [NAME...]` writes requests to tests/dhcp/captures as NAME.hex and
NAME.golden, like those of `tests.dhcp.captures.renew`; look at the difference before committing it. The proxy
is a second dnsmasq, whose boot menu makes iPXE come to port 4011; it does not know HTTP Boot, so there it is
our daemon.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from dhcp.packet import Packet
from dhcp.text import describe
from pxeboot.lab import processes
from pxeboot.lab.dialogue import Dialogue
from pxeboot.lab.foreign import ForeignDhcp
from pxeboot.lab.machine import MachineSpec, QemuMachine
from pxeboot.lab.room import Room
from pxeboot.lab.server import Server

ROOT = Path(__file__).resolve().parents[2]
CAPTURES = ROOT / "tests/dhcp/captures"
LIMIT = 120.0
CLIENTS = {
    "bios-ipxe-rom-proxy": MachineSpec("pc", firmware="bios", memory=512),
    "ovmf-proxy": MachineSpec("pc", firmware="uefi-secureboot", memory=512),
    "e1000-ipxe-efi-proxy": MachineSpec("pc", firmware="uefi", card="e1000", memory=512),
    "ovmf-http-proxy": MachineSpec("pc", firmware="uefi", network_boot="http", memory=512),
}
GREETING = "Hello from the proxy"


def dnsmasq_proxy(room: Room, boot_files: Path) -> None:
    """ProxyDHCP and TFTP by dnsmasq; loaders and scripts only greet."""
    root = room.directory / "tftp"
    (root / "grub").mkdir(parents=True)
    for name in ("shimx64.efi", "grubx64.efi"):
        shutil.copy(boot_files / name, root / name)
    (root / "grub/grub.cfg").write_text(f"echo {GREETING}\nsleep 60\n")
    (root / "script.ipxe").write_text(f"#!ipxe\necho {GREETING}\nsleep 60\n")
    command = [processes.need("dnsmasq"), "-k", "--conf-file=/dev/null", "--user=root", "--port=0"]
    command += ["--interface=eth0", "--bind-interfaces", "--pid-file", "--dhcp-range=10.77.0.0,proxy"]
    command += [f"--dhcp-leasefile={room.runtime / 'proxy.leases'}"]
    command += ["--enable-tftp", f"--tftp-root={root}", "--dhcp-match=set:ipxe,175"]
    for tag, system, file in (
        ("ipxe", "x86PC", "script.ipxe"),
        ("ipxe", "X86-64_EFI", "script.ipxe"),
        ("!ipxe", "X86-64_EFI", "shimx64.efi"),
    ):
        command.append(f"--pxe-service=tag:{tag},{system},boot,{file}")
    with (room.directory / "proxy.log").open("wb") as log:
        room.spawn(command, namespace=room.server, stdout=log, stderr=log)


def record(name: str, boot_files: Path) -> None:
    """Boot one machine and keep its requests."""
    spec = CLIENTS[name]
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        room = stack.enter_context(Room(Path(scratch) / "room"))
        ForeignDhcp(room).start()
        if spec.network_boot == "http":
            Server(room, boot_files, {"dhcp": {"mode": "proxy"}}).start()
        else:
            dnsmasq_proxy(room, boot_files)
        wire = stack.enter_context(Dialogue(room.switch))
        machine = QemuMachine(room, spec)
        machine.power_on()
        machine.console.expect(f"{GREETING}|is not registered", LIMIT)
        requests: list[bytes] = []
        for said in wire.of(spec.mac):
            if said.packet is not None and said.packet.op == 1 and said.payload not in requests:
                requests.append(said.payload)
        print(f"{name}: {len(requests)} requests\n{wire.text(spec.mac)}")
    (CAPTURES / f"{name}.hex").write_text("".join(f"{payload.hex()}\n" for payload in requests))
    text = "\n".join(describe(Packet.parse(payload)) for payload in requests)
    (CAPTURES / f"{name}.golden").write_text(text)


if __name__ == "__main__":
    for chosen in sys.argv[1:] or CLIENTS:
        record(chosen, ROOT / "var" / "boot")
