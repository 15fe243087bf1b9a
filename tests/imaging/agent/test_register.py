"""Registration and the rest of a boot without a task, as conversations at the console."""

import subprocess
import sys
from pathlib import Path

import pytest

from imaging.agent import VERSION
from imaging.agent.errors import AgentError
from imaging.agent.register import register
from imaging.agent.server import Server
from tests.imaging.agent.conftest import RunAgent, Typist
from tests.imaging.agent.room import Room


def test_full_registration_asks_and_takes_what_was_typed(room: Room, run_agent: RunAgent) -> None:
    room.host = None
    status, then, screen = run_agent(cmdline=room.cmdline(mode="register-full"), types="pc-17\n2\n1\n")
    assert (status, then) == (0, "reboot")
    assert room.registrations == [{"name": "pc-17", "group": "B205", "image": "debian"}]
    assert screen.startswith(f"pxeboot agent {VERSION}\n")
    assert "Registration: name [b204-01]: " in screen
    assert "Registration: group [0]: " in screen
    assert "agent: registered name=pc-17 state=pending\n" in screen
    inventory = room.checkins[0]["inventory"]
    assert inventory["disks"][0]["size"] == 16 << 20
    assert inventory["simulated"] is True


def test_enter_takes_every_default(room: Room, run_agent: RunAgent) -> None:
    run_agent(cmdline=room.cmdline(mode="register-full"), types="\n\n\n")
    assert room.registrations == [{"name": "b204-01", "group": None, "image": None}]


def test_a_bad_name_and_a_taken_one_are_asked_for_again(room: Room, run_agent: RunAgent) -> None:
    room.names.add("pc-1")
    _status, _then, screen = run_agent(
        cmdline=room.cmdline(mode="register-full"), types="pc_1\npc-1\n0\n0\npc-2\n"
    )
    assert "A name has 1 to 63 letters" in screen
    assert "The name pc-1 is taken." in screen
    assert [r["name"] for r in room.registrations] == ["pc-1", "pc-2"]


def test_quick_registration_asks_nothing(room: Room) -> None:
    server = Server(room.url)
    server.checkin(room.token(), "52:54:00:00:00:01", "0", {})
    typist = Typist()
    assert register(server, typist.console, "register-quick")["name"] == "b204-01"
    assert room.registrations == [{"name": None, "group": None, "image": None}]
    assert "Registered as b204-01; waiting for approval." in typist.screen


def test_nobody_there_ends_in_a_reason(room: Room) -> None:
    server = Server(room.url)
    server.checkin(room.token(), "52:54:00:00:00:01", "0", {})
    typist = Typist(hang_up=False)
    with pytest.raises(AgentError) as caught:
        register(server, typist.console, "register-full", time_limit=0.2)
    assert caught.value.code == "registration-timeout"
    assert room.registrations == []


def test_french(room: Room, run_agent: RunAgent) -> None:
    _status, _then, screen = run_agent(cmdline=room.cmdline(mode="register-full", lang="fr"), types="\n\n\n")
    assert "Inscription : nom [b204-01]: " in screen
    assert "agent: registered name=b204-01 state=pending\n" in screen  # for programs, never translated


def test_a_used_token_is_one_clear_sentence(room: Room, run_agent: RunAgent) -> None:
    status, then, screen = run_agent(cmdline=room.cmdline(token=room.token("used")))
    assert (status, then) == (0, "reboot")
    assert "agent: failed code=token-used reason=This boot token is used." in screen
    assert "Traceback" not in screen


def test_a_server_that_cannot_be_reached_is_status_1(room: Room, run_agent: RunAgent) -> None:
    cmdline = room.cmdline()
    room.stop()
    status, then, screen = run_agent(cmdline=cmdline, patience=0.3)
    assert (status, then) == (1, "reboot")
    assert "code=server-unreachable" in screen
    room.start()


def test_the_program_refuses_to_touch_a_machine_it_did_not_boot(room: Room) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "imaging.agent", "--cmdline", room.cmdline()],
        capture_output=True, text=True, timeout=100, check=False, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert done.returncode == 2
    assert "not the pxeboot boot environment" in done.stderr
    assert room.requests == []


def test_the_program_as_a_simulated_host(room: Room, tmp_path: Path) -> None:
    disk, log = tmp_path / "disk.img", tmp_path / "agent.log"
    disk.write_bytes(bytes(1 << 20))
    (tmp_path / "inventory.json").write_text('{"product": "OptiPlex 7060", "firmware": "uefi"}')
    done = subprocess.run(
        [sys.executable, "-m", "imaging.agent", "--cmdline", room.cmdline(mode="register-full"),
         "--simulated", "--disk", str(disk), "--inventory", str(tmp_path / "inventory.json"),
         "--log", str(log)],
        input="\n\n\n", capture_output=True, text=True, timeout=100, check=False,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("agent: then=reboot\n")
    assert room.checkins[0]["inventory"]["product"] == "OptiPlex 7060"
    assert "agent: registered" in log.read_text()


def test_the_agent_has_the_version_of_the_project() -> None:
    project = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    assert f'version = "{VERSION}"' in project
