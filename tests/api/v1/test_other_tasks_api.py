"""Wipe, test, debug shell and rescue as scripts ask for them; asked twice, and by nobody who may not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from blake3 import blake3

from pxeboot.adapters.container import Services
from pxeboot.db.models import Rescue, Task
from pxeboot.services import tasks

Ask = Callable[..., httpx.Response]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
pytestmark = pytest.mark.usefixtures("room")


def start(ask: Ask, kind: str, *hosts: str, **more: Any) -> httpx.Response:
    return ask("POST", "/operations", json={"kind": kind, "hosts": list(hosts), **more})


def test_a_wipe_must_be_confirmed_by_the_hosts_name(ask: Ask) -> None:
    for confirm in (None, "", "B204-02", "b204-01", "1", "yes"):
        refused = start(ask, "wipe", "52:54:00:00:00:01", confirm=confirm)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "confirm")
        assert "destroys the data of B204-01: say so by confirm = 'B204-01'" in refused.json()["detail"]
    assert ask("GET", "/operations").json()["items"] == []


def test_a_wipe_of_a_group_must_be_confirmed_by_how_many(ask: Ask) -> None:
    body = {"kind": "wipe", "group": "B204"}
    assert "all 3 hosts" in ask("POST", "/operations", json=body | {"confirm": "B204"}).json()["detail"]
    begun = ask("POST", "/operations", json=body | {"confirm": "3", "wipe": {"method": "overwrite"}})
    assert begun.status_code == 202
    states = {task["host"]: task["code"] for task in begun.json()["tasks"]}
    assert states == {"B204-01": "", "B204-02": "", "B204-03": "host-pending"}


def test_a_busy_host_is_not_wiped(ask: Ask) -> None:
    assert start(ask, "deploy", "B204-01", image="debian").status_code == 202
    refused = start(ask, "wipe", "B204-01", confirm="B204-01")
    assert refused.status_code == 409
    assert "B204-01 is busy (deploy, queued)" in refused.json()["detail"]


def test_only_administrators_start_them(ask: Ask) -> None:
    body = {"kind": "wipe", "hosts": ["B204-01"], "confirm": "B204-01"}
    for role, status in (("viewer", 403), ("teacher", 403), ("technician", 403), (None, 401)):
        assert ask("POST", "/operations", json=body, by=role).status_code == status
        assert ask("GET", "/rescues", by=role).status_code == status


def test_options_that_make_no_sense_are_named(ask: Ask) -> None:
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("wipe", {"method": "hammer"}, "wipe.method"),
        ("wipe", {"passes": 100}, "wipe.passes"),
        ("wipe", {"disks": []}, "wipe.disks"),
        ("test", {"surface": "deep"}, "test.surface"),
        ("test", {"memory": True}, "test.memory"),
        ("shell", {"keys": ["ssh-ed25519 AAAA"]}, "shell.keys"),
        ("shell", {"keys": ['command="sh" ' + KEY]}, "shell.keys"),
        ("shell", {"keys": [KEY], "minutes": 5000}, "shell.minutes"),
        ("shell", {}, "shell.keys"),
        ("rescue", {}, "rescue.paths"),
        ("rescue", {"paths": ["home/../etc"]}, "rescue.paths"),
        ("rescue", {"paths": ["/"]}, "rescue.paths"),
        ("rescue", {"paths": ["a\u0000b"]}, "rescue.paths"),
    ]
    for kind, options, field in wrong:
        refused = start(ask, kind, "B204-01", confirm="B204-01", **{kind: options})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, field), refused.text


def test_options_of_another_kind_are_refused(ask: Ask) -> None:
    refused = start(ask, "test", "B204-01", wipe={"method": "overwrite"})
    assert refused.json()["errors"][0]["field"] == "wipe"


def test_a_schedule_may_test_but_not_destroy_or_wait_for_somebody(ask: Ask) -> None:
    def schedule(operation: dict[str, Any]) -> httpx.Response:
        return ask("POST", "/schedules", json={"operation": operation, "cron": "0 3 * * *"})

    for kind in ("wipe", "shell", "rescue"):
        refused = schedule({"kind": kind, "hosts": ["B204-01"], "confirm": "B204-01"})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "kind")
    assert schedule({"kind": "test", "group": "B204"}).status_code == 201


def test_an_images_defaults_are_of_captures_and_deploys(ask: Ask) -> None:
    refused = ask("PATCH", "/images/debian", json={"params": {"wipe": {"method": "overwrite"}}})
    assert refused.status_code == 422


def test_keys_of_the_settings_may_sign_in_to_every_shell(ask: Ask, services: Services) -> None:
    other = KEY[:-4] + "GKJm"
    shell = services.settings.shell.model_copy(update={"authorized_keys": [other]})
    services.settings = services.settings.model_copy(update={"shell": shell})
    begun = start(ask, "shell", "B204-01", shell={"keys": [KEY]})
    assert begun.json()["params"]["shell"]["keys"] == [other, KEY]
    assert start(ask, "shell", "B204-02").status_code == 202


def test_a_certificate_is_of_a_wipe_that_is_over(ask: Ask, services: Services) -> None:
    begun = start(ask, "wipe", "B204-01", confirm="B204-01").json()
    task = begun["tasks"][0]["id"]
    assert "not over yet" in ask("GET", f"/tasks/{task}/certificate").json()["detail"]
    assert ask("GET", f"/tasks/{task}").json()["host"] == "B204-01"
    ask("POST", f"/operations/{begun['id']}:cancel")
    text = ask("GET", f"/tasks/{task}/certificate", params={"format": "text"}, by="viewer").text
    assert "NOT COMPLETE" in text
    test = start(ask, "test", "B204-01").json()["tasks"][0]["id"]
    assert "A test has no certificate" in ask("GET", f"/tasks/{test}/certificate").json()["detail"]
    assert ask("GET", "/tasks/nothing/certificate").status_code == 404


def test_an_archive_is_listed_fetched_and_deleted(ask: Ask, services: Services) -> None:
    begun = start(ask, "rescue", "B204-01", rescue={"paths": ["home"]}).json()
    id = begun["tasks"][0]["id"]
    services.rescues.write(id, 0, b"archive")
    services.rescues.finish(id, 7, blake3(b"archive").hexdigest())
    with services.write() as session:
        task: Task = tasks.row(session, id)
        made = Rescue(id=id, host="B204-01", operation_id=task.operation_id, size=7, facts={"files": 1})
        session.add(made)
    (listed,) = ask("GET", "/rescues", params={"host": "B204-01"}).json()["items"]
    assert (listed["id"], listed["facts"]) == (id, {"files": 1})
    got = ask("GET", f"/rescues/{id[:8]}/archive")
    assert got.content == b"archive"
    assert 'filename="B204-01-' in got.headers["content-disposition"]
    part = ask("GET", f"/rescues/{id}/archive", headers={"Range": "bytes=3-"})
    assert (part.status_code, part.content) == (206, b"hive")
    assert ask("DELETE", f"/rescues/{id}", by="technician").status_code == 403
    assert ask("DELETE", f"/rescues/{id}").status_code == 204
    assert ask("GET", f"/rescues/{id}/archive").status_code == 404
    assert not list(services.rescues.folder.iterdir())
