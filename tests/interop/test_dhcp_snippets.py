"""Our fragments inside the servers they are for: each sends every kind of machine to us."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dhcp.snippets import Kind, SnippetFacts, snippet
from tests.dhcp.room import Room, room
from tests.interop.dhcp_room import client_script, facts, needs, running

pytestmark = pytest.mark.net

FACTS = SnippetFacts(
    server="10.77.0.9",
    files={"bios": "undionly.kpxe", "x64-uefi": "shimx64.efi"},
    http_files={"x64-uefi": "http://10.77.0.9/boot/files/shimx64.efi"},
    script_url="http://10.77.0.9/boot/ipxe?mac=${net0/mac}",
)


def dhcpd(folder: Path) -> tuple[str, ...]:
    needs("dhcpd", "isc-dhcp-server")
    (folder / "leases").touch()
    (folder / "conf").write_text(
        f"subnet 10.77.0.0 netmask 255.255.255.0 {{ range 10.77.0.10 10.77.0.99; }}\n{snippet('isc', FACTS)}"
    )
    return (
        "dhcpd", "-4", "-f", "-d", "--no-pid", "-user", "root", "-group", "root",
        "-cf", str(folder / "conf"), "-lf", str(folder / "leases"), "br0",
    )  # fmt: skip


def kea(folder: Path) -> tuple[str, ...]:
    needs("kea-dhcp4", "kea-dhcp4-server")
    fragment = "".join(line for line in snippet("kea", FACTS).splitlines(True) if not line.startswith("//"))
    config = json.loads(fragment)
    config["Dhcp4"] |= {
        "interfaces-config": {"interfaces": ["br0"]},
        "lease-database": {"type": "memfile", "persist": False},
        "subnet4": [{"subnet": "10.77.0.0/24", "pools": [{"pool": "10.77.0.10 - 10.77.0.99"}], "id": 1}],
        "loggers": [{"name": "kea-dhcp4", "severity": "INFO", "output_options": [{"output": "stdout"}]}],
    }
    (folder / "conf").write_text(json.dumps(config))
    return (
        "env",
        f"KEA_PIDFILE_DIR={folder}",
        f"KEA_LOCKFILE_DIR={folder}",
        "kea-dhcp4",
        "-c",
        str(folder / "conf"),
    )


def dnsmasq(folder: Path) -> tuple[str, ...]:
    needs("dnsmasq", "dnsmasq-base")
    (folder / "conf").write_text(
        "port=0\nlog-dhcp\nuser=root\ninterface=br0\nbind-interfaces\ndhcp-authoritative\nno-ping\n"
        f"dhcp-leasefile={folder}/leases\ndhcp-range=10.77.0.10,10.77.0.99\n{snippet('dnsmasq', FACTS)}"
    )
    return ("dnsmasq", "-k", "--log-facility=-", "-C", str(folder / "conf"))


@contextmanager
def foreign(where: Room, start: Callable[[Path], tuple[str, ...]], folder: Path) -> Iterator[None]:
    with running(where, where.server, *start(folder)) as process:
        # Its output must be read, or it stops at a full pipe; it is ready when port 67 is bound.
        heard: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_drain, args=(process, heard), daemon=True).start()
        deadline = time.monotonic() + 60
        while ":67" not in where.inside(where.server, "ss", "-Hlun").stdout:
            assert process.poll() is None, "".join(heard.queue)
            assert time.monotonic() < deadline, "".join(heard.queue)
            time.sleep(0.1)
        yield


def _drain(process: subprocess.Popen[str], heard: queue.Queue[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        heard.put(line)


@pytest.mark.parametrize(("kind", "start"), [("isc", dhcpd), ("kea", kea), ("dnsmasq", dnsmasq)])
def test_every_kind_of_machine_is_sent_to_us(
    tmp_path: Path, kind: Kind, start: Callable[[Path], tuple[str, ...]]
) -> None:
    program, out = client_script(tmp_path)
    machines = {
        "bios": ("PXEClient:Arch:00000:UNDI:002001", "0000", "", "undionly.kpxe"),
        "uefi": ("PXEClient:Arch:00007:UNDI:003000", "0007", "", "shimx64.efi"),
        "http": ("HTTPClient:Arch:00016:UNDI:003000", "0010", "", FACTS.http_files["x64-uefi"]),
        "ipxe": ("PXEClient:Arch:00007:UNDI:003000", "0007", "-x0x4d:" + b"iPXE".hex(), FACTS.script_url),
        "plain": ("udhcp", "", "", ""),
    }
    with room() as where, foreign(where, start, tmp_path):
        for name, (vendor, arch, more, file) in machines.items():
            out.unlink(missing_ok=True)
            where.inside(
                where.client(), "busybox", "udhcpc", "-i", "eth0", "-q", "-n", "-s", program, "-V", vendor,
                *([f"-x0x5d:{arch}"] if arch else []), *([more] if more else []),
                "-O", "bootfile", "-O", "0x3c", timeout=60,
            )  # fmt: skip
            learnt = facts(out)
            # In the header, or (dnsmasq, when it is on the client's list) in option 67.
            assert (learnt.get("boot_file") or learnt.get("bootfile", "")) == file, name
            if file:
                assert learnt["siaddr"] == FACTS.server, name
