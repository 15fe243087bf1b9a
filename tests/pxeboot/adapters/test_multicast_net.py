"""The real daemon on two interfaces: each session waits for the machines on its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlmodel import select

from imaging.chunks import compress, hash_chunk
from imaging.manifest import CHUNK_SIZE, DiskImage, Manifest, Runs
from pxeboot.adapters import container
from pxeboot.db.engine import Database
from pxeboot.db.models import MulticastSession
from pxeboot.services import hosts, images, journal, operations
from pxeboot.services.views import OperationRequest
from pxeboot.settings import Settings
from tests.bench.lan import Lan, lan, run, wait_until

pytestmark = [pytest.mark.net, pytest.mark.timeout(150)]

CHUNK = b"\x07" * CHUNK_SIZE
FIRST, SECOND = "10.77.0.1", "10.78.0.1"  # ours
MACHINES = ("10.77.0.10", "10.78.0.10")


@pytest.fixture
def net() -> Iterator[Lan]:
    """A machine on each of the server's two interfaces."""
    with lan(1) as made:
        other = made.server.replace("server", "h1")
        made.hosts.append(other)
        run("ip", "netns", "add", other)
        made.ip(made.server, f"link add eth1 type veth peer name eth0 netns {other}")
        for namespace, name, address in ((made.server, "eth1", SECOND), (other, "eth0", MACHINES[1])):
            made.ip(namespace, f"addr add {address}/24 brd + dev {name}", f"link set {name} up")
        made.ip(other, "link set lo up", "route add 224.0.0.0/4 dev eth0")
        yield made


def settings_of(folder: Path) -> Settings:
    subnet = {"mode": "full", "conflict_probe": False}
    return Settings.model_validate(
        {
            "server": {"data_dir": folder},
            "network": {"interface": "eth0", "interfaces": ["eth1"]},
            "dhcp": {"enabled": True, "subnets": [
                {"network": "10.77.0.0/16", "interface": "eth0", "pools": ["10.77.1.1-10.77.1.9"], **subnet},
                {"network": "10.78.0.0/24", "interface": "eth1", "pools": ["10.78.0.101-10.78.0.109"],
                 **subnet},
            ]},
            "images": {"reserve_mb": 0},
            "multicast": {"gather_seconds": 100},
            "doctor": {"every_seconds": 0},
        }
    )  # fmt: skip


def prepare(settings: Settings, macs: list[str]) -> None:
    """pc0 and pc1 are there; pc2 is switched off, and was last seen on the second interface."""
    services = container.open_services(settings)
    services.store.add([(hash_chunk(CHUNK), compress(CHUNK))])
    disk = DiskImage(CHUNK_SIZE, 512, None, (), Runs([(0, CHUNK_SIZE)]), hash_chunk(CHUNK))
    manifest = Manifest([disk])
    services.store.put_manifest(manifest.to_bytes())
    with services.write() as session:
        images.add_version(
            session, "debian", manifest=manifest.id, disk_bytes=1, used_bytes=1, stored_bytes=1, chunks=1
        )
        for number, mac in enumerate([*macs, "52:54:00:00:00:99"]):
            hosts.create_host(session, name=f"pc{number}", macs=[mac], state="approved")
        hosts.note_seen(session, "52:54:00:00:00:99", address="10.78.0.99", now=datetime.now(UTC))
        wanted = OperationRequest(kind="deploy", hosts=["pc0", "pc1", "pc2"], image="debian")
        operations.start(session, wanted, actor="test", settings=settings)
    container.close(services)


def write_config(path: Path, settings: Settings) -> None:
    lines = []
    for section in ("server", "network", "images", "multicast", "doctor"):
        told = getattr(settings, section).model_dump(mode="json", exclude_unset=True)
        lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in told.items())]
    for subnet in settings.dhcp.model_dump(mode="json", exclude_unset=True)["subnets"]:
        lines += ["[[dhcp.subnets]]", *(f"{key} = {json.dumps(value)}" for key, value in subnet.items())]
    path.write_text("\n".join(lines) + "\n")


class Site:
    """The daemon in its namespace, and what its journal says."""

    def __init__(self, net: Lan, folder: Path) -> None:
        self.net, self._log = net, folder / "log"
        settings = settings_of(folder / "data")
        self.macs = [net.run(host, "cat", "/sys/class/net/eth0/address").stdout.strip() for host in net.hosts]
        prepare(settings, self.macs)
        config = folder / "pxeboot.toml"
        write_config(config, settings)
        self._file = self._log.open("w")
        self._python(net.server, "-m", "pxeboot.cli", "serve", "--config", str(config))
        self.database = Database(folder / "data" / "pxeboot.sqlite")

    def _python(self, namespace: str, *arguments: str) -> None:
        self.net.python(namespace, *arguments, stdout=subprocess.DEVNULL, stderr=self._file)

    def until(self, what: str, condition: Callable[[], bool]) -> None:
        try:
            wait_until(what, condition, 60)
        except TimeoutError as error:
            raise AssertionError(f"{error}: {self._log.read_text()[-4000:]}") from None

    def listens(self, address: str) -> bool:
        asked = ("ip", "netns", "exec", self.net.server, "ss", "-Hltn", f"src {address}:80")
        return bool(run(*asked).stdout.strip())

    def power_on(self, number: int, ours: str) -> None:
        self._python(
            self.net.hosts[number], "-m", "tests.bench.share_machine",
            self.macs[number], MACHINES[number], ours,
        )  # fmt: skip

    def heard(self, kind: str) -> set[str]:
        """The sessions that said so, by our address they leave from ("": the usual one)."""
        with self.database.read() as session:
            rows = session.exec(select(MulticastSession)).all()
            addresses = {row.group_address: row.address for row in rows}
            events = journal.list_events(session, plane="multicast", limit=200).items
        return {addresses[event.data["group"]] for event in events if event.kind == f"multicast.{kind}"}

    def close(self) -> None:
        self.database.close()
        self._file.close()


@pytest.fixture
def site(net: Lan, tmp_path: Path) -> Iterator[Site]:
    made = Site(net, tmp_path)
    yield made
    made.close()


def test_a_session_begins_when_those_on_its_interface_are_there(site: Site) -> None:
    for number, ours in enumerate((FIRST, SECOND)):
        site.until(f"HTTP on {ours}", lambda ours=ours: site.listens(ours))
        site.power_on(number, ours)
    site.until("both join", lambda: site.heard("receiver-joined") == {"", SECOND})
    site.until("the first begins", lambda: "" in site.heard("sweep-started"))
    assert site.heard("sweep-started") == {""}  # pc2 may still come to the second
