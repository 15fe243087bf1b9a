"""A block device with a Linux on it: captured by its map of used blocks, deployed, given its host name."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.imaging.agent.conftest import RunAgent
from tests.imaging.agent.images import blank, partitions
from tests.imaging.agent.room import Room

pytestmark = pytest.mark.disk

SIZE = 64 << 20


def sh(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout.strip()


@pytest.fixture
def linux(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/hostname").write_text("reference\n")
    (root / "etc/hosts").write_text("127.0.0.1\tlocalhost\n127.0.1.1\treference\n")
    (root / "big").write_bytes(b"used blocks only" * 500_000)
    path = blank(tmp_path / "linux.img", SIZE)
    sh("sgdisk", "-n", "1:2048:+40M", "-n", "2:0:+8M", "-t", "2:8200", str(path))
    sh("mkfs.ext4", "-q", "-F", "-E", f"offset={1 << 20}", "-d", str(root), str(path), "40M")
    return path


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    """A loop device: a disk that can be busy, has caches to drop and a table to read again."""
    file = blank(tmp_path / "device.img", SIZE + (16 << 20))
    name = sh("losetup", "--find", "--show", str(file))
    try:
        yield Path(name)
    finally:
        sh("losetup", "--detach", name)


def etc_hostname(device: Path, path: Path) -> str:
    sh("dd", f"if={device}", f"of={path}", "bs=1M", "skip=1", "count=40", "status=none")
    sh("e2fsck", "-f", "-n", str(path))
    return sh("debugfs", "-R", "cat /etc/hostname", str(path))


def test_a_linux_gets_its_host_name_and_a_second_deploy_sends_next_to_nothing(
    room: Room, run_agent: RunAgent, linux: Path, device: Path, tmp_path: Path
) -> None:
    room.order("capture")
    run_agent(disk=linux)
    captured = room.outcomes.pop()
    assert captured["ok"], captured["reason"]
    assert captured["chunks"]["total"] < 40  # of 64 MiB: unused blocks are not in the image

    room.order("deploy", manifest=room.versions[0], customise={"hostname": "b204-07"})
    status, _then, screen = run_agent(disk=device)
    deployed = room.outcomes.pop()
    assert (status, deployed["ok"], deployed["verified"]) == (0, True, True), deployed
    assert "agent: hostname=b204-07 partitions=1" in screen
    assert etc_hostname(device, tmp_path / "part.img") == "b204-07"
    assert "No problems found" in partitions(device)

    served = room.chunks_served
    room.order("deploy", manifest=room.versions[0], customise={"hostname": "b204-07"})
    run_agent(disk=device)
    again = room.outcomes.pop()
    assert again["verified"]
    # Only what the mount and the host name had changed.
    assert room.chunks_served - served <= 6
    assert again["chunks"]["kept"] == again["chunks"]["total"] - again["chunks"]["written"]


def test_a_disk_in_use_is_not_touched(room: Room, run_agent: RunAgent, linux: Path, device: Path) -> None:
    room.order("capture")
    run_agent(disk=linux)
    room.outcomes.clear()
    busy = os.open(device, os.O_RDONLY | os.O_EXCL)
    try:
        room.order("deploy", manifest=room.versions[0])
        run_agent(disk=device)
    finally:
        os.close(busy)
    assert room.outcomes[0]["code"] == "disk-busy"
