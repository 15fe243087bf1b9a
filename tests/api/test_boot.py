"""What loaders fetch."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest
from sqlmodel import select

from pxeboot.db.models import BootEntry, BootToken
from pxeboot.services import boots, journal, lookup, tokens
from pxeboot.services.auth import FREE_FAILURES, Throttle
from pxeboot.services.entry_passwords import sealed
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
    own = mac(9).replace(":", "-")
    grub = await client.get(f"/boot/grub/{own}")
    assert f"configfile '(http,10.20.0.1)/boot/grub/x86_64-efi/{own}/register-quick'" in grub.text
    ipxe = await client.get("/boot/ipxe", params={"mac": mac(9), "uuid": ""})
    assert ipxe.text.startswith("#!ipxe")
    assert "&choice=register-full ||" in ipxe.text


async def test_who_chooses_to_register_gets_a_token_then_however_long_the_menu_waited(
    served: Served, client: httpx.AsyncClient
) -> None:
    for menu in (f"/boot/grub/{mac(1)}", f"/boot/ipxe?mac={mac(1)}&uuid=&platform=pcbios"):
        assert "pxeboot.token" not in (await client.get(menu)).text
    with served.read() as session:
        assert session.exec(select(BootToken)).all() == []
    for chosen, mode in (
        (f"/boot/grub/x86_64-efi/{mac(1)}/register-quick", "register-quick"),
        (f"/boot/ipxe?mac={mac(1)}&uuid=&platform=pcbios&choice=register-full", "register-full"),
    ):
        head, get = await client.head(chosen), await client.get(chosen)
        assert head.headers["content-length"] == get.headers["content-length"]
        assert f"pxeboot.mode={mode}" in get.text
        assert get.headers["cache-control"] == "no-store"
        checkin = {"token": token_in(get.text), "mac": mac(1), "agent": "1", "inventory": {}}
        assert (await client.post("/agent/v1/checkin", json=checkin)).status_code == 200


async def test_a_choice_counts_at_the_menu_it_was_made_at_only(
    served: Served, client: httpx.AsyncClient
) -> None:
    choice = f"/boot/grub/x86_64-efi/{mac(1)}/register-quick"
    served.services.leases._neighbour = {"10.20.0.106": mac(6)}.get
    async with served.client(6) as stranger:
        assert "pxeboot.token" not in (await stranger.get(choice)).text
    assert "pxeboot.token" not in (await client.get(f"/boot/ipxe?mac={mac(1)}&choice=task")).text
    served.room(1)  # meanwhile somebody registered it elsewhere
    assert "pxeboot.token" not in (await client.get(choice)).text


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


async def test_the_tree_is_the_same_by_http(served: Served, client: httpx.AsyncClient) -> None:
    for path in ("/grub/x86_64-efi/grub.cfg", "/boot/files/grub/grub.cfg-01-52-54-00-00-00-01"):
        answer = await client.get(path)
        assert "configfile" in answer.text
        assert answer.headers["content-length"] == str(len(answer.content))
    assert (await client.get("/boot/files/autoexec.ipxe")).text.startswith("#!ipxe")
    assert "ipxe.lkrn" in (await client.get("/boot/files/pxelinux.cfg/default")).text
    (served.settings.boot_dir / "grub").mkdir(parents=True)
    (served.settings.boot_dir / "grub/grub.cfg").write_text("echo ours")
    assert (await client.get("/grub/grub.cfg")).text == "echo ours"


async def test_preconditions(served: Served, client: httpx.AsyncClient) -> None:
    served.settings.boot_dir.mkdir()
    (served.settings.boot_dir / "shimx64.efi").write_bytes(b"0123456789")
    whole = await client.get("/boot/files/shimx64.efi")
    assert whole.headers["content-type"] == "application/efi"
    etag, date = whole.headers["etag"], whole.headers["last-modified"]
    for headers, status in (
        ({"If-Match": etag}, 200),
        ({"If-Match": '"other", ' + etag}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": '"other"'}, 412),
        ({"If-Match": "W/" + etag}, 412),  # strong comparison (RFC 9110 §13.1.1)
        ({"If-Unmodified-Since": date}, 200),
        ({"If-Unmodified-Since": "Thu, 01 Jan 2015 00:00:00 GMT"}, 412),
        ({"If-Unmodified-Since": "yesterday"}, 200),
        ({"If-None-Match": etag}, 304),
        ({"If-None-Match": "W/" + etag}, 304),
        ({"If-None-Match": '"other"', "If-Modified-Since": date}, 200),
        ({"If-Modified-Since": date}, 304),
        ({"Range": "bytes=4-", "If-Match": etag}, 206),
        ({"Range": "bytes=4-", "If-Match": '"other"'}, 412),
        ({"Range": "bytes=4-", "If-Range": '"other"'}, 200),
        ({"Range": "bytes=99-"}, 416),
    ):
        answer = await client.get("/boot/files/shimx64.efi", headers=headers)
        assert answer.status_code == status, headers
        if status == 206:
            assert (answer.content, answer.headers["content-range"]) == (b"456789", "bytes 4-9/10")
        if status == 412:
            assert answer.content  # firmware has trouble with refusals that have no body


async def test_other_grubs_have_addresses_of_their_own(client: httpx.AsyncClient) -> None:
    pc = await client.get(f"/boot/grub/i386-pc/{mac(9)}")
    assert "(http,10.20.0.1)/boot/grub/i386-pc/52-54-00-00-00-09" in pc.text
    arm = await client.get(f"/boot/grub/arm64-efi/{mac(9)}")
    assert "BOOTAA64.EFI" in arm.text
    assert (await client.get(f"/boot/grub/sparc64-ieee1275/{mac(9)}")).status_code == 404
    handed = await client.get(f"/boot/grub/i386-pc/{mac(9)}/partition:hd0,msdos2")
    assert "(hd0,msdos2)" in handed.text
    assert (await client.get(f"/boot/grub/i386-pc/{mac(9)}/halt")).status_code == 404


async def test_what_a_machine_reads_is_journaled_once(served: Served, client: httpx.AsyncClient) -> None:
    served.room(1)
    served.settings.boot_dir.mkdir()
    (served.settings.boot_dir / "vmlinuz").write_bytes(b"x" * 100)
    served.services.leases._neighbour = {"10.20.0.101": mac(1)}.get
    await client.head("/boot/files/vmlinuz")
    for part in ("bytes=0-49", "bytes=50-"):
        await client.get("/boot/files/vmlinuz", headers={"Range": part})
    await client.get("/boot/files/revocations.efi")
    served.services.journal.flush()
    with served.read() as session:
        events = journal.list_events(session, mac=mac(1), plane="http").items
    assert [event.kind for event in events] == ["http.absent", "http.file"]
    assert "vmlinuz" in events[1].sentence


async def test_names_that_no_file_can_have_are_no_accident(served: Served, client: httpx.AsyncClient) -> None:
    served.settings.boot_dir.mkdir(parents=True, exist_ok=True)
    for name in ("a" * 300, "a" * 5000, "x/" * 2000 + "y"):
        answer = await client.get(f"/boot/files/{name}")
        assert answer.status_code in (404, 422)


def protected(served: Served, **rules: object) -> None:
    """A room whose machines see a menu with one protected entry."""
    served.room(1)
    with served.write() as session:
        row = lookup.group(session, "B204")
        row.boot = {"menu": "always", **rules}
        session.add(row)
        session.add(
            BootEntry(name="tools", title="Tools", kind="shell", password_hash=sealed("open-sesame"), key="t")
        )


def asks(user: str = "tools", password: str = "open-sesame", name: str = "tools") -> dict[str, str]:
    return {
        "mac": mac(1),
        "name": name,
        "platform": "pcbios",
        "user": user.encode().hex(),
        "password": password.encode().hex(),
    }


async def test_a_protected_entry_needs_its_password(
    served: Served, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boots, "_throttle", Throttle())
    protected(served)
    menu = await client.get("/boot/ipxe", params={"mac": mac(1)})
    assert "\nshell " not in menu.text
    for send in (
        lambda data: client.get("/boot/ipxe/entry", params=data),
        lambda data: client.post("/boot/ipxe/entry", data=data),
    ):
        given = await send(asks())
        assert "\nshell ||" in given.text
        for wrong in (asks(password="open-says-me"), asks(user="admin"), asks() | {"password": "zz"}):
            refused = await send(wrong)
            assert "password is wrong" in refused.text
            assert "\nshell " not in refused.text
            await send(asks())  # forgets the failure
    served.services.journal.flush()
    with served.read() as session:
        said = " ".join(event.sentence + str(event.data) for event in journal.list_events(session).items)
    assert "with its password" in said
    assert "open-sesame" not in said
    assert b"open-sesame".hex() not in said


async def test_a_machine_known_by_its_uuid_alone_is_given_its_groups_entry(
    served: Served, client: httpx.AsyncClient
) -> None:
    uuid = "4c4c4544-0036-3510-8052-b4c04f303532"  # it boots over the network card of a dock
    protected(served)
    with served.write() as session:
        lookup.host(session, "pc1").uuid = uuid
        lookup.entry(session, "tools").group_id = lookup.group(session, "B204").id
    menu = await client.get("/boot/ipxe", params={"mac": mac(9), "uuid": uuid})
    assert "entry-tools" in menu.text
    assert "&uuid=${uuid}&" in menu.text
    assert "param uuid ${uuid}" in menu.text
    given = await client.post("/boot/ipxe/entry", data=asks() | {"mac": mac(9), "uuid": uuid})
    assert "\nshell ||" in given.text


async def test_guessing_passwords_becomes_slow(
    served: Served, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boots, "_throttle", Throttle())
    protected(served)
    answers = [
        await client.post("/boot/ipxe/entry", data=asks(password=f"guess-{number}")) for number in range(7)
    ]
    assert "Too many failed attempts" in answers[-1].text
    right = await client.post("/boot/ipxe/entry", data=asks())
    assert "\nshell " not in right.text


async def test_many_guesses_at_once_are_no_way_round(
    served: Served, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boots, "_throttle", Throttle())
    protected(served)
    guesses = (client.post("/boot/ipxe/entry", data=asks(password=f"guess-{n}")) for n in range(20))
    answers = await asyncio.gather(*guesses)
    assert sum("password is wrong" in answer.text for answer in answers) <= FREE_FAILURES + 1


async def test_the_password_of_one_entry_does_not_help_to_guess_anothers(
    served: Served, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boots, "_throttle", Throttle())
    protected(served)
    with served.write() as session:
        known = sealed("known-to-all")
        session.add(BootEntry(name="exam", title="Exam", kind="memtest", password_hash=known))
    for number in range(8):
        last = await client.post("/boot/ipxe/entry", data=asks(password=f"guess-{number}"))
        await client.post("/boot/ipxe/entry", data=asks("exam", "known-to-all", "exam"))
    assert "Too many failed attempts" in last.text


async def test_ever_new_machines_cannot_guess_for_ever(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boots, "_throttle", Throttle())
    monkeypatch.setattr(boots, "_entry_throttle", Throttle(free=10, longest=10))
    protected(served)
    texts = []
    for number in range(20, 33):  # nobody has registered them; each has an address of its own
        async with served.client(number) as made_up:
            data = asks(password=f"guess-{number}") | {"mac": mac(number)}
            texts.append((await made_up.post("/boot/ipxe/entry", data=data)).text)
    assert "password is wrong" in texts[9]
    assert "Too many failed attempts" in texts[-1]


async def test_only_what_the_menu_offers_is_given(served: Served, client: httpx.AsyncClient) -> None:
    protected(served, menu="never")
    assert "\nshell " not in (await client.post("/boot/ipxe/entry", data=asks())).text
    assert "\nshell " not in (await client.post("/boot/ipxe/entry", data=asks(name="other"))).text
    assert (await client.post("/boot/ipxe/entry", content=b"x" * 5000)).status_code == 422


async def test_strangers_see_no_menu_of_another_machine(served: Served) -> None:
    protected(served)
    served.services.leases._neighbour = {"10.20.0.106": mac(6)}.get
    async with served.client(6) as stranger:
        grub = await stranger.get(f"/boot/grub/{mac(1)}")
        entry = await stranger.post("/boot/ipxe/entry", data=asks())
    assert "grub.pbkdf2" not in grub.text
    assert "\nshell " not in entry.text


async def test_registration_at_once_gets_a_token_for_registration(tmp_path: Path) -> None:
    made = Served(tmp_path / "data", boot={"unknown_host": "register"})
    try:
        async with made.client() as client:
            script = await client.get(f"/boot/grub/{mac(9)}")
        assert "pxeboot.mode=register-quick" in script.text
        assert "menuentry" not in script.text
        with made.read() as session:
            row = session.exec(select(BootToken)).one()
        assert (row.mode, row.host_id) == ("register", None)
    finally:
        made.close()
