"""Wipe, test, debug shell and rescue, as a simulated host does them for a server."""

from __future__ import annotations

import io
import random
import socket
import subprocess
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest
import zstandard

from imaging.agent.errors import AgentError
from imaging.agent.shell import login_of, wait_until_open
from tests.imaging.agent.conftest import RunAgent
from tests.imaging.agent.room import Room
from tests.imaging.disks import make_disk

MIB = 1 << 20


def full(path: Path) -> Path:
    path.write_bytes(random.Random(3).randbytes(MIB) * 8)
    return path


def last(room: Room) -> dict[str, Any]:
    return room.outcomes[-1]


def test_a_wipe_counts_down_wipes_and_tells_of_each_disk(
    room: Room, run_agent: RunAgent, tmp_path: Path
) -> None:
    disk = full(tmp_path / "disk.img")
    room.order("wipe", wipe={"countdown": 1})
    status, then, screen = run_agent(disk=disk)
    assert (status, then) == (0, "reboot")
    record = last(room)["wipe"][0]
    assert (last(room)["ok"], last(room)["verified"], record["method"]) == (True, True, "overwrite")
    assert record["proof"]["zeros"] == record["proof"]["samples"]
    assert not any(disk.read_bytes())
    assert "ALL DATA on 1 disk(s) of this machine will be destroyed in 1 seconds." in screen
    assert f"agent: wipe disk={disk} method=overwrite verified=true" in screen


def test_enter_at_the_console_stops_a_wipe(room: Room, run_agent: RunAgent, tmp_path: Path) -> None:
    disk = full(tmp_path / "disk.img")
    room.order("wipe", wipe={"countdown": 60})
    _, _, screen = run_agent(disk=disk, types="\n")
    assert (last(room)["ok"], last(room)["code"]) == (False, "wipe-stopped")
    assert disk.read_bytes() == random.Random(3).randbytes(MIB) * 8
    assert "Press Enter here to stop it." in screen


def test_a_method_that_cannot_be_used_is_refused_before_anything_is_changed(
    room: Room, run_agent: RunAgent, tmp_path: Path
) -> None:
    disks = [full(tmp_path / "a.img"), full(tmp_path / "b.img")]
    room.order("wipe", wipe={"method": "nvme-format", "countdown": 0})
    run_agent(disk=",".join(map(str, disks)))
    assert last(room)["code"] == "wipe-refused"
    assert "choose auto or overwrite" in last(room)["reason"]
    assert all(any(disk.read_bytes()) for disk in disks)
    room.order("wipe", wipe={"method": "nvme-format", "countdown": 0, "fallback": True})
    run_agent(disk=",".join(map(str, disks)))
    assert [record["method"] for record in last(room)["wipe"]] == ["overwrite", "overwrite"]
    assert not any(any(disk.read_bytes()) for disk in disks)


def test_a_wipe_with_an_option_of_a_newer_server_is_refused(room: Room, run_agent: RunAgent) -> None:
    room.order("wipe", wipe={"only_a_little": True})
    run_agent()
    assert last(room)["code"] == "options-invalid"


def test_a_disk_is_read_and_called_good(room: Room, run_agent: RunAgent, tmp_path: Path) -> None:
    room.order("test", test={"memory": 0, "surface": "full"})
    run_agent(disk=full(tmp_path / "disk.img"))
    row = last(room)["test"]["disks"][0]
    assert (last(room)["ok"], row["passed"], row["surface"]["bytes"]) == (True, True, 8 * MIB)


def test_memory_that_cannot_be_tested_is_a_failure_that_says_why(
    room: Room, run_agent: RunAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imaging.agent.health.available", lambda: 50 * MIB)
    room.order("test", test={"surface": "none"})
    run_agent()
    assert (last(room)["ok"], last(room)["code"]) == (False, "test-failed")
    assert "only 50 MiB of memory are free" in last(room)["reason"]


def test_sign_ins_are_read_from_the_log_of_the_ssh_server() -> None:
    line = (
        "[77] Nov 29 23:40:01 Pubkey auth succeeded for 'root' with ssh-ed25519 key "
        "SHA256:JaQy0vKp3o4fUZ3+QOjQ1Y from 10.20.0.2:40512"
    )
    assert login_of(line) == ("SHA256:JaQy0vKp3o4fUZ3+QOjQ1Y", "10.20.0.2")
    assert login_of("[77] Exit before auth from <10.20.0.2:40512>") is None


def test_a_shell_is_open_only_when_somebody_can_connect() -> None:
    with socket.socket() as listener, subprocess.Popen(["sleep", "60"]) as sleeper:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        with pytest.raises(AgentError, match="does not answer"):
            wait_until_open(sleeper, port, 0.2)
        threading.Timer(0.3, listener.listen).start()
        wait_until_open(sleeper, port, 20)
        sleeper.kill()
        sleeper.wait()
        with pytest.raises(AgentError, match="ended with status -9"):
            wait_until_open(sleeper, port, 20)


def test_a_shell_without_keys_is_not_opened(room: Room, run_agent: RunAgent) -> None:
    room.order("shell", shell={})
    run_agent()
    assert last(room)["code"] == "shell-failed"


@pytest.mark.disk
def test_files_are_rescued_over_the_task_plane_also_when_the_server_restarts(
    room: Room, run_agent: RunAgent, tmp_path: Path
) -> None:
    disk = make_disk(tmp_path / "disk.raw", tmp_path)
    before = disk.read_bytes()
    room.order("rescue", rescue={"paths": ["etc", "usr/file1*"], "exclude": ["hosts"]},
               customise={"hostname": "pc-01"})  # fmt: skip
    restarted = threading.Event()

    def restart() -> None:
        if not restarted.is_set():
            restarted.set()
            threading.Thread(target=lambda: (room.stop(), room.start())).start()

    room.on_rescue = restart
    run_agent(disk=disk, patience=20.0)
    assert last(room)["ok"], last(room)
    assert restarted.is_set()
    plain = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(bytes(room.rescue))).read()
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        names = tar.getnames()
    assert "pc-01/disk1/partition3-root/etc/hostname" in names
    assert "pc-01/disk1/partition3-root/etc/hosts" not in names
    assert len([name for name in names if "/usr/file1" in name]) == 11
    facts = room.rescued[-1]
    assert (facts["size"], facts["files"]) == (len(room.rescue), 12)
    assert disk.read_bytes() == before


@pytest.mark.disk
def test_too_much_and_nothing_are_refused_with_numbers(
    room: Room, run_agent: RunAgent, tmp_path: Path
) -> None:
    disk = make_disk(tmp_path / "disk.raw", tmp_path)
    room.order("rescue", rescue={"paths": ["usr"], "limit_mb": 1})
    run_agent(disk=disk)
    assert last(room)["code"] == "rescue-too-large"
    assert "7.9 MB in 40 files" in last(room)["reason"]
    room.order("rescue", rescue={"paths": ["home"]})
    run_agent(disk=disk)
    assert last(room)["code"] == "rescue-nothing"
