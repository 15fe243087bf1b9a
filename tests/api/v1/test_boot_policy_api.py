"""Boot rules, reservations, options and menu entries over the API: as administrator, as lesser roles, as a
stranger."""

from __future__ import annotations

import pytest

from tests.api.v1.test_admin_api import Ask, problem

RESCUE = {
    "name": "rescue",
    "title": "Rescue system",
    "kind": "linux",
    "params": {"kernel": "rescue/vmlinuz", "initrd": "rescue/initrd.img"},
    "key": "s",
}


def fields(answer: dict[str, object]) -> list[str]:
    errors = answer["errors"]
    assert isinstance(errors, list)
    return [error["field"] for error in errors]


def test_a_hosts_rules_are_shown_with_who_said_them(ask: Ask, room: None) -> None:
    ask("PATCH", "/groups/B204", json={"boot": {"default": "windows", "menu": "always"}})
    answer = ask("PATCH", "/hosts/B204-01", json={"boot": {"default": "linux", "menu_seconds": 0}})
    assert answer.status_code == 200, answer.text
    host = ask("GET", "/hosts/B204-01").json()
    assert host == answer.json()
    assert host["boot"] == {"default": "linux", "menu_seconds": 0}
    assert host["effective_boot"]["default"] == {"value": "linux", "origin": "host"}
    assert host["effective_boot"]["menu"] == {"value": "always", "origin": "group"}
    assert host["effective_boot"]["local_boot"] == {"value": "auto", "origin": "site"}
    group = ask("GET", "/groups/B204").json()
    assert group["effective_boot"]["default"] == {"value": "windows", "origin": "group"}
    ask("PATCH", "/hosts/B204-01", json={"boot": {"default": None}})
    assert ask("GET", "/hosts/B204-01").json()["effective_boot"]["default"]["value"] == "windows"
    assert ask("GET", "/hosts").json()["items"][0]["boot"] == {"menu_seconds": 0}


def test_reservation_and_options_of_a_host(ask: Ask, room: None) -> None:
    body = {"reserved_address": "10.20.0.31", "dhcp_options": {"42": ["10.0.0.1"], "domain-name": "x.org"}}
    host = ask("PATCH", "/hosts/B204-01", json=body).json()
    assert host["reserved_address"] == "10.20.0.31"
    assert host["dhcp_options"] == {"ntp-servers": ["10.0.0.1"], "domain-name": "x.org"}
    taken = problem(ask("PATCH", "/hosts/B204-02", json={"reserved_address": "10.20.0.31"}), 409, "conflict")
    assert fields(taken) == ["reserved_address"]
    wrong = problem(ask("PATCH", "/hosts/B204-02", json={"dhcp_options": {"53": "1"}}), 422, "invalid")
    assert fields(wrong) == ["dhcp_options.53"]
    wrong = problem(ask("PATCH", "/groups/B204", json={"boot": {"default": "wndows"}}), 422, "invalid")
    assert fields(wrong) == ["boot.default"]
    problem(ask("PATCH", "/groups/B204", json={"boot": {"colour": "red"}}), 422, "invalid")
    cleared = ask("PATCH", "/hosts/B204-01", json={"reserved_address": None, "dhcp_options": None}).json()
    assert (cleared["reserved_address"], cleared["dhcp_options"]) == ("", {})


def test_boot_entries_are_made_changed_and_removed(ask: Ask, room: None) -> None:
    made = ask("POST", "/boot-entries", json={**RESCUE, "password": "Geheim-1234"})
    assert made.status_code == 201, made.text
    assert made.headers["location"] == "/api/v1/boot-entries/rescue"
    assert made.json()["protected"] is True
    assert "Geheim" not in made.text
    assert "hash" not in ask("GET", "/boot-entries").text
    changed = ask(
        "PATCH", "/boot-entries/rescue", json={"group": "B204", "title": None, "position": 5}
    ).json()
    assert (changed["group"], changed["title"], changed["position"]) == ("B204", "Rescue system", 5)
    assert ask("PATCH", "/boot-entries/rescue", json={"key": None}).json()["key"] == ""
    assert ask("PATCH", "/boot-entries/rescue", json={"password": None}).json()["protected"] is False
    assert [e["name"] for e in ask("GET", "/boot-entries?group=B204").json()["items"]] == ["rescue"]
    ask("PATCH", "/groups/B204", json={"boot": {"default": "entry:rescue"}})
    assert problem(ask("DELETE", "/boot-entries/rescue"), 409, "conflict")["users"] == ["B204"]
    ask("PATCH", "/groups/B204", json={"boot": None})
    assert ask("DELETE", "/boot-entries/rescue").status_code == 204
    problem(ask("GET", "/boot-entries/rescue"), 404, "boot-entry-not-found")


def test_a_wrong_entry_is_refused_with_its_field_and_never_repeats_the_password(ask: Ask) -> None:
    answer = problem(ask("POST", "/boot-entries", json={**RESCUE, "params": {}}), 422, "invalid")
    assert fields(answer) == ["params.kernel"]
    answer = problem(ask("POST", "/boot-entries", json={**RESCUE, "key": "c"}), 422, "invalid")
    assert fields(answer) == ["key"]
    ask("POST", "/boot-entries", json=RESCUE)
    answer = problem(ask("POST", "/boot-entries", json={**RESCUE, "name": "other"}), 409, "conflict")
    assert fields(answer) == ["key"]
    bad = ask("POST", "/boot-entries", json={**RESCUE, "name": "x", "key": "", "password": "très secret"})
    assert fields(problem(bad, 422, "invalid")) == ["password"]
    assert "secret" not in bad.text


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/boot-entries", RESCUE),
        ("PATCH", "/boot-entries/rescue", {"title": "x"}),
        ("DELETE", "/boot-entries/rescue", None),
        ("PATCH", "/groups/B204", {"boot": {"default": "linux"}}),
        ("PATCH", "/hosts/B204-01", {"boot": {"default": "linux"}}),
        ("PATCH", "/hosts/B204-01", {"reserved_address": "10.20.0.9"}),
        ("PATCH", "/hosts/B204-01", {"dhcp_options": {"ntp-servers": "10.0.0.1"}}),
    ],
)
def test_only_administrators_set_the_policy(
    ask: Ask, room: None, method: str, path: str, body: dict[str, object] | None
) -> None:
    for role in ("technician", "viewer"):
        problem(ask(method, path, by=role, json=body), 403, "forbidden")
    problem(ask(method, path, by=None, json=body), 401, "token-missing")


def test_everybody_signed_in_reads_it_and_a_technician_still_renames(ask: Ask, room: None) -> None:
    ask("POST", "/boot-entries", json=RESCUE)
    for role in ("technician", "viewer"):
        assert ask("GET", "/boot-entries", by=role).status_code == 200
        assert ask("GET", "/boot-entries/rescue", by=role).json()["key"] == "s"
        assert "effective_boot" in ask("GET", "/hosts/B204-01", by=role).json()
        assert "Rescue system" in ask("GET", "/boot-menu?firmware=bios", by=role).json()["text"]
    assert ask("PATCH", "/hosts/B204-01", by="technician", json={"serial": "S1"}).status_code == 200
    for path in ("/boot-entries", "/boot-entries/rescue", "/boot-menu", "/events/stream"):
        problem(ask("GET", path, by=None), 401, "token-missing")


def test_hosts_come_and_go_as_csv(ask: Ask, room: None) -> None:
    text = "name;macs;address\r\nB204-01;;10.20.0.31\r\nB204-09;52:54:00:00:00:09;\r\n"
    send = {"content": text, "headers": {"content-type": "text/csv"}}
    planned = ask("POST", "/hosts:import?dry_run=true", **send).json()
    assert (planned["new"], planned["changed"]) == (1, 1)
    assert ask("GET", "/hosts/B204-09").status_code == 404, "a dry run does nothing"
    done = ask("POST", "/hosts:import", **send)
    assert done.json() == planned
    exported = ask("GET", "/hosts:export?group=B204", by="viewer")
    assert exported.headers["content-type"].startswith("text/csv")
    assert "B204-01,52:54:00:00:00:01,B204,approved,10.20.0.31,," in exported.text.splitlines()
    assert "B204-09" not in exported.text, "it is in no group"
    wrong = ask("POST", "/hosts:import", content="name,macs\nx,52:54\n")
    assert fields(problem(wrong, 422, "invalid")) == ["line 2"]
    for role in ("technician", "viewer"):
        problem(ask("POST", "/hosts:import", by=role, **send), 403, "forbidden")
    problem(ask("GET", "/hosts:export", by=None), 401, "token-missing")
    problem(ask("POST", "/hosts:import", content=b"x" * (3 << 20)), 422, "invalid")
