"""The pages of what is done after the image."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from starlette.testclient import TestClient

from pxeboot.services.auth import Role
from pxeboot.services.customise_rules import parse
from tests.webui.test_boot_pages import send, text
from tests.webui.test_pages import csrf
from webui import forms

pytestmark = pytest.mark.usefixtures("room")
Ask = Callable[..., httpx.Response]
SCRIPT = {"name": "printers", "text": "#!/bin/sh\r\necho <b>\r\n", "system": "linux", "seconds": "60"}


def test_a_script_is_written_given_to_a_group_and_shown_at_its_hosts(ada: TestClient, ask: Ask) -> None:
    assert "printers" in send(ada, "/customise/script", SCRIPT).text
    page = ada.get("/customise/script/printers")
    assert "echo &lt;b&gt;" in page.text
    said = {"scripts": "printers B204 'deux mots'", "variables": "room = 204", "windows.locale": "fr-FR",
            "linux.ssh_host_keys": "no"}  # fmt: skip
    page = send(ada, "/customise/of/group/B204", said)
    assert "Saved." in page.text
    rules = ask("GET", "/groups/B204/customise").json()["customise"]
    assert rules == {
        "linux": {"ssh_host_keys": False},
        "windows": {"locale": "fr-FR"},
        "scripts": [{"name": "printers", "arguments": ["B204", "deux mots"]}],
        "variables": {"room": "204"},
    }
    host = text(ada.get("/customise/of/host/B204-01"))
    assert "scripts.printers group" in host
    assert "linux.machine_id nobody: as shipped" in host
    assert "B204" in text(ada.get("/customise"))
    page = send(ada, "/customise/script/printers", {**SCRIPT, "do": "delete"})
    assert "still use the script" in page.text
    for path in ("/groups/B204", "/hosts/B204-01", "/images/debian"):
        assert "/customise/of/" in ada.get(path).text


def test_what_the_form_cannot_say_stays(ada: TestClient, ask: Ask) -> None:
    send(ada, "/customise/script", SCRIPT)
    use = {"name": "printers", "environment": {"A": "1"}, "seconds": 9}
    ask("PUT", "/groups/B204/customise", json={"scripts": [use]})
    send(ada, "/customise/of/group/B204", {"scripts": "printers x"})
    assert ask("GET", "/groups/B204/customise").json()["customise"]["scripts"] == [
        {**use, "arguments": ["x"]}
    ]


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"scripts": "nothing"}, "There is no script"),
        ({"scripts": "'open"}, "Close the quotes"),
        ({"variables": "room"}, "write one a line"),
        ({"windows.drivers_path": "../x"}, "no path"),
    ],
)
def test_a_mistake_brings_the_form_back(ada: TestClient, form: dict[str, str], said: str) -> None:
    page = send(ada, "/customise/of/group/B204", {**form, "windows.owner": "Lycée <1>"})
    assert page.status_code == 422
    assert said in text(page)
    assert "Lycée &lt;1&gt;" in page.text


def test_a_bad_script_comes_back_as_it_was_typed(ada: TestClient) -> None:
    page = send(ada, "/customise/script", {**SCRIPT, "seconds": "soon"})
    assert page.status_code == 422
    assert "echo &lt;b&gt;" in page.text
    page = send(ada, "/customise/script", {**SCRIPT, "text": "#!/bin/bash\n"})
    assert "/bin/sh" in text(page)


def test_files_and_secrets_are_sent_and_removed(ada: TestClient, ask: Ask) -> None:
    form = {"csrf": csrf(ada.get("/account").text), "name": "motd", "path": "/etc/motd", "template": "true"}
    upload = {"upload": ("motd", b"Poste {{ host.name }}\n")}
    assert "/etc/motd" in ada.post("/customise/file", data=form, files=upload).text
    assert ask("GET", "/files/motd/content").content == b"Poste {{ host.name }}\n"
    bad = ada.post("/customise/file", data=form, files={"upload": ("motd", b"{{ host.")})
    assert bad.status_code == 422
    assert ask("GET", "/files/motd").json()["size"] == 22
    page = send(ada, "/customise/secret", {"name": "join", "value": "Tr3s-secret"})
    assert "join" in page.text
    assert "Tr3s-secret" not in page.text
    assert "join" not in text(send(ada, "/customise/secret/join/delete", {})).replace("joindre", "")
    send(ada, "/customise/file/motd/delete", {})
    assert ask("GET", "/files").json()["items"] == []


def test_others_look_and_strangers_do_not(
    sign_in: Callable[[str, Role], TestClient], stranger: TestClient, ask: Ask
) -> None:
    ask("POST", "/scripts", json={"name": "printers", "text": "true"})
    grace = sign_in("grace", "viewer")
    for path in ("/customise", "/customise/script/printers", "/customise/of/group/B204"):
        assert grace.get(path).status_code == 200
        assert stranger.get(path).status_code == 303
    assert grace.get("/customise/script").status_code == 403
    assert send(grace, "/customise/of/group/B204", {}).status_code == 403
    assert send(grace, "/customise/secret", {"name": "x", "value": "y"}).status_code == 403


def test_french(ada: TestClient) -> None:
    page = text(ada.get("/customise", headers={"accept-language": "fr"}))
    assert "Après l'image" in page
    assert "Pilotes par modèle" in page


def test_a_form_says_again_what_it_was_told() -> None:
    rules = parse(
        {
            "hostname": False,
            "windows": {"name": "keep", "join": {"domain": "x.local"}, "drivers": True},
            "scripts": ["a", {"name": "b", "off": True}, {"name": "c", "arguments": ["it's", "{{ x }}"]}],
            "files": [{"name": "f", "off": True}],
            "variables": {"room": "2 0 4"},
        }
    )
    assert parse(forms.customise_rules(forms.customise_form(rules), rules.said())) == rules
