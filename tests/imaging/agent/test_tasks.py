"""Tasks from check-in to outcome, over real HTTP and a real store: capture, deploy, and all that can go
wrong.
"""

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from imaging.manifest import Manifest
from imaging.store import ChunkStore
from tests.imaging.agent.conftest import RunAgent
from tests.imaging.agent.images import SIZE, blank, content, make_disk, partitions, store_image
from tests.imaging.agent.room import Room


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_disk(tmp_path_factory.mktemp("disk") / "template.img")


@pytest.fixture
def source(tmp_path: Path, template: Path) -> Path:
    return Path(shutil.copy(template, tmp_path / "source.img"))


def last(room: Room) -> Any:
    assert len(room.outcomes) == 1
    return room.outcomes.pop()


# -- capture --


def test_capture_then_deploy_makes_the_same_disk(
    room: Room, run_agent: RunAgent, source: Path, tmp_path: Path
) -> None:
    before = source.read_bytes()
    room.order("capture")
    status, then, screen = run_agent(disk=source)
    captured = last(room)
    assert (status, then, captured["ok"], captured["code"]) == (0, "reboot", True, "")
    assert captured["manifest"] == room.versions[0]
    assert captured["chunks"]["total"] == 14
    assert captured["chunks"]["written"] + captured["chunks"]["kept"] == 14
    assert captured["bytes_http"] > 5 << 20
    assert source.read_bytes() == before  # a capture never modifies its source
    assert "agent: outcome ok=true" in screen

    target = blank(tmp_path / "target.img", SIZE + (8 << 20))
    room.order("deploy", manifest=room.versions[0], then="poweroff", image={"name": "debian", "version": 1})
    room.then = "poweroff"
    status, then, screen = run_agent(disk=target)
    deployed = last(room)
    assert (status, then, deployed["ok"]) == (0, "poweroff", True), deployed
    assert deployed["verified"] is True
    assert deployed["manifest"] == room.versions[0]
    assert deployed["bytes_multicast"] == 0
    assert content(target) == content(source)
    assert "No problems found" in partitions(target)  # both copies, on a larger disk
    assert set(deployed["seconds"]) >= {"inventory", "scan", "receive", "write", "verify", "customise"}
    assert "Deploying image debian, version 1." in screen


def test_the_server_says_how_hard_to_compress(
    room: Room, run_agent: RunAgent, source: Path, tmp_path: Path
) -> None:
    sent = []
    for level in (1, 19):
        room.store.close()
        room.store = ChunkStore(tmp_path / f"store-{level}", reserve=0)
        room.order("capture", level=level)
        run_agent(disk=source)
        sent.append(int(last(room)["bytes_http"]))
    assert sent[1] < sent[0]


def test_a_second_capture_sends_only_what_is_new(room: Room, run_agent: RunAgent, source: Path) -> None:
    store_image(room, source)
    with open(source, "r+b") as file:
        file.seek((3 << 20) + 5000)
        file.write(b"changed")
    room.order("capture")
    run_agent(disk=source)
    assert last(room)["chunks"] == {"total": 14, "kept": 13, "written": 1}
    assert len(room.versions) == 2


def test_two_disks_become_one_image(room: Room, run_agent: RunAgent, source: Path, tmp_path: Path) -> None:
    second = make_disk(tmp_path / "second.img", 32 << 20, seed=2)
    room.order("capture", capture={"disks": [{"rule": "all"}], "whole": ["unknown"]})
    _status, _then, screen = run_agent(disk=f"{source},{second}")
    assert last(room)["ok"]
    manifest = Manifest.from_bytes(room.store.manifest(room.versions[0])[0])
    assert [disk.size for disk in manifest.disks] == [24 << 20, 32 << 20]
    assert [chunk.disk for chunk in manifest.chunks] == [0] * 14 + [1] * 14
    assert screen.count("Disk: ") == 2


def test_an_option_of_a_newer_server_is_refused(room: Room, run_agent: RunAgent, source: Path) -> None:
    room.order("capture", capture={"frobnicate": True})
    run_agent(disk=source)
    outcome = last(room)
    assert (outcome["ok"], outcome["code"]) == (False, "options-invalid")


def test_a_full_store_is_told_and_no_version_appears(room: Room, run_agent: RunAgent, source: Path) -> None:
    from imaging.errors import StoreFull

    def full() -> None:
        raise StoreFull("images", 1000, 10, 5)

    room.on_put = full
    room.order("capture")
    status, _then, screen = run_agent(disk=source)
    outcome = last(room)
    assert (status, outcome["ok"], outcome["code"]) == (0, False, "store-full")
    assert "no room for 1000 more bytes" in outcome["reason"]
    assert room.versions == []
    assert "Failed: The image store" in screen


# -- deploy --


def test_a_second_deploy_fetches_only_what_changed(
    room: Room, run_agent: RunAgent, source: Path, tmp_path: Path
) -> None:
    manifest = store_image(room, source)
    target = tmp_path / "target.img"
    target.write_bytes(source.read_bytes())
    with open(target, "r+b") as file:
        file.seek(2 << 20)
        file.write(b"a student was here")
    room.order("deploy", manifest=manifest.id)
    run_agent(disk=target)
    outcome = last(room)
    assert (outcome["ok"], outcome["verified"]) == (True, True)
    assert outcome["chunks"] == {"total": 14, "kept": 13, "written": 1}
    assert room.chunks_served == 1
    assert content(target) == content(source)


def test_force_full_fetches_everything(room: Room, run_agent: RunAgent, source: Path, tmp_path: Path) -> None:
    manifest = store_image(room, source)
    target = tmp_path / "target.img"
    target.write_bytes(source.read_bytes())
    room.order("deploy", manifest=manifest.id, force_full=True)
    run_agent(disk=target)
    assert last(room)["chunks"] == {"total": 14, "kept": 0, "written": 14}


def test_a_foreign_disk_is_not_scanned_and_a_known_one_is(
    room: Room, run_agent: RunAgent, tmp_path: Path
) -> None:
    source = blank(tmp_path / "large.img", 100 << 20)
    with open(source, "r+b") as file:
        for chunk in range(100):
            file.seek(chunk << 20)
            file.write(b"%d" % chunk * 100)
    manifest = store_image(room, source)
    target = blank(tmp_path / "target.img", 100 << 20)
    with open(target, "r+b") as file, open(source, "rb") as old:
        file.write(old.read(1 << 20).replace(b"0", b"x"))
    for kept in (0, 100):
        room.order("deploy", manifest=manifest.id)
        run_agent(disk=target)
        assert last(room)["chunks"] == {"total": 100, "kept": kept, "written": 100 - kept}


def test_a_server_killed_and_started_again_in_mid_deploy(
    room: Room, run_agent: RunAgent, source: Path, tmp_path: Path
) -> None:
    manifest = store_image(room, source)
    target = blank(tmp_path / "target.img")
    served = 0
    back: list[threading.Timer] = []

    def die_once(hash: bytes, frame: bytes) -> bytes:
        nonlocal served
        served += 1
        if served == 4:
            threading.Thread(target=room.stop).start()
            back.append(threading.Timer(1.0, room.start))
            back[0].start()
        return frame

    room.on_chunk = die_once
    room.order("deploy", manifest=manifest.id)
    status, _then, screen = run_agent(disk=target, patience=30)
    back[0].join()
    outcome = last(room)
    assert (status, outcome["ok"], outcome["verified"]) == (0, True, True), outcome
    assert "Waiting for the server" in screen
    assert content(target) == content(source)


def test_a_deploy_killed_half_way_goes_on_where_it_was(
    room: Room, run_agent: RunAgent, source: Path, tmp_path: Path
) -> None:
    manifest = store_image(room, source)
    target = blank(tmp_path / "target.img")
    with open(target, "r+b") as file, open(source, "rb") as old:
        old.seek(1 << 20)
        file.seek(1 << 20)
        file.write(old.read(7 << 20))  # seven chunks had been written, no table yet
    room.order("deploy", manifest=manifest.id, attempt=2)
    run_agent(disk=target)
    outcome = last(room)
    assert outcome["ok"]
    assert outcome["chunks"]["kept"] >= 7
    assert content(target) == content(source)


def test_a_frame_damaged_on_the_way_is_fetched_again(
    room: Room, run_agent: RunAgent, source: Path, tmp_path: Path
) -> None:
    manifest = store_image(room, source)
    victim = manifest.chunks[5].hash
    damaged = 0

    def flip(hash: bytes, frame: bytes) -> bytes:
        nonlocal damaged
        if hash == victim and damaged < 2:
            damaged += 1
            return frame[:-5] + bytes([frame[-5] ^ 1]) + frame[-4:]
        return frame

    room.on_chunk = flip
    target = blank(tmp_path / "target.img")
    room.order("deploy", manifest=manifest.id)
    run_agent(disk=target)
    assert last(room)["ok"]
    assert damaged == 2
    assert content(target) == content(source)


def test_a_frame_that_is_always_wrong_ends_in_one_sentence(
    room: Room, run_agent: RunAgent, source: Path, tmp_path: Path
) -> None:
    manifest = store_image(room, source)
    victim, other = manifest.chunks[5].hash, room.store.frame(manifest.chunks[2].hash)
    room.on_chunk = lambda hash, frame: other if hash == victim else frame
    room.order("deploy", manifest=manifest.id)
    run_agent(disk=blank(tmp_path / "target.img"))
    outcome = last(room)
    assert (outcome["ok"], outcome["verified"], outcome["code"]) == (False, False, "chunk-damaged")
    assert victim.hex() in outcome["reason"]


def test_a_chunk_damaged_in_the_store_ends_in_one_sentence(
    room: Room, run_agent: RunAgent, source: Path, tmp_path: Path
) -> None:
    manifest = store_image(room, source)
    pack = next((room.store.path / "packs").iterdir())
    frame = room.store.frame(manifest.chunks[5].hash)
    data = bytearray(pack.read_bytes())
    at = data.find(frame)
    data[at + len(frame) // 2] ^= 0xFF
    pack.write_bytes(data)
    target = blank(tmp_path / "target.img")
    room.order("deploy", manifest=manifest.id)
    status, then, screen = run_agent(disk=target)
    outcome = last(room)
    assert (status, then, outcome["ok"], outcome["code"]) == (0, "reboot", False, "chunk-damaged")
    assert "The server cannot give chunk 5 of 14" in outcome["reason"]
    assert "Traceback" not in screen
    assert target.read_bytes()[512:520] != b"EFI PART"  # half a system must not look like a whole one


def test_a_disk_too_small_is_refused_with_numbers_before_anything_is_written(
    room: Room, run_agent: RunAgent, source: Path, tmp_path: Path
) -> None:
    manifest = store_image(room, source)
    target = blank(tmp_path / "target.img", 8 << 20)
    room.order("deploy", manifest=manifest.id)
    run_agent(disk=target)
    outcome = last(room)
    assert (outcome["ok"], outcome["code"]) == (False, "disk-too-small")
    assert str(8 << 20) in outcome["reason"]
    assert str(manifest.disks[0].minimum_size) in outcome["reason"]
    assert target.read_bytes() == bytes(8 << 20)
    assert room.chunks_served == 0


@pytest.mark.parametrize("what", ["signature", "manifest"])
def test_a_manifest_that_is_not_the_servers_is_refused(
    room: Room, run_agent: RunAgent, source: Path, tmp_path: Path, what: str
) -> None:
    manifest = store_image(room, source)
    target = blank(tmp_path / "target.img")
    room.order("deploy", manifest=manifest.id)
    cmdline = room.cmdline()
    if what == "signature":
        cmdline = cmdline.replace(room.key.hex(), Room.__name__.encode().hex().ljust(64, "0"))
        code = "signature-invalid"
    else:  # rightly signed, but another image than the task names
        other = store_image(room, make_disk(tmp_path / "other.img", seed=2))
        genuine = room.store.manifest
        room.store.manifest = lambda id: genuine(other.id)  # type: ignore[method-assign]
        code = "manifest-foreign"
    run_agent(disk=target, cmdline=cmdline)
    assert last(room)["code"] == code
    assert target.read_bytes() == bytes(SIZE)


def test_cancelled_by_the_server(room: Room, run_agent: RunAgent, source: Path, tmp_path: Path) -> None:
    import time

    manifest = store_image(room, source)
    asked = threading.Event()

    def no(progress: dict[str, Any]) -> tuple[bool, str]:
        asked.set()
        return False, "Cancelled by admin."

    def slow(hash: bytes, frame: bytes) -> bytes:
        time.sleep(0.3)
        return frame

    room.go_on, room.on_chunk = no, slow
    room.order("deploy", manifest=manifest.id)
    status, _then, screen = run_agent(disk=blank(tmp_path / "target.img"))
    outcome = last(room)
    assert asked.is_set()
    assert (status, outcome["ok"], outcome["code"], outcome["reason"]) == (
        0,
        False,
        "cancelled",
        "Cancelled by admin.",
    )
    assert outcome["verified"] is False
    assert "Traceback" not in screen


def test_a_newer_boot_took_the_task_over(
    room: Room, run_agent: RunAgent, source: Path, tmp_path: Path
) -> None:
    import time

    manifest = store_image(room, source)

    def forget(hash: bytes, frame: bytes) -> bytes:
        room.credentials.clear()
        time.sleep(0.3)
        return frame

    room.on_chunk = forget
    room.order("deploy", manifest=manifest.id)
    status, then, screen = run_agent(disk=blank(tmp_path / "target.img"))
    assert room.outcomes == []
    assert (status, then) == (0, "reboot")
    assert "agent: failed code=credential-unknown" in screen


def test_progress_is_told_while_it_happens(
    room: Room, run_agent: RunAgent, source: Path, tmp_path: Path
) -> None:
    import time

    manifest = store_image(room, source)

    def slow(hash: bytes, frame: bytes) -> bytes:
        time.sleep(0.5)
        return frame

    room.on_chunk = slow
    room.order("deploy", manifest=manifest.id)
    run_agent(disk=blank(tmp_path / "target.img"))
    assert last(room)["ok"]
    receiving = [p for p in room.progress if p["stage"] == "receive"]
    assert receiving
    assert all(p["total"] == 14 << 20 and p["done"] <= p["total"] for p in receiving)
    assert receiving[-1]["bytes_http"] > 0


def test_a_disk_that_lies_fails_the_proof(
    room: Room, run_agent: RunAgent, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sector that does not keep what is written to it, whatever is written."""
    from imaging.chunks import write_exactly as genuine

    manifest = store_image(room, source)
    bad = manifest.chunks[4].offset

    def write(fd: int, view: memoryview, offset: int) -> None:
        genuine(fd, memoryview(bytes(view)[:-1] + b"?") if offset == bad else view, offset)

    monkeypatch.setattr("imaging.target.write_exactly", write)
    room.order("deploy", manifest=manifest.id)
    _status, _then, screen = run_agent(disk=blank(tmp_path / "target.img"))
    outcome = last(room)
    assert (outcome["ok"], outcome["verified"], outcome["code"]) == (False, False, "verify-failed")
    assert "1 of 14 chunks read back wrong" in outcome["reason"]
    assert screen.count("agent: verify bad=1 table=ok") == 2


def test_an_error_nobody_thought_of_still_reaches_the_server(
    room: Room, run_agent: RunAgent, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import imaging.agent.deploy as deploy

    def broken(*_: object) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr(deploy, "fetch_manifest", broken)
    room.order("deploy", manifest="00" * 32)
    status, then, screen = run_agent(disk=blank(tmp_path / "target.img"))
    outcome = last(room)
    assert (status, then, outcome["ok"], outcome["code"]) == (0, "reboot", False, "agent-error")
    assert outcome["reason"] == "The agent met an unexpected error: KeyError: 'surprise'."
    assert "Traceback" in screen  # for whoever stands there; the server gets the sentence


def test_inventory_only(room: Room, run_agent: RunAgent) -> None:
    room.order("inventory", then="poweroff")
    room.then = "poweroff"
    status, then, _screen = run_agent()
    assert (status, then) == (0, "poweroff")
    assert last(room)["ok"] is True


def test_a_task_from_the_future_is_refused(room: Room, run_agent: RunAgent) -> None:
    room.order("defragment")
    run_agent()
    outcome = last(room)
    assert (outcome["ok"], outcome["code"]) == (False, "task-unknown")


def test_a_server_that_never_comes_back_is_status_1(room: Room, run_agent: RunAgent, source: Path) -> None:
    room.on_put = room.stop
    room.order("capture")
    status, then, screen = run_agent(disk=source, patience=0.5)
    assert (status, then) == (1, "reboot")
    assert "agent: failed code=server-unreachable" in screen
    assert (room.outcomes, room.versions) == ([], [])
    room.start()
