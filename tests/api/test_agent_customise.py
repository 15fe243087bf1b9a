"""The task plane gives an agent its order with its secrets once, its files, and nobody else's."""

from __future__ import annotations

from typing import Any

import httpx
from blake3 import blake3

from pxeboot.services import customise, file_drops, journal, lookup, scripts, secrets
from tests.api.conftest import Served
from tests.api.test_agent import OUTCOME, checkin
from tests.plane import MANIFEST

WALL = bytes(range(256)) * 40


async def pieces() -> Any:
    yield WALL


async def prepared(served: Served) -> str:
    """A deploy for pc1 with a file, drivers, a script and a domain join; the file's hash."""
    served.room(2)
    hash, size = await served.services.files.add(pieces())
    driver = served.services.files.driver_root / "Box*" / "*" / "net.inf"
    driver.parent.mkdir(parents=True)
    driver.write_text("[Version]")
    with served.write() as session:
        lookup.host(session, "pc1").manufacturer = "Box Ltd"
        lookup.host(session, "pc1").product = "Box"
        file_drops.create_drop(session, name="wall", path="/usr/share/wall.jpg")
        file_drops.set_content(session, "wall", hash, size, None)
        scripts.create_script(session, name="printers", text="true")
        secrets.set_secret(session, served.services.secrets_key, "join", "Tr3s-secret")
        customise.change(
            session, "group", "B204",
            {"files": ["wall"], "scripts": ["printers"],
             "windows": {"join": {"domain": "x.local", "user": "joiner", "password": "join"}}},
        )  # fmt: skip
    served.start(kind="deploy", hosts=["pc1"], image="debian")
    return hash


async def test_an_order_with_secrets_is_given_once_and_journalled_without_them(served: Served) -> None:
    hash = await prepared(served)
    said = await checkin(served)
    order = said["task"]["customise"]
    assert order["hostname"] == "pc1"
    assert order["windows"]["join"]["password"] == "Tr3s-secret"
    assert order["files"][0]["hash"] == hash
    assert order["environment"]["PXEBOOT_SERVER"] == "http://10.20.0.1"
    served.services.journal.stop()
    with served.read() as session:
        events = journal.list_events(session, limit=200).items
    assert "secrets.delivered" in [event.kind for event in events]
    assert "Tr3s-secret" not in str(events)
    async with served.client(1, said["credential"]) as client:
        for path in ("tasks/{}/session", "manifests/" + MANIFEST):
            answer = await client.get("/agent/v1/" + path.format(said["task"]["id"]))
            assert "Tr3s-secret" not in answer.text


async def test_files_and_drivers_of_the_own_task_can_be_fetched_from_any_byte_on(served: Served) -> None:
    hash = await prepared(served)
    said = await checkin(served)
    task = f"/agent/v1/tasks/{said['task']['id']}"
    async with served.client(1, said["credential"]) as client:
        whole = await client.get(f"{task}/files/{hash}")
        assert (whole.status_code, whole.content) == (200, WALL)
        rest = await client.get(f"{task}/files/{hash}", headers={"Range": "bytes=100-"})
        assert (rest.status_code, rest.content) == (206, WALL[100:])
        listed = said["task"]["customise"]["windows"]["drivers"]["files"]
        assert listed == [{"path": "Box*/*/net.inf", "size": 9}]
        driver = await client.get(f"{task}/drivers/Box%2A/%2A/net.inf")
        assert driver.content == b"[Version]"
        assert driver.headers["x-pxeboot-blake3"] == blake3(b"[Version]").hexdigest()
        for path in ("files/" + "ab" * 32, "files/..", "drivers/Box*/*/../../x", "drivers/a/b/c"):
            assert (await client.get(f"{task}/{path}")).status_code in (404, 307), path
        assert (await client.get(f"/agent/v1/tasks/other/files/{hash}")).status_code == 401
    async with served.client(1) as stranger:
        assert (await stranger.get(f"{task}/files/{hash}")).status_code == 401


async def test_the_steps_are_kept_with_the_task(served: Served) -> None:
    await prepared(served)
    said = await checkin(served)
    steps = [{"step": "script", "name": "printers", "where": "partition 1", "ok": False, "seconds": 0.5,
              "output": "no printer", "more": 1}]  # fmt: skip
    outcome = {**OUTCOME, "ok": False, "code": "customise-failed", "reason": "The post script printers …",
               "manifest": MANIFEST, "customise": steps}  # fmt: skip
    async with served.client(1, said["credential"]) as client:
        task = said["task"]["id"]
        await post(
            client, f"/agent/v1/tasks/{task}/progress", {"stage": "customise", "message": "script printers"}
        )
        await post(client, f"/agent/v1/tasks/{task}/outcome", outcome)
    with served.read() as session:
        from pxeboot.services import tasks

        view = tasks.get(session, task)
    assert (view.state, view.code) == ("failed", "customise-failed")
    assert view.result["customise"] == [{key: steps[0][key] for key in steps[0] if key != "more"}]


async def post(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
