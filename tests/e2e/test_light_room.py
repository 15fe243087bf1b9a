"""The whole service with simulated hosts: real daemon, real agents, real packets; only firmware is left out.

The tests tell one story in order: each goes on where the one before it ended.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pxeboot.lab import disks, guest, netns, processes
from pxeboot.lab.classroom import ApiProblem, Classroom, Seat
from tests.e2e.browser import Browser

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

STAGE_LIMIT = 300.0
# Slow enough that something can happen in the middle of a deploy.
SETTINGS = {
    "multicast": {"rate_mbit": 160.0, "gather_seconds": 3.0},
    "tasks": {"silence_seconds": 30, "boot_seconds": 120},
}


class LightRoom:
    """A class of simulated hosts, and what the tests do to it."""

    def __init__(self, classroom: Classroom, reference: guest.Guest) -> None:
        self.classroom, self.reference = classroom, reference
        self.source = classroom.simulated_seat("source", reference.size)
        disks.clone(reference.path, self.source.disk)
        self.seats = [classroom.simulated_seat(f"pc{number}", reference.size) for number in (1, 2, 3)]
        self.small = classroom.simulated_seat("small", 512 << 20)

    def deploy(self, seats: list[Seat], image: str = "debian@1", **request: Any) -> str:
        """Start a deploy and press the buttons; the operation."""
        identifier = self.classroom.start("deploy", hosts=[s.host for s in seats], image=image, **request)
        for seat in seats:
            seat.power_on()
        return identifier

    def at_rest(self, seats: list[Seat]) -> None:
        """Wait until these hosts have come to their own disks."""
        for seat in seats:
            seat.sim().wait_off(180)

    def holds(self, seat: Seat) -> None:
        """The disk of a seat is the reference's, apart from what was customised: read without the agent."""
        name = read_file(seat.disk, "/etc/hostname")
        assert name.strip() == seat.host
        assert read_file(seat.disk, "/etc/fstab") == read_file(self.reference.path, "/etc/fstab")


def read_file(disk: Path, path: str) -> str:
    """A file of the root file system on a disk image, by debugfs (nothing is mounted)."""
    return debugfs(disk, f"cat {path}")


def debugfs(disk: Path, command: str, *flags: str) -> str:
    """What debugfs prints for a command on the root file system of a disk image."""
    argv = ["debugfs", *flags, "-R", command, f"{disk}?offset={guest.ROOT_PART.offset}"]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True).stdout


def change_files(disk: Path) -> None:
    """What a student leaves behind: a few files more in the root file system, written by debugfs."""
    note = disk.parent / "left-behind.txt"
    note.write_bytes(random.Random(7).randbytes(300_000))
    for number in range(3):
        debugfs(disk, f"write {note} /root/left-behind-{number}.txt", "-w")
    assert "left-behind-2" in debugfs(disk, "ls /root")


@pytest.fixture(scope="module")
def room(var: Path, boot_files: Path, reference: guest.Guest) -> Iterator[LightRoom]:
    directory = var / "light-room"
    shutil.rmtree(directory, ignore_errors=True)
    with Classroom(directory, boot_files, settings=SETTINGS, say=print) as classroom:
        light = LightRoom(classroom, reference)
        classroom.call("POST", "/groups", {"name": "B204", "name_template": "B204-##"})
        for seat in classroom.seats:
            classroom.register(seat)
        classroom.approve([light.source, light.small])
        classroom.approve(light.seats, "B204")
        yield light
    shutil.rmtree(directory / "server" / "store", ignore_errors=True)
    for disk in directory.glob("*.raw"):
        disk.unlink()


def test_registered_hosts_wait_for_approval_and_say_so(room: LightRoom) -> None:
    host = room.classroom.get(f"/hosts/{room.seats[0].host}")
    assert host["name"].startswith("B204-")
    assert host["state"] == "approved"
    assert host["product"] == "Simulated PC"
    said = room.classroom.server.command("explain", host["name"]).decode()
    assert "local" in said


def test_a_disk_is_captured_as_version_one(room: LightRoom) -> None:
    identifier = room.classroom.start("capture", hosts=[room.source.host], image="debian")
    room.source.power_on()
    done = room.classroom.follow(identifier, STAGE_LIMIT)
    assert done["state"] == "done", done
    version = room.classroom.get("/images/debian")["latest"]
    assert version["name"] == "debian@1"
    assert version["used_bytes"] > 600_000_000
    assert 0 < version["stored_bytes"] < version["used_bytes"]
    room.at_rest([room.source])


def test_a_second_capture_stores_next_to_nothing(room: LightRoom) -> None:
    identifier = room.classroom.start("capture", hosts=[room.source.host], image="debian")
    room.source.power_on()
    assert room.classroom.follow(identifier, STAGE_LIMIT)["state"] == "done"
    first, second = sorted(room.classroom.get("/images/debian")["history"], key=lambda v: v["number"])
    assert second["stored_bytes"] < first["stored_bytes"] / 50
    room.at_rest([room.source])


def test_a_group_is_deployed_by_multicast_and_verified(room: LightRoom) -> None:
    identifier = room.classroom.start("deploy", group="B204", image="debian@1")
    for seat in room.seats:
        seat.power_on()
    done = room.classroom.follow(identifier, STAGE_LIMIT)
    assert done["state"] == "done", done
    stored = room.classroom.get("/images/debian")["history"][-1]["stored_bytes"]
    for task in done["tasks"]:
        assert task["verified"]
        assert task["bytes_multicast"] > 0.8 * stored, "most of it came by multicast"
    room.at_rest(room.seats)
    for seat in room.seats:
        assert seat.sim().boots[-1].kind == "local", "the task is done: it boots its own disk"
        room.holds(seat)


@pytest.mark.browser
def test_a_deploy_scheduled_in_the_browser_sends_only_what_changed(room: LightRoom, tmp_path: Path) -> None:
    change_files(room.seats[0].disk)
    classroom = room.classroom
    with Browser(classroom.technician, tmp_path) as browser:
        page = browser.page
        page.goto(f"http://{classroom.room.server_address}/")
        page.get_by_label("Name").fill("admin")
        page.get_by_label("Password").fill(classroom.server.password())
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("link", name="Deploy", exact=True).click()
        page.get_by_label("Group").select_option("B204")
        page.get_by_label("Image version").select_option("debian@1")
        page.get_by_label("Time zone").fill("UTC")
        soon = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 30))
        page.locator('input[name="at"]').fill(soon)
        page.get_by_role("button", name="Deploy").click()
        page.wait_for_url("**/schedules")
        # The page follows by itself: when the schedule has run, its row leads to the operation.
        link = page.locator("#schedules tbody a")
        link.wait_for(timeout=180_000)
        identifier = link.get_attribute("href").rsplit("/", 1)[1]
        link.click()
        for seat in room.seats:
            seat.power_on()
        page.locator('#operation-state[data-state="done"]').wait_for(timeout=STAGE_LIMIT * 1000)
        assert page.locator('#tasks tr[data-state="done"]').count() == len(room.seats)
        assert page.get_by_text("read again, all chunks match").count() == len(room.seats)
        page.screenshot(path=str(tmp_path / "operation.png"), full_page=True)
    stored = classroom.get("/images/debian")["history"][-1]["stored_bytes"]
    for task in classroom.operation(identifier)["tasks"]:
        assert task["verified"]
        assert task["bytes_multicast"] + task["bytes_http"] < 0.05 * stored, task
    room.at_rest(room.seats)
    for seat in room.seats:
        room.holds(seat)
    assert "left-behind" not in debugfs(room.seats[0].disk, "ls /root")


def test_a_reset_sent_twice_by_curl_with_one_key_runs_once(room: LightRoom) -> None:
    classroom = room.classroom
    before = len(classroom.get("/operations?limit=100")["items"])

    def curl() -> dict[str, Any]:
        command = [
            "curl", "-sSf", "-X", "POST", f"http://{classroom.room.server_address}/api/v1/groups/B204:reset",
            "-H", f"Authorization: Bearer {classroom.server.token()}", "-H", "Idempotency-Key: exam-8-00",
            "-H", "Content-Type: application/json", "-d", '{"image": "debian@1"}',
        ]  # fmt: skip
        answer: dict[str, Any] = json.loads(
            processes.run(command, timeout=120, namespace=classroom.technician)
        )
        return answer

    first, second = curl(), curl()
    assert first["id"] == second["id"]
    assert len(classroom.get("/operations?limit=100")["items"]) == before + 1
    for seat in room.seats:
        seat.power_on()
    assert classroom.follow(first["id"], STAGE_LIMIT)["state"] == "done"
    room.at_rest(room.seats)
    assert curl()["id"] == first["id"], "also after it is over"


def receiving(host: str, share: float = 0.2) -> Any:
    """A condition for `follow`: this host is in mid-deploy."""

    def check(operation: dict[str, Any]) -> bool:
        task = next(task for task in operation["tasks"] if task["host"] == host)
        return task["stage"] in ("receive", "write") and task["done"] > share * task["total"] > 0

    return check


def test_a_host_killed_in_mid_deploy_resumes_and_its_neighbours_do_not_notice(room: LightRoom) -> None:
    victim, *others = room.seats
    for seat in room.seats:
        blank(seat)
    identifier = room.deploy(room.seats)
    room.classroom.follow(identifier, STAGE_LIMIT, until=receiving(victim.host))
    victim.sim().power_off()
    tasks = room.classroom.tasks(identifier)
    assert tasks[victim.host]["state"] == "running"
    # The neighbours finish in their first attempt.
    room.classroom.follow(
        identifier,
        STAGE_LIMIT,
        until=lambda o: all(t["state"] == "done" for t in o["tasks"] if t["host"] != victim.host),
    )
    tasks = room.classroom.tasks(identifier)
    assert all(tasks[seat.host]["attempt"] == 1 for seat in others)
    victim.power_on()
    done = room.classroom.follow(identifier, STAGE_LIMIT)
    assert done["state"] == "done", done
    task = room.classroom.tasks(identifier)[victim.host]
    assert task["attempt"] == 2
    assert task["verified"]
    assert task["result"]["chunks"]["kept"] > 0, "what was on its disk was kept"
    room.at_rest(room.seats)
    room.holds(victim)


def test_a_server_killed_in_mid_deploy_and_started_again_finishes_it(room: LightRoom) -> None:
    for seat in room.seats:
        blank(seat)
    identifier = room.deploy(room.seats)
    room.classroom.follow(identifier, STAGE_LIMIT, until=receiving(room.seats[0].host))
    room.classroom.server.kill()
    time.sleep(2)
    room.classroom.server.start()
    done = room.classroom.follow(identifier, STAGE_LIMIT)
    assert done["state"] == "done", done
    for task in done["tasks"]:
        assert task["verified"]
        assert task["attempt"] == 1, "the agents went on with their credentials"
    room.at_rest(room.seats)
    for seat in room.seats:
        room.holds(seat)


def blank(seat: Seat) -> None:
    """An empty disk again."""
    with seat.disk.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        file.truncate(0)
        file.truncate(size)


# --- wrong input: one clear sentence each, nothing half-written called done ---------------------------------


def test_an_unknown_image_is_one_sentence_in_cli_and_api(room: LightRoom) -> None:
    with pytest.raises(ApiProblem) as caught:
        room.classroom.start("deploy", hosts=[room.seats[0].host], image="debain")
    assert caught.value.status == 404
    assert caught.value.problem["code"] == "image-not-found"
    server = room.classroom.server
    command = [sys.executable, "-m", "pxeboot", "deploy", "debain", "--group", "B204"]
    environment = {**server.environment(), "PXEBOOT_CONFIG": str(server.config)}
    ran = netns.call(
        room.classroom.room.server,
        lambda: subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False),
    )
    assert ran.returncode == 4
    assert ran.stderr.decode().strip().startswith("pxeboot: There is no image 'debain'")
    assert len(ran.stderr.decode().strip().splitlines()) == 1


def test_a_disk_that_is_too_small_is_refused_with_numbers_before_anything_is_written(room: LightRoom) -> None:
    before = room.small.disk.stat().st_blocks
    identifier = room.deploy([room.small])
    done = room.classroom.follow(identifier, STAGE_LIMIT)
    assert done["state"] == "failed"
    task = done["tasks"][0]
    assert task["code"] == "disk-too-small"
    assert any(character.isdigit() for character in task["reason"])
    assert room.small.disk.stat().st_blocks == before
    room.at_rest([room.small])
    assert room.small.sim().boots[-1].kind == "local", "a failed host boots its disk"


def checkin(room: LightRoom, token: str, mac: str, namespace: str) -> tuple[int, dict[str, Any]]:
    client = netns.HttpClient(namespace, room.classroom.room.server_address, room.classroom.server.port)
    answer = client.post(
        "/agent/v1/checkin", json_body={"token": token, "mac": mac, "agent": "test", "inventory": {}}
    )
    return answer.status, answer.json()


def test_a_used_or_foreign_token_is_refused(room: LightRoom) -> None:
    seat, thief = room.seats[0], room.seats[1]
    identifier = room.classroom.start("deploy", hosts=[seat.host], image="debian@1")
    sim = seat.sim()
    entry = sim.fetch_script(sim._ask_dhcp(firmware=True))
    assert entry is not None
    token = entry.parameters["pxeboot.token"]
    status, said = checkin(room, token, sim.mac, thief.sim().namespace)
    assert (status, said["code"]) == (401, "token-foreign"), "another address"
    status, said = checkin(room, "A" * 43, sim.mac, sim.namespace)
    assert (status, said["code"]) == (401, "token-unknown")
    status, _ = checkin(room, token, sim.mac, sim.namespace)
    assert status == 200
    status, said = checkin(room, token, sim.mac, sim.namespace)
    assert (status, said["code"]) == (401, "token-used")
    assert said["detail"].endswith(".")
    assert room.classroom.call("POST", f"/operations/{identifier}:cancel")["state"] == "cancelled"


def test_a_damaged_chunk_in_the_store_fails_the_host_with_a_sentence(room: LightRoom) -> None:
    packs = sorted((room.classroom.server.data_dir / "store").rglob("*.pack"), key=lambda p: p.stat().st_size)
    with packs[-1].open("r+b") as pack:
        size = os.fstat(pack.fileno()).st_size
        pack.seek(size // 2)
        byte = pack.read(1)
        pack.seek(size // 2)
        pack.write(bytes([byte[0] ^ 0x10]))
    seat = room.seats[0]
    blank(seat)
    done = room.classroom.follow(room.deploy([seat], max_attempts=1), STAGE_LIMIT)
    assert done["state"] == "failed", done
    task = done["tasks"][0]
    assert not task["verified"]
    assert task["code"] == "chunk-damaged"
    assert "damaged" in task["reason"] or "chunk" in task["reason"]
    room.at_rest([seat])
    assert room.classroom.get(f"/hosts/{seat.host}")["held_manifest"] == ""
    # And a new capture of the same disk heals the store.
    healed = room.classroom.start("capture", hosts=[room.source.host], image="debian")
    room.source.power_on()
    assert room.classroom.follow(healed, STAGE_LIMIT)["state"] == "done"
    room.at_rest([room.source])
    assert room.classroom.follow(room.deploy([seat]), STAGE_LIMIT)["state"] == "done"
    room.at_rest([seat])


def test_a_store_without_room_refuses_the_capture_and_keeps_no_version(room: LightRoom) -> None:
    server = room.classroom.server
    server.stop()
    text = server.config.read_text()
    assert "reserve_mb = 64" in text
    server.config.write_text(text.replace("reserve_mb = 64", "reserve_mb = 900000000"))
    server.start()
    with pytest.raises(ApiProblem) as caught:
        room.classroom.start("capture", hosts=[room.source.host], image="full", max_attempts=1)
    assert caught.value.status == 507
    assert caught.value.problem["code"] == "store-full"
    assert any(character.isdigit() for character in caught.value.problem["detail"]), "it says how much"
    images = {image["name"]: image for image in room.classroom.get("/images")["items"]}
    assert images.get("full", {"versions": 0})["versions"] == 0
    server.stop()
    server.config.write_text(text)
    server.start()
