"""The pages of the boot policy: rules of host and group, entries of the menu, the journal."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

import httpx
import pytest
from starlette.testclient import TestClient

from pxeboot.adapters.container import Services
from pxeboot.services.auth import Role
from tests.webui.test_pages import csrf

pytestmark = pytest.mark.usefixtures("room")
Ask = Callable[..., httpx.Response]
RULES = {"default": "", "local_boot": "", "menu": "", "menu_seconds": "", "dhcp_options": ""}
RESCUE = {
    "name": "rescue",
    "title": "Rescue <system>",
    "kind": "linux",
    "param-kernel": "rescue/vmlinuz",
    "param-arguments": "quiet",
    "enabled": "true",
    "key": "s",
}


def send(browser: TestClient, path: str, form: dict[str, str]) -> httpx.Response:
    return browser.post(path, data={"csrf": csrf(browser.get("/account").text), **form})


def text(page: httpx.Response) -> str:
    """What people read of a page."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page.text)).split())


def test_a_groups_rule_shows_on_its_hosts_with_who_said_it(ada: TestClient) -> None:
    page = send(ada, "/groups/B204/boot", {**RULES, "default": "windows", "menu_seconds": "0"})
    assert "Saved." in page.text
    assert "An idle machine boots Windows said by this group" in text(page)
    assert "Time for the menu until somebody chooses said by this group" in text(page)
    host = text(ada.get("/hosts/B204-01"))
    assert "An idle machine boots Windows said by its group" in host
    assert "Menu is not shown said by the site" in host
    page = send(ada, "/hosts/B204-01/boot", {**RULES, "default": "linux", "reserved_address": "10.20.0.31"})
    assert "An idle machine boots Linux said by this host" in text(page)
    assert "Reserved address 10.20.0.31" in text(page)
    page = send(ada, "/hosts/B204-01/boot", RULES)
    assert "An idle machine boots Windows said by its group" in text(page)
    assert "Reserved address none" in text(page)


def test_options_are_lines_of_a_form_and_go_when_their_line_goes(ada: TestClient, ask: Ask) -> None:
    lines = "ntp-servers = 10.0.0.1, 10.0.0.2\n\n26=1400\nip-forwarding = yes\n"
    page = send(ada, "/hosts/B204-01/boot", {**RULES, "dhcp_options": lines})
    kept = re.search(r'<textarea name="dhcp_options"[^>]*>([^<]*)</textarea>', page.text)
    assert kept
    assert kept.group(1).splitlines() == [
        "ntp-servers = 10.0.0.1, 10.0.0.2",
        "interface-mtu = 1400",
        "ip-forwarding = true",
    ]
    assert "interface-mtu 1400" in text(page)
    send(ada, "/hosts/B204-01/boot", {**RULES, "dhcp_options": kept.group(1).replace("\ninterface", "\n#")})
    again = send(ada, "/hosts/B204-01/boot", {**RULES, "dhcp_options": "interface-mtu = 1400"})
    assert "ntp-servers" not in again.text.split("<details")[0]
    assert ask("GET", "/hosts/B204-01").json()["dhcp_options"] == {"interface-mtu": 1400}


@pytest.mark.parametrize(
    ("form", "status", "says"),
    [
        ({"default": "wndows"}, 422, "local, windows, linux, menu"),
        ({"menu_seconds": "soon"}, 422, "no number of seconds"),
        ({"dhcp_options": "ntp-servers 10.0.0.1"}, 422, "like ntp-servers = 10.0.0.1"),
        ({"dhcp_options": "ntp-servers = noon"}, 422, "IPv4 addresses"),
        ({"reserved_address": "10.20.0"}, 422, "10.20.0.31"),
        ({"reserved_address": "10.20.0.9"}, 409, "reserved for B204-02"),
    ],
)
def test_a_mistake_brings_the_form_back_as_it_was_filled_in(
    ada: TestClient, ask: Ask, form: dict[str, str], status: int, says: str
) -> None:
    ask("PATCH", "/hosts/B204-02", json={"reserved_address": "10.20.0.9"})
    page = send(ada, "/hosts/B204-01/boot", {**RULES, "local_boot": "sanboot", **form})
    assert page.status_code == status
    assert 'role="alert"' in page.text
    assert says in text(page)
    assert "<details open>" in page.text
    assert 'value="sanboot"' in page.text
    assert ask("GET", "/hosts/B204-01").json()["boot"] == {}, "nothing is half done"


def test_entries_are_added_ordered_switched_and_removed(ada: TestClient, ask: Ask) -> None:
    assert 'name="param-kernel"' in ada.get("/menu/add?kind=linux").text
    assert "Choose what the entry starts" in ada.get("/menu/add?kind=floppy").text
    page = send(ada, "/menu/entries", RESCUE)
    assert "Saved." in page.text
    assert "Rescue &lt;system&gt;" in page.text
    send(ada, "/menu/entries", {"name": "memtest", "title": "Memory test", "kind": "memtest"})
    rows = re.findall(r'data-entry="([^"]+)"( class="off")?', ada.get("/menu").text)
    assert rows == [("rescue", ""), ("memtest", ' class="off"')], "an unticked box is a no"
    send(ada, "/menu/entries/memtest/up", {})
    send(ada, "/menu/entries/memtest/on", {})
    rows = re.findall(r'data-entry="([^"]+)"( class="off")?', ada.get("/menu").text)
    assert rows == [("memtest", ""), ("rescue", "")]
    assert "Rescue &lt;system&gt;" in ada.get("/groups/B204").text, "it can be a default"
    send(ada, "/groups/B204/boot", {**RULES, "default": "entry:rescue"})
    assert "boots the entry rescue" in text(ada.get("/hosts/B204-01"))
    refused = send(ada, "/menu/entries/rescue/delete", {})
    assert refused.status_code == 409
    assert "give it another default first" in refused.text
    send(ada, "/menu/entries/memtest/delete", {})
    assert [e["name"] for e in ask("GET", "/boot-entries").json()["items"]] == ["rescue"]


def test_the_page_shows_what_a_menu_looks_like(ada: TestClient) -> None:
    setup = {"name": "setup", "title": "Set-up", "kind": "firmware-setup", "enabled": "true", "group": "B204"}
    send(ada, "/menu/entries", setup)
    assert "Set-up" in ada.get("/menu?group=B204").text.split("<pre")[1]
    assert "Set-up" not in ada.get("/menu?group=B204&firmware=bios").text.split("<pre")[1]
    assert "Set-up" not in ada.get("/menu?group=gone").text.split("<pre")[1]
    assert "Idle machines do not show it" in ada.get("/menu?group=B204").text
    send(ada, "/groups/B204/boot", {**RULES, "menu": "always"})
    assert "Idle machines show it." in ada.get("/menu?group=B204").text


def test_an_entry_keeps_its_password_until_it_is_changed_or_taken_away(ada: TestClient, ask: Ask) -> None:
    def protected() -> bool:
        return bool(ask("GET", "/boot-entries/rescue").json()["protected"])

    send(ada, "/menu/entries", {**RESCUE, "password": "Geheim-1234"})
    assert protected()
    form = ada.get("/menu/entries/rescue").text
    assert "Geheim" not in form
    send(ada, "/menu/entries/rescue", {**RESCUE, "title": "Rescue"})
    assert protected()
    wrong = send(ada, "/menu/entries/rescue", {**RESCUE, "param-kernel": "../vmlinuz", "title": "Changed"})
    assert wrong.status_code == 422
    assert 'value="Changed"' in wrong.text
    assert 'action="/menu/entries/rescue"' in wrong.text
    send(ada, "/menu/entries/rescue", {**RESCUE, "unprotect": "true"})
    assert not protected()


def test_others_read_and_change_nothing(
    sign_in: Callable[[str, Role], TestClient], ada: TestClient, ask: Ask
) -> None:
    send(ada, "/menu/entries", RESCUE)
    for role in ("viewer", "technician"):
        browser = sign_in(role, role)  # type: ignore[arg-type]
        assert "Rescue &lt;system&gt;" in browser.get("/menu").text
        assert 'method="post"' not in browser.get("/menu").text.split("<main>")[1]
        assert 'action="/hosts/B204-01/boot"' not in browser.get("/hosts/B204-01").text
        assert browser.get("/menu/entries/rescue").status_code == 403
        for path in ("/hosts/B204-01/boot", "/groups/B204/boot", "/menu/entries/rescue/delete"):
            assert send(browser, path, RULES).status_code == 403
        assert send(browser, "/menu/entries", {**RESCUE, "name": "other"}).status_code == 403
    assert ada.post("/menu/entries/rescue/delete", data={}).status_code == 403, "a form from elsewhere"


def test_the_journal_is_filtered_by_plane_and_machine(ada: TestClient, services: Services) -> None:
    for plane, mac in (("dhcp", "52:54:00:00:00:01"), ("tftp", "52:54:00:ff:ff:ff")):
        services.journal.record(plane, f"{plane}.done", f"{plane} to {mac}", mac=mac)
    services.journal.flush()
    everything = text(ada.get("/journal"))
    assert "DHCP dhcp to 52:54:00:00:00:01" in everything
    assert "TFTP tftp to 52:54:00:ff:ff:ff" in everything
    one = ada.get("/journal?host=B204-01&plane=dhcp")
    assert "dhcp to" in one.text
    assert "tftp to" not in one.text
    assert "tftp to" in ada.get("/journal?host=52-54-00-FF-FF-FF").text
    nobody = ada.get("/journal?host=B204-77")
    assert nobody.status_code == 200
    assert "There is no host" in text(nobody)
    assert "data-ended" in nobody.text


def test_older_lines_are_behind_a_link_and_do_not_move(ada: TestClient, services: Services) -> None:
    for number in range(130):
        services.journal.record("dhcp", "dhcp.offered", f"offer {number}", mac="52:54:00:00:00:01")
    services.journal.flush()
    first = ada.get("/journal?plane=dhcp")
    assert "offer 129" in first.text
    assert "offer 5<" not in first.text
    link = re.search(r'href="(\?plane=dhcp[^"]+cursor=[^"]+)"', first.text)
    assert link
    second = ada.get("/journal" + html.unescape(link.group(1)))
    assert "offer 5<" in second.text
    assert "data-ended" in second.text


def test_the_new_pages_speak_french(ada: TestClient) -> None:
    french = {"accept-language": "fr"}
    for path, says in (
        ("/menu", "Menu de démarrage"),
        ("/menu/add?kind=linux", "Titre dans le menu"),
        ("/journal", "Ce que les postes ont demandé"),
        ("/hosts/B204-01", "Un poste au repos démarre"),
        ("/groups/B204", "dit par le site"),
    ):
        assert says in html.unescape(ada.get(path, headers=french).text), path
