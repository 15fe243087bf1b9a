"""What is done after the image, asked as administrator, as viewer and as a stranger."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from pxeboot.adapters.container import Services

Ask = Callable[..., httpx.Response]

pytestmark = pytest.mark.usefixtures("room")


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    assert body["code"] == code
    return body


def test_scripts_are_kept_changed_used_and_removed(ask: Ask) -> None:
    made = ask("POST", "/scripts", json={"name": "printers", "text": "lpadmin\r\n", "system": "linux"})
    assert (made.status_code, made.headers["location"]) == (201, "/api/v1/scripts/printers")
    assert made.json()["text"] == "lpadmin\n"
    problem(ask("POST", "/scripts", json={"name": "printers", "text": "x"}), 409, "conflict")
    assert ask("PATCH", "/scripts/printers", json={"seconds": 9}).json()["seconds"] == 9
    assert ask("GET", "/scripts").json()["items"][0]["name"] == "printers"
    use = {"scripts": [{"name": "printers", "arguments": ["{{ host.group }}"]}]}
    assert ask("PATCH", "/groups/B204/customise", json=use).json()["customise"] == use
    assert problem(ask("DELETE", "/scripts/printers"), 409, "conflict")["users"] == ["group B204"]
    order = ask("GET", "/hosts/B204-01/customise?image=debian@1").json()["order"]
    assert order["scripts"][0]["arguments"] == ["B204"]
    assert ask("PUT", "/groups/B204/customise", json={}).json()["customise"] == {}
    assert ask("DELETE", "/scripts/printers").status_code == 204
    problem(ask("GET", "/scripts/printers"), 404, "script-not-found")


def test_files_are_uploaded_whole_and_forgotten_when_nobody_has_them(ask: Ask, services: Services) -> None:
    body = {"name": "motd", "path": "/etc/motd", "template": True}
    assert ask("POST", "/files", json=body).json()["hash"] == ""
    data = b"Poste {{ host.name }}\n"
    made = ask("PUT", "/files/motd/content", content=data)
    first = made.json()["hash"]
    assert (made.status_code, made.json()["size"]) == (200, len(data))
    assert ask("GET", "/files/motd/content").content == data
    ask("PATCH", "/images/debian/customise", json={"files": ["motd"]})
    shown = ask("GET", "/hosts/B204-01/customise?image=debian").json()
    assert base64.b64decode(shown["order"]["files"][0]["content"]) == b"Poste B204-01\n"
    assert (shown["image"], shown["origins"]["files.motd"]) == ("debian@1", "image")

    problem(ask("PUT", "/files/motd/content", content=b"{{ host."), 422, "invalid")
    problem(ask("PUT", "/files/motd/content", content=b"\xff\xfe"), 422, "invalid")
    assert ask("GET", "/files/motd").json()["hash"] == first  # a bad upload changes nothing
    ask("PUT", "/files/motd/content", content=b"other")
    kept = [path.name for path in (services.settings.server.data_dir / "files").rglob("*") if path.is_file()]
    assert kept == [ask("GET", "/files/motd").json()["hash"]]
    ask("PUT", "/images/debian/customise", json={})
    assert ask("DELETE", "/files/motd").status_code == 204
    assert not [p for p in (services.settings.server.data_dir / "files").rglob("*") if p.is_file()]


def test_a_secret_is_written_and_never_read(ask: Ask, services: Services) -> None:
    said = ask("PUT", "/secrets/join", json={"value": "Tr3s-secret"})
    ask(
        "PATCH",
        "/groups/B204/customise",
        json={"windows": {"join": {"domain": "x.local", "password": "join"}}},
    )
    texts = [
        said.text, ask("GET", "/secrets").text, ask("GET", "/groups/B204/customise").text,
        ask("GET", "/hosts/B204-01/customise?image=debian").text, ask("GET", "/events").text,
        problem(ask("PUT", "/secrets/join", json={"value": "Tr3s-secret", "x": 1}), 422, "invalid"),
    ]  # fmt: skip
    assert all("Tr3s-secret" not in str(text) for text in texts), texts
    problem(ask("DELETE", "/secrets/join"), 409, "conflict")
    ask("PUT", "/groups/B204/customise", json={})
    assert ask("DELETE", "/secrets/join").status_code == 204


def test_mistakes_name_their_field(ask: Ask) -> None:
    answer = problem(
        ask("PATCH", "/groups/B204/customise", json={"linux": {"machine_id": 7}}), 422, "invalid"
    )
    assert answer["errors"][0]["field"] == "linux.machine_id"
    answer = problem(ask("PATCH", "/hosts/B204-01/customise", json={"scripts": ["none"]}), 422, "invalid")
    assert "There is no script 'none'" in answer["detail"]
    problem(ask("PATCH", "/images/nothing/customise", json={}), 404, "image-not-found")
    problem(ask("PATCH", "/groups/B204/customise", json=[1]), 422, "invalid")


def test_driver_folders_are_listed(ask: Ask, services: Services) -> None:
    (services.files.driver_root / "Dell*" / "*").mkdir(parents=True)
    assert ask("GET", "/drivers").json() == {"place": str(services.files.driver_root), "folders": ["Dell*/*"]}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/scripts", {"name": "x", "text": "x"}), ("PATCH", "/scripts/x", {}),
        ("DELETE", "/scripts/x", None), ("POST", "/files", {"name": "x", "path": "/x"}),
        ("PATCH", "/files/x", {}), ("DELETE", "/files/x", None), ("PUT", "/files/x/content", {}),
        ("PUT", "/secrets/x", {"value": "x"}), ("DELETE", "/secrets/x", None),
        ("PATCH", "/images/debian/customise", {}), ("PUT", "/hosts/B204-01/customise", {}),
        ("PUT", "/groups/B204/customise", {}),
    ],
)  # fmt: skip
def test_only_administrators_change_it(ask: Ask, method: str, path: str, body: Any) -> None:
    for by, status in (("viewer", 403), ("technician", 403), (None, 401)):
        assert ask(method, path, by=by, json=body).status_code == status


@pytest.mark.parametrize("path", ["/scripts", "/files", "/secrets", "/drivers", "/hosts/B204-01/customise"])
def test_everybody_with_a_token_may_look(ask: Ask, path: str) -> None:
    assert ask("GET", path, by="viewer").status_code == 200
    assert ask("GET", path, by=None).status_code == 401
