"""The task plane, from a machine's first word to its last, over a real chunk store."""

from __future__ import annotations

import os
import struct
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from imaging.chunks import compress, hash_chunk
from imaging.manifest import CHUNK_SIZE, DiskImage, Manifest, Runs
from pxeboot.services import images, journal, operations
from tests.api.conftest import Served
from tests.api.test_boot import token_in
from tests.plane import ip, mac

CHUNKS = [os.urandom(1000).ljust(CHUNK_SIZE, b"\0"), b"\x01" * CHUNK_SIZE, os.urandom(CHUNK_SIZE)]
HASHES = [hash_chunk(chunk) for chunk in CHUNKS]
# An image of two disks: the server knows chunks, not disks.
MANIFEST = Manifest(
    [
        DiskImage(2 * CHUNK_SIZE, 512, None, (), Runs([(0, 2 * CHUNK_SIZE)]), b"".join(HASHES[:2])),
        DiskImage(CHUNK_SIZE, 4096, None, (), Runs([(0, CHUNK_SIZE)]), HASHES[2]),
    ]
)
INVENTORY = {
    "firmware": "bios",
    "serial": "ABC",
    "product": "Box",
    "nics": [{"mac": mac(1)}, {"mac": mac(51)}],
}


def record(hash: bytes, chunk: bytes) -> bytes:
    frame = compress(chunk)
    return struct.pack(">32sI", hash, len(frame)) + frame


RECORDS = b"".join(map(record, HASHES, CHUNKS))


async def script(client: httpx.AsyncClient, number: int) -> str:
    """What its GRUB does; at a menu, somebody chooses to register."""
    text = (await client.get(f"/boot/grub/{mac(number)}")).text
    if "register-quick" in text:
        text = (await client.get(f"/boot/grub/x86_64-efi/{mac(number)}/register-quick")).text
    return text


async def checkin(served: Served, number: int = 1, token: str = "") -> dict[str, Any]:
    async with served.client(number) as client:
        if not token:
            token = token_in(await script(client, number))
        answer = await client.post(
            "/agent/v1/checkin",
            json={"token": token, "mac": mac(number), "agent": "1", "inventory": INVENTORY},
        )
    body: dict[str, Any] = answer.json()
    return {"status": answer.status_code, **body}


def capture(served: Served) -> str:
    served.room(1)
    return served.start(kind="capture", hosts=["pc1"], image="fresh").id


async def upload(client: httpx.AsyncClient, task: str) -> dict[str, Any]:
    await client.put(f"/agent/v1/tasks/{task}/chunks", content=RECORDS)
    answer = await client.post(f"/agent/v1/tasks/{task}/manifest", content=MANIFEST.to_bytes())
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


OUTCOME = {
    "ok": True, "reason": "", "code": "", "verified": True, "manifest": MANIFEST.id, "bytes_multicast": 0,
    "bytes_http": 5, "seconds": {"scan": 0.5}, "chunks": {"total": 3, "kept": 0, "written": 3},
}  # fmt: skip


async def test_registration_at_the_console(served: Served) -> None:
    found = await checkin(served)
    assert (found["status"], found["host"], found["task"]) == (200, None, None)
    async with served.client(1, found["credential"]) as client:
        offer = (await client.get("/agent/v1/registration")).json()
        assert offer == {"suggested_name": "PC-001", "groups": [], "images": []}
        nulls = {"name": None, "group": None, "image": None}
        done = (await client.post("/agent/v1/registration", json=nulls)).json()
        assert done == {"name": "PC-001", "state": "pending", "then": "reboot"}
        assert (await client.post("/agent/v1/registration", json=nulls)).json() == done
    again = await checkin_refused(served)
    assert "waits for approval" in again


async def checkin_refused(served: Served) -> str:
    async with served.client(1) as client:
        return (await client.get(f"/boot/grub/{mac(1)}")).text


async def test_a_capture_then_a_deploy(served: Served) -> None:
    operation = capture(served)
    found = await checkin(served)
    task = found["task"]
    assert task["kind"] == "capture"
    assert task["image"] == {"name": "fresh", "version": None}
    assert task["level"] == 3
    assert found["host"] == {"id": 1, "name": "pc1", "state": "approved"}
    async with served.client(1, found["credential"]) as client:
        base = f"/agent/v1/tasks/{task['id']}"
        go_on = await client.post(f"{base}/progress", json={"stage": "scan", "done": 1, "total": 3})
        assert go_on.json() == {"continue": True, "reason": ""}
        early = await client.post(f"{base}/manifest", content=MANIFEST.to_bytes())
        assert (early.status_code, early.json()["code"]) == (409, "manifest-incomplete")
        missing = await client.post(f"{base}/missing", content=b"".join(HASHES))
        assert missing.content == b"\1\1\1"
        put = await client.put(f"{base}/chunks", content=pieces(RECORDS))
        assert put.json() == {"stored": 3}
        assert (await client.post(f"{base}/missing", content=b"".join(HASHES))).content == b"\0\0\0"
        made = await client.post(f"{base}/manifest", content=MANIFEST.to_bytes())
        assert made.json() == {"image": "fresh", "version": 1, "manifest": MANIFEST.id}
        done = await client.post(f"{base}/outcome", json=OUTCOME)
        assert done.json() == {"then": "reboot"}
    assert served.operation(operation).state == "done"
    with served.read() as session:
        version = images.resolve(session, "fresh@1")
    assert (version.chunks, version.disk_bytes) == (3, 3 * CHUNK_SIZE)
    assert 0 < version.stored_bytes <= len(RECORDS)

    served.start(kind="deploy", group="B204", image="fresh", transport="http", set_hostname=False)
    found = await checkin(served)
    task = found["task"]
    assert task["manifest"] == MANIFEST.id
    assert task["session"] is None
    assert (task["customise"]["hostname"], task["customise"]["windows"]["name"]) == (None, "keep")
    async with served.client(1, found["credential"]) as client:
        manifest = await client.get(f"/agent/v1/manifests/{task['manifest']}")
        signature = bytes.fromhex(manifest.headers["x-pxeboot-signature"])
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(served.services.store.public_key))
        key.verify(signature, manifest.content)
        assert blake3(manifest.content).hexdigest() == MANIFEST.id
        chunk = await client.get(f"/agent/v1/chunks/{HASHES[0].hex()}")
        assert chunk.content == compress(CHUNKS[0])
        assert "immutable" in chunk.headers["cache-control"]
        assert (await client.get(f"/agent/v1/tasks/{task['id']}/session")).status_code == 204
        done = await client.post(f"/agent/v1/tasks/{task['id']}/outcome", json=OUTCOME)
        assert done.status_code == 200
    with served.read() as session:
        assert operations.list_operations(session, host="pc1").items[0].state == "done"


async def pieces(data: bytes, size: int = 70_001) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def test_each_token_refusal_has_its_code_and_is_journalled(served: Served) -> None:
    found = await checkin(served)
    assert found["status"] == 200
    async with served.client(1) as client:
        token = token_in(await script(client, 1))
    foreign = await checkin(served, 2, token)
    assert (foreign["status"], foreign["code"]) == (401, "token-foreign")
    assert (await checkin(served, 1, token))["status"] == 200
    assert (await checkin(served, 1, token))["code"] == "token-used"
    assert (await checkin(served, 1, "n" * 43))["code"] == "token-unknown"
    served.services.journal.flush()
    with served.read() as session:
        kinds = [event.data["code"] for event in journal.list_events(session, kind="agent.refused").items]
    assert kinds == ["token-unknown", "token-used", "token-foreign"]


async def test_nothing_without_a_credential_and_nothing_with_anothers(served: Served) -> None:
    served.room(2)
    served.start(kind="deploy", group="B204", image="debian")
    mine, other = await checkin(served, 1), await checkin(served, 2)
    async with served.client(1) as client:
        for method, path in (
            ("GET", "/agent/v1/registration"),
            ("GET", f"/agent/v1/chunks/{'0' * 64}"),
            ("POST", f"/agent/v1/tasks/{mine['task']['id']}/missing"),
            ("PUT", f"/agent/v1/tasks/{mine['task']['id']}/chunks"),
        ):
            answer = await client.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (401, "credential-missing")
    theirs = f"/agent/v1/tasks/{other['task']['id']}"
    async with served.client(1, mine["credential"]) as client:
        for method, path, body in (
            ("POST", f"{theirs}/progress", {"stage": "scan"}),
            ("POST", f"{theirs}/outcome", OUTCOME),
            ("POST", f"{theirs}/missing", None),
            ("PUT", f"{theirs}/chunks", None),
            ("POST", f"{theirs}/manifest", None),
            ("GET", f"{theirs}/session", None),
        ):
            answer = (
                await client.request(method, path, json=body) if body else await client.request(method, path)
            )
            assert (answer.status_code, answer.json()["code"]) == (401, "token-foreign"), path


@pytest.fixture
async def capturing(served: Served) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    capture(served)
    found = await checkin(served)
    async with served.client(1, found["credential"]) as client:
        yield client, f"/agent/v1/tasks/{found['task']['id']}"


Capturing = tuple[httpx.AsyncClient, str]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (record(HASHES[0], CHUNKS[1]), 422, "chunk-damaged"),
        (struct.pack(">32sI", HASHES[0], 5) + b"rubbi", 422, "chunk-damaged"),
        (RECORDS[:-1], 422, "invalid"),
        (struct.pack(">32sI", HASHES[0], 1 << 31), 422, "invalid"),
        (struct.pack(">32sI", HASHES[0], 0), 422, "invalid"),
    ],
    ids=["another chunk", "not zstd", "cut off", "too long", "empty"],
)
async def test_uploads_that_are_not_what_they_say(
    capturing: Capturing, served: Served, body: bytes, status: int, code: str
) -> None:
    client, base = capturing
    answer = await client.put(f"{base}/chunks", content=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    missing = await client.post(f"{base}/missing", content=HASHES[2])
    assert missing.content == b"\1"


async def test_a_full_store_says_so(capturing: Capturing, served: Served) -> None:
    client, base = capturing
    served.services.store._store._parts.packs.reserve = 1 << 62
    answer = await client.put(f"{base}/chunks", content=RECORDS)
    assert (answer.status_code, answer.json()["code"]) == (507, "store-full")
    assert "has no room" in answer.json()["detail"]


async def test_a_capture_that_does_not_fit_hears_it_before_it_starts(capturing: Capturing) -> None:
    client, base = capturing
    answer = await client.post(f"{base}/missing?needed=1000", content=HASHES[2])
    assert (answer.status_code, answer.content) == (200, b"\1")
    answer = await client.post(f"{base}/missing?needed={1 << 60}", content=b"")
    assert (answer.status_code, answer.json()["code"]) == (507, "store-full")
    assert f"no room for {1 << 60} more bytes" in answer.json()["detail"]


async def test_a_damaged_chunk_is_gone_and_a_missing_one_missing(
    capturing: Capturing, served: Served
) -> None:
    client, base = capturing
    await upload(client, base.rsplit("/", 1)[1])
    (pack,) = (served.settings.store_dir / "packs").iterdir()
    raw = bytearray(pack.read_bytes())
    raw[-100] ^= 0xFF
    pack.write_bytes(raw)
    answer = await client.get(f"/agent/v1/chunks/{HASHES[2].hex()}")
    assert (answer.status_code, answer.json()["code"]) == (410, "chunk-damaged")
    answer = await client.get(f"/agent/v1/chunks/{'0' * 64}")
    assert (answer.status_code, answer.json()["code"]) == (404, "chunk-missing")
    assert (await client.get("/agent/v1/chunks/nonsense")).status_code == 404


async def test_an_agent_hears_that_its_task_was_cancelled(capturing: Capturing, served: Served) -> None:
    client, base = capturing
    with served.write() as session:
        operation = operations.list_operations(session).items[0]
        operations.cancel(session, operation.id, actor="ada")
    answer = await client.post(f"{base}/progress", json={"stage": "scan"})
    assert answer.json() == {"continue": False, "reason": "Cancelled by ada."}
    upload = await client.put(f"{base}/chunks", content=RECORDS)
    assert (upload.status_code, upload.json()["code"]) == (401, "task-over")
    assert (await client.post(f"{base}/outcome", json=OUTCOME)).json() == {"then": "reboot"}


async def test_the_inventory_is_kept(served: Served) -> None:
    served.room(1)
    served.start(kind="inventory", group="B204")
    await checkin(served)
    with served.read() as session:
        from pxeboot.services import hosts

        host = hosts.get_host(session, "pc1")
    assert (host.firmware, host.serial, host.product) == ("bios", "ABC", "Box")
    assert host.macs == [mac(1), mac(51)]
    assert host.address == ip(1)


def test_multicast_session_is_offered_and_survives_a_restart(served: Served) -> None:
    served.room(2)
    served.services.sessions._address = "10.20.0.1"
    served.start(kind="deploy", group="B204", image="debian")
    tasks = [served.checkin(n, served.boot(n).token).task for n in (1, 2)]
    offered = []
    for task in tasks:
        assert task is not None
        with served.write() as session:
            offered.append(served.services.sessions.session_for(session, task.id))
    assert offered[0] == offered[1]
    assert offered[0] is not None
    assert offered[0]["group"] == "239.192.0.0"
    assert offered[0]["report"] == ["10.20.0.1", 9001]
    from pxeboot.adapters.multicast import SessionManager

    after = SessionManager(
        served.settings, served.database, served.services.journal, served.services.store.path, "10.20.0.1"
    )
    with served.write() as session:
        assert after.session_for(session, tasks[0].id) == offered[0]  # type: ignore[union-attr]
