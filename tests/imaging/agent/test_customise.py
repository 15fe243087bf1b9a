"""A deploy with all that comes before and after the image, from the order to the outcome."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import blake3
import pytest

from tests.imaging.agent.conftest import RunAgent
from tests.imaging.agent.images import blank
from tests.imaging.agent.room import Room
from tests.imaging.customise import windows
from tests.imaging.customise.places import linux, make_disk, mounted, nothing_left

pytestmark = pytest.mark.disk

KINDS = ["ext4", "ntfs"]


@pytest.fixture
def dual(tmp_path: Path) -> Path:
    return make_disk(
        tmp_path / "source.img",
        [("ext4", linux), ("ntfs", lambda root: windows.windows_tree(root, "sysprepped") and None)],
    )


def captured(room: Room, run_agent: RunAgent, disk: Path) -> str:
    room.order("capture")
    run_agent(disk=disk)
    outcome = room.outcomes.pop()
    assert outcome["ok"], outcome["reason"]
    return room.versions[0]


def deployed(room: Room, run_agent: RunAgent, disk: Path, **customise: Any) -> tuple[dict[str, Any], str]:
    room.order("deploy", manifest=room.versions[0], customise=customise)
    _status, _then, screen = run_agent(disk=disk)
    nothing_left(disk)
    return room.outcomes.pop(), screen


def test_names_drivers_files_and_scripts_reach_the_disk_and_the_outcome(
    room: Room, run_agent: RunAgent, dual: Path, tmp_path: Path
) -> None:
    captured(room, run_agent, dual)
    target = blank(tmp_path / "target.img", dual.stat().st_size)
    wall = os.urandom(2 << 20)
    hash = blake3.blake3(wall).hexdigest()
    room.files = {f"files/{hash}": wall, "drivers/Dell Inc./e1d 65.inf": b"[Version]\n"}
    room.cut_after = 700_000  # the connection breaks in the middle of the file
    outcome, screen = deployed(
        room, run_agent, target,
        hostname="b204-07",
        linux={"machine_id": True, "ssh_host_keys": True, "random_seed": True},
        windows={"join": {"domain": "lycee.local", "user": "joiner", "password": "S3cret-word"},
                 "drivers": {"files": [{"path": "Dell Inc./e1d 65.inf", "size": 10}]}},
        files=[{"name": "wall", "path": "/usr/share/wall.jpg", "system": "linux", "hash": hash,
                "size": len(wall)}],
        scripts=[
            {"name": "before", "phase": "pre", "text": 'head -c 512 "$PXEBOOT_DISK" | tr -d "\\0" | wc -c'},
            {"name": "leaky", "phase": "post", "system": "linux",
             "text": 'grep -hs reference "$PXEBOOT_ROOT"/etc/* ; echo "the word is $WORD"',
             "environment": {"WORD": "S3cret-word"}},
        ],
        environment={"PXEBOOT_HOST": "b204-07"},
        masked=["S3cret-word"],
    )  # fmt: skip
    assert outcome["ok"], outcome
    done = [(step["step"], step["name"]) for step in outcome["customise"]]
    assert done == [
        ("script", "before"),
        ("host-name", ""), ("machine-id", ""), ("random-seed", ""), ("ssh-host-keys", ""),
        ("drivers", ""), ("windows-state", ""), ("answer-file", ""),
        ("file", "wall"), ("script", "leaky"),
    ]  # fmt: skip
    assert outcome["customise"][0]["output"].strip() == "0"  # nothing had been written yet
    assert outcome["customise"][-1]["output"] == "the word is ***\n"
    assert "S3cret-word" not in screen + str(room.progress) + str(outcome)
    assert "agent: hostname=b204-07 partitions=1,2" in screen
    with mounted(target, 1, KINDS) as root:
        assert (root / "usr/share/wall.jpg").read_bytes() == wall
        assert (root / "etc/hostname").read_text() == "b204-07\n"
    with mounted(target, 2, KINDS) as root:
        assert "<ComputerName>B204-07<" in (root / "Windows/Panther/unattend.xml").read_text()
        assert (root / "Drivers/Dell Inc_/e1d 65.inf").read_bytes() == b"[Version]\n"


def test_a_failing_pre_script_keeps_the_disk_as_it_was(
    room: Room, run_agent: RunAgent, dual: Path, tmp_path: Path
) -> None:
    captured(room, run_agent, dual)
    target = blank(tmp_path / "target.img", dual.stat().st_size)
    script = {"name": "battery", "phase": "pre", "text": "echo Plug in the charger.; exit 1"}
    outcome, screen = deployed(room, run_agent, target, scripts=[script])
    assert (outcome["ok"], outcome["code"]) == (False, "customise-failed")
    assert outcome["reason"] == "The pre script battery ended with status 1 after 0 s: Plug in the charger."
    assert outcome["customise"][0]["ok"] is False
    assert not any(target.read_bytes())
    assert "agent: failed code=customise-failed" in screen


def test_an_order_the_server_could_not_make_is_refused_before_anything_is_written(
    room: Room, run_agent: RunAgent, dual: Path, tmp_path: Path
) -> None:
    captured(room, run_agent, dual)
    target = blank(tmp_path / "target.img", dual.stat().st_size)
    served = room.chunks_served
    outcome, _ = deployed(room, run_agent, target, problem="There is no secret 'join': add it.")
    assert (outcome["code"], outcome["reason"]) == ("customise-failed", "There is no secret 'join': add it.")
    assert room.chunks_served == served


def test_a_file_that_comes_wrong_fails_its_step_and_leaves_no_half(
    room: Room, run_agent: RunAgent, dual: Path, tmp_path: Path
) -> None:
    captured(room, run_agent, dual)
    target = blank(tmp_path / "target.img", dual.stat().st_size)
    hash = "ab" * 32
    room.files = {f"files/{hash}": b"another file"}
    drop = {"name": "motd", "path": "/etc/motd", "system": "linux", "hash": hash, "size": 12}
    outcome, _ = deployed(room, run_agent, target, files=[drop])
    assert (outcome["ok"], outcome["verified"], outcome["code"]) == (False, True, "customise-failed")
    assert "changed or was damaged" in outcome["reason"]
    drop["hash"] = "cd" * 32
    outcome, _ = deployed(room, run_agent, target, files=[drop])
    assert outcome["code"] == "file-not-found"
    assert outcome["customise"][-1]["ok"] is False
    with mounted(target, 1, KINDS) as root:
        assert not (root / "etc/motd").exists()
