"""What loaders fetch."""

from __future__ import annotations

import re

import httpx

from pxeboot.services import tokens
from tests.api.conftest import Served
from tests.plane import mac


def token_in(script: str) -> str:
    found = re.search(r"pxeboot\.token=([A-Za-z0-9_-]{43})\b", script)
    assert found, script
    return found[1]


async def test_head_and_get_agree_and_only_get_counts(served: Served, client: httpx.AsyncClient) -> None:
    served.room(1)
    operation = served.start(kind="inventory", group="B204")
    head = await client.head(f"/boot/grub/{mac(1)}")
    assert served.operation(operation.id).tasks[0].attempt == 0
    get = await client.get(f"/boot/grub/{mac(1)}")
    assert head.headers["content-length"] == get.headers["content-length"]
    assert head.content == b""
    assert served.operation(operation.id).tasks[0].attempt == 1
    token = token_in(get.text)
    assert token != tokens.NO_TOKEN
    assert f"pxeboot.key={served.services.store.public_key}" in get.text
    assert "pxeboot.mode=task" in get.text
    assert get.headers["cache-control"] == "no-store"


async def test_an_unknown_machine_gets_a_menu_in_both_languages_of_loaders(client: httpx.AsyncClient) -> None:
    grub = await client.get(f"/boot/grub/{mac(9).replace(':', '-')}")
    assert "pxeboot.mode=register-quick" in grub.text
    ipxe = await client.get("/boot/ipxe", params={"mac": mac(9), "uuid": ""})
    assert ipxe.text.startswith("#!ipxe")
    assert len(token_in(ipxe.text)) == 43


async def test_somebody_else_cannot_fetch_a_machines_script(served: Served) -> None:
    served.room(1)
    served.start(kind="inventory", group="B204")
    served.services.leases._neighbour = {"10.20.0.106": mac(6)}.get
    async with served.client(6) as stranger:
        answer = await stranger.get(f"/boot/grub/{mac(1)}")
    assert answer.status_code == 200
    assert "pxeboot.token" not in answer.text


async def test_boot_files(served: Served, client: httpx.AsyncClient) -> None:
    folder = served.settings.boot_dir
    folder.mkdir()
    (folder / "vmlinuz").write_bytes(bytes(range(256)) * 16)
    (served.settings.server.data_dir / "secret").write_text("x")
    whole = await client.get("/boot/files/vmlinuz")
    assert (whole.status_code, len(whole.content)) == (200, 4096)
    assert re.fullmatch(r'"[0-9a-f-]+"', whole.headers["etag"])  # strong
    part = await client.get("/boot/files/vmlinuz", headers={"Range": "bytes=256-511"})
    assert (part.status_code, part.content) == (206, bytes(range(256)))
    head = await client.head("http://10.20.0.1//boot//files//vmlinuz")
    assert (head.status_code, head.headers["content-length"]) == (200, "4096")
    assert head.headers["etag"] == whole.headers["etag"]
    for path in (
        "/boot/files/nothing",
        "/boot/files/%2e%2e/secret",
        "/boot/files/..%2fsecret",
        "/boot/files/",
    ):
        answer = await client.get(path)
        assert answer.status_code in (404, 422), path
        assert answer.headers["content-type"] == "application/problem+json"


async def test_grub_over_http_finds_the_stub_and_no_modules(client: httpx.AsyncClient) -> None:
    stub = await client.get("/grub/grub.cfg")
    assert "configfile" in stub.text
    assert (await client.get("/grub/x86_64-efi/command.lst")).status_code == 404
