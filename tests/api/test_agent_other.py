"""The task plane of wipes, debug shells and rescues, from the check-in to what is left."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import zstandard
from blake3 import blake3

from pxeboot.services import certificates, journal, rescues
from tests.api.conftest import Served
from tests.api.test_agent import checkin
from tests.plane import ip

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
OUTCOME: dict[str, Any] = {"ok": True, "verified": True, "seconds": {"wipe": 3.5}}
DISK: dict[str, Any] = {
    "path": "/dev/sda", "serial": "S1", "model": "Disk", "size": 500, "method": "overwrite", "asked": "auto",
    "passes": 1, "seconds": 3.5, "verified": True, "proof": {"samples": 9, "zeros": 9}, "notes": [],
}  # fmt: skip


def archive() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo("pc1/letter")
        member.size = 5
        tar.addfile(member, io.BytesIO(b"dear\n"))
    return zstandard.compress(out.getvalue())


@pytest.fixture
async def at_work(served: Served) -> AsyncIterator[Any]:
    """`await at_work(kind="wipe", …)`: (client with its credential, base URL, TASK) of pc1 at that task."""
    served.room(1)
    clients = []

    async def begin(**request: Any) -> tuple[httpx.AsyncClient, str, dict[str, Any]]:
        served.start(hosts=["pc1"], **request)
        found = await checkin(served)
        client = served.client(1, found["credential"])
        clients.append(client)
        return client, f"/agent/v1/tasks/{found['task']['id']}", found["task"]

    yield begin
    for client in clients:
        await client.aclose()


async def test_a_wipe_is_believed_with_a_record_of_each_disk_and_certified(
    served: Served, at_work: Any
) -> None:
    asked = {"method": "overwrite", "disks": [{"rule": "all"}]}
    client, base, task = await at_work(kind="wipe", confirm="pc1", wipe=asked)
    assert (task["kind"], task["wipe"]) == ("wipe", asked)
    done = await client.post(f"{base}/progress", json={"stage": "wipe", "done": 1, "total": 2})
    assert done.json()["continue"]
    assert (await client.post(f"{base}/outcome", json=OUTCOME | {"wipe": [DISK]})).status_code == 200
    with served.read() as session:
        found = certificates.certificate(session, task["id"])
    assert (found.host, found.complete, found.disks) == ("pc1", True, [DISK])
    text = certificates.as_text(found)
    assert "all disks wiped and verified" in text
    assert "9 places read again, 9 zeros" in text


@pytest.mark.parametrize("wiped", [None, [], [DISK, DISK | {"verified": False}]])
async def test_a_wipe_without_proof_is_not_believed(served: Served, at_work: Any, wiped: Any) -> None:
    client, base, task = await at_work(kind="wipe", confirm="pc1")
    await client.post(f"{base}/outcome", json=OUTCOME | ({"wipe": wiped} if wiped is not None else {}))
    with served.read() as session:
        found = certificates.certificate(session, task["id"])
    assert not found.complete
    assert "agent reported success" in found.reason
    assert "NOT COMPLETE" in certificates.as_text(found)


async def test_an_open_shell_is_where_its_agent_calls_from(served: Served, at_work: Any) -> None:
    client, base, task = await at_work(kind="shell", shell={"keys": [f"{KEY} ada"], "minutes": 5})
    assert task["shell"] == {"keys": [f"{KEY} ada"], "minutes": 5}
    wrong = await client.post(f"{base}/shell", json={"port": 22, "host_key": "ssh-ed25519 AAAA"})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "host_key")
    opened = await client.post(f"{base}/shell", json={"port": 22, "host_key": KEY, "address": "10.9.9.9"})
    assert opened.json()["fingerprint"].startswith("SHA256:")
    with served.read() as session:
        where = certificates.tasks.row(session, task["id"]).result["shell"]
    assert (where["address"], where["host_key"], where["attempt"]) == (ip(1), KEY, 1)
    rescue = await client.put(f"{base}/rescue?offset=0", content=b"x")
    assert (rescue.status_code, rescue.json()["detail"]) == (409, "A shell task has no files to send.")
    await client.post(
        f"{base}/outcome", json=OUTCOME | {"shell_logins": [{"address": "10.20.0.9", "key": "k"}]}
    )
    with served.read() as session:
        result = certificates.tasks.row(session, task["id"]).result
    assert result["shell"]["address"] == ip(1)
    assert result["shell_logins"] == [{"address": "10.20.0.9", "key": "k"}]


async def test_pieces_of_a_rescue_may_come_twice_but_never_with_a_gap(served: Served, at_work: Any) -> None:
    client, base, task = await at_work(kind="rescue", rescue={"paths": ["C:\\Users\\*", "/home"]})
    assert task["rescue"] == {"paths": ["Users/*", "home"]}
    data = archive()
    facts = {"size": len(data), "blake3": blake3(data).hexdigest(), "files": 1, "unreadable": [["a", "b"]]}
    early = await client.post(f"{base}/rescue", json=facts)
    assert (early.status_code, early.json()["detail"]) == (409, "No archive has come for this task.")
    for offset, piece in ((0, data[:50]), (0, data[:50]), (50, data[50:]), (50, data[50:])):
        assert (await client.put(f"{base}/rescue?offset={offset}", content=piece)).status_code == 200
    gap = await client.put(f"{base}/rescue?offset={len(data) + 1}", content=b"x")
    assert (gap.status_code, gap.json()["size"]) == (409, len(data))
    assert (await client.post(f"{base}/rescue", json=facts | {"blake3": "0" * 64})).status_code == 409
    kept = await client.post(f"{base}/rescue", json=facts)
    assert kept.json() == {"id": task["id"]}
    assert (await client.post(f"{base}/rescue", json=facts)).json() == kept.json()
    await client.post(f"{base}/outcome", json=OUTCOME)
    with served.read() as session:
        (found,) = rescues.list_rescues(session).items
    assert (found.host, found.size, found.facts["files"]) == ("pc1", len(data), 1)
    assert found.expires_at is not None
    assert served.services.rescues.path(found.id).read_bytes() == data


async def test_a_rescue_without_an_archive_is_not_believed(served: Served, at_work: Any) -> None:
    client, base, task = await at_work(kind="rescue", rescue={"paths": ["home"]})
    await client.post(f"{base}/outcome", json=OUTCOME)
    with served.read() as session:
        assert certificates.tasks.row(session, task["id"]).code == "outcome-contradicts"


async def test_what_has_no_room_is_refused_with_numbers(served: Served, at_work: Any) -> None:
    client, base, _ = await at_work(kind="rescue", rescue={"paths": ["home"]})
    full = await client.put(f"{base}/rescue?offset=0&needed={1 << 60}", content=b"")
    assert (full.status_code, full.json()["code"]) == (507, "rescue-full")
    assert "choose less" in full.json()["detail"]
    over = await client.put(f"{base}/rescue?offset=0&needed={300_000_000_000}", content=b"")
    assert over.status_code == 507


async def test_archives_go_when_their_time_is_over(served: Served, at_work: Any) -> None:
    client, base, task = await at_work(kind="rescue", rescue={"paths": ["home"]})
    data = archive()
    await client.put(f"{base}/rescue?offset=0", content=data)
    await client.post(
        f"{base}/rescue", json={"size": len(data), "blake3": blake3(data).hexdigest(), "files": 1}
    )
    place = served.services.rescues.path(task["id"])
    served.services.forget_rescues(datetime.now(UTC) + timedelta(days=13))
    assert place.exists()
    served.services.forget_rescues(datetime.now(UTC) + timedelta(days=15))
    assert not place.exists()
    served.services.journal.flush()
    with served.read() as session:
        assert rescues.list_rescues(session).items == []
        assert journal.list_events(session, kind="rescue.deleted").items


def test_an_archive_cannot_be_named_out_of_its_folder(served: Served) -> None:
    for name in ("../pxeboot", "a" * 31, "A" * 32, "a" * 32 + "/..", ""):
        with pytest.raises(Exception, match="There is no rescue"):
            served.services.rescues.write(name, 0, b"x")
