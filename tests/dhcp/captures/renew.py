"""Record what real clients send: `sudo .venv/bin/python -m tests.dhcp.captures.renew [NAME...]`.

Each client is started once in private namespaces against our own server; its requests go to NAME.hex (one
payload per line) and their text to NAME.golden. Look at the difference before committing it: a new text is a
new firmware, or a bug in the parser. Needs qemu-system-x86, ovmf, tcpdump, isc-dhcp-client, busybox.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dhcp.packet import Packet
from dhcp.text import describe
from tests.dhcp.room import Room, room, served

HERE = Path(__file__).parent
# A namespace's QEMU sees no network but the tap on the room's bridge.
QEMU = [
    "qemu-system-x86_64",
    "-accel",
    "tcg",
    "-m",
    "512",
    "-display",
    "none",
    "-serial",
    "null",
    "-monitor",
    "none",
    "-no-reboot",
]


def tap(where: Room) -> list[str]:
    for command in ("ip tuntap add tap0 mode tap", "ip link set tap0 master br0 up"):
        where.inside(where.server, *command.split())
    return ["-netdev", "tap,id=n0,ifname=tap0,script=no,downscript=no"]


def bios_ipxe_rom(where: Room, folder: Path) -> None:
    machine(
        where,
        [*QEMU, "-boot", "n", *tap(where), "-device", "virtio-net-pci,netdev=n0,mac=52:54:00:00:00:11"],
        25,
    )


def ovmf(where: Room, folder: Path) -> None:
    variables = folder / "vars.fd"
    shutil.copy("/usr/share/OVMF/OVMF_VARS_4M.fd", variables)
    flash = [
        "-machine", "q35",
        "-drive", "if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
        "-drive", f"if=pflash,unit=1,format=raw,file={variables}",
    ]  # fmt: skip
    card = ["-device", "virtio-net-pci,netdev=n0,mac=52:54:00:00:00:12,romfile="]
    machine(where, [*QEMU, *flash, *tap(where), *card], 100)


def machine(where: Room, command: list[str], seconds: float) -> None:
    process = subprocess.Popen(["ip", "netns", "exec", where.server, *command])
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()
        process.wait()


def dhclient(where: Room, folder: Path) -> None:
    name = where.client("52:54:00:00:00:13")
    files = ["-lf", str(folder / "dhclient.leases"), "-pf", str(folder / "dhclient.pid"), "-cf", "/dev/null"]
    where.inside(name, "dhclient", "-4", "-1", "-v", "-sf", "/bin/true", *files, "eth0", timeout=60)
    where.inside(name, "ip", "addr", "add", "10.77.0.10/24", "dev", "eth0")
    where.inside(name, "dhclient", "-4", "-r", "-v", "-sf", "/bin/true", *files, "eth0", timeout=60)
    time.sleep(1)


def udhcpc(where: Room, folder: Path) -> None:
    name = where.client("52:54:00:00:00:14")
    where.inside(name, "busybox", "udhcpc", "-i", "eth0", "-q", "-n", "-s", "/bin/true", timeout=60)


def payloads(capture: Path) -> Iterator[tuple[int, bytes]]:
    """(destination port, UDP payload) of the IPv4 frames in a classic pcap file (little-endian, Ethernet)."""
    data = capture.read_bytes()
    at = 24
    while at + 16 <= len(data):
        size = int.from_bytes(data[at + 8 : at + 12], "little")
        frame = data[at + 16 : at + 16 + size]
        at += 16 + size
        ip = frame[14:]
        udp = ip[(ip[0] & 15) * 4 :]
        yield int.from_bytes(udp[2:4], "big"), udp[8 : int.from_bytes(udp[4:6], "big")]


def record(name: str, client: Callable[[Room, Path], None]) -> None:
    with (
        tempfile.TemporaryDirectory() as scratch,
        room() as where,
        served(where, Path(scratch) / "leases.sqlite"),
    ):
        capture = Path(scratch) / "capture.pcap"
        sniffer = subprocess.Popen(
            [
                "ip",
                "netns",
                "exec",
                where.server,
                "tcpdump",
                "--immediate-mode",
                "-U",
                "-i",
                "br0",
                "-w",
                str(capture),
                "-Z",
                "root",
                "ip and udp",
            ],
            stderr=subprocess.PIPE,
        )
        try:
            assert sniffer.stderr is not None
            while b"listening on" not in (line := sniffer.stderr.readline()):
                if not line:
                    raise RuntimeError("tcpdump did not start")
            client(where, Path(scratch))
            time.sleep(0.5)
        finally:
            sniffer.terminate()
            sniffer.wait(5)
        requests: list[bytes] = []
        for port, payload in payloads(capture):
            if port in (67, 4011) and payload[:1] == b"\x01" and payload not in requests:
                requests.append(payload)
            elif port == 69:
                print(f"{name}: then asks by TFTP for {payload[2:].split(bytes(1))[0].decode()}")
    (HERE / f"{name}.hex").write_text("".join(f"{payload.hex()}\n" for payload in requests))
    (HERE / f"{name}.golden").write_text("\n".join(describe(Packet.parse(payload)) for payload in requests))
    print(f"{name}: {len(requests)} requests")


CLIENTS = {"bios-ipxe-rom": bios_ipxe_rom, "ovmf": ovmf, "dhclient": dhclient, "udhcpc": udhcpc}

if __name__ == "__main__":
    for chosen in sys.argv[1:] or CLIENTS:
        record(chosen, CLIENTS[chosen])
