"""The forms of the other tasks: a wipe wants the name typed; what they bring is shown."""

from __future__ import annotations

from typing import Any

import pytest
from blake3 import blake3
from starlette.testclient import TestClient

from pxeboot.adapters.container import Services
from pxeboot.db.models import Rescue, TaskState
from pxeboot.services import tasks
from tests.webui.test_pages import csrf

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
pytestmark = pytest.mark.usefixtures("room")


@pytest.fixture
def send(ada: TestClient) -> Any:
    token = csrf(ada.get("/account").text)
    return lambda **fields: ada.post("/tasks/new", data={"csrf": token, "host": "B204-01", **fields})


def test_a_wipe_is_typed_twice_and_ends_in_a_record(services: Services, ada: TestClient, send: Any) -> None:
    assert 'href="/tasks/new?host=B204-01"' in ada.get("/hosts/B204-01").text
    form = ada.get("/tasks/new?host=B204-01").text
    assert "Type the host's name, B204-01, to go on." in form
    assert "Type how many hosts these are, 3, to go on." in ada.get("/tasks/new?group=B204").text
    refused = send(kind="wipe", confirm="B204", method="overwrite", rule="all")
    assert refused.status_code == 422
    assert "destroys the data of B204-01" in refused.text
    assert 'value="overwrite" selected' in refused.text, "the form keeps its values"
    page = send(kind="wipe", confirm="B204-01", method="overwrite", rule="all")
    assert "Wipe B204-01" in page.text
    assert "overwrite" in page.text
    with services.write() as session:
        task = tasks.active(session, 1)
        assert task is not None
        record = {"model": "Disk", "serial": "S1", "size": 500, "method": "overwrite", "verified": True,
                  "notes": ["<b>hm</b>"], "proof": {"samples": 7, "zeros": 7}}  # fmt: skip
        task.state, task.result, task.finished_at = TaskState.DONE, {"wipe": [record]}, task.created_at
        session.add(task)
        operation, id = task.operation_id, task.id
    assert f'href="/tasks/{id}/certificate"' in ada.get(f"/operations/{operation}").text
    certificate = ada.get(f"/tasks/{id}/certificate").text
    assert "All disks were wiped, and it was verified." in certificate
    assert "7 places read again: 7 zeros" in certificate
    assert "<b>hm" not in certificate
    assert "Attestation d&#39;effacement" in ada.get(
        f"/tasks/{id}/certificate", headers={"Accept-Language": "fr"}
    ).text  # fmt: skip


def test_an_open_shell_shows_how_to_reach_it(services: Services, ada: TestClient, send: Any) -> None:
    assert "must begin with its kind" in send(kind="shell", keys="nonsense").text
    assert "Nobody could sign in" in send(kind="shell", keys="").text
    assert "Debug shell on B204-01" in send(kind="shell", keys=f"{KEY} ada\n", minutes="5").text
    with services.write() as session:
        task = tasks.active(session, 1)
        assert task is not None
        where = {
            "address": "10.20.0.101",
            "port": 22,
            "host_key": KEY,
            "fingerprint": "SHA256:x",
            "attempt": 0,
        }
        task.state, task.result = TaskState.RUNNING, {"shell": where}
        session.add(task)
        operation = task.operation_id
    page = ada.get(f"/operations/{operation}").text
    assert "<code>ssh root@10.20.0.101</code>" in page
    assert "SHA256:x" in page
    assert f"10.20.0.101 {KEY}" in page


def test_tests_and_rescues_are_started_and_archives_listed(
    services: Services, ada: TestClient, send: Any, sign_in: Any
) -> None:
    assert "no number" in send(kind="test", memory="many").text
    assert "Test B204-01" in send(kind="test", memory="2", smart="long", surface="full", rule="all").text
    token = csrf(ada.get("/account").text)
    rescue = {"csrf": token, "host": "B204-02", "kind": "rescue", "paths": "home\nUsers/*/Documents"}
    assert "Rescue files of B204-02" in ada.post("/tasks/new", data=rescue).text
    assert "No files were rescued yet" in ada.get("/rescues").text
    id = "a" * 32
    services.rescues.write(id, 0, b"archive")
    services.rescues.finish(id, 7, blake3(b"archive").hexdigest())
    with services.write() as session:
        facts = {"paths": ["home"], "files": 3, "unreadable_count": 1, "unreadable": [["<i>x", "no"]]}
        session.add(Rescue(id=id, host="B204-02", size=7, facts=facts))
    page = ada.get("/rescues").text
    assert "1 could not be read" in page
    assert "<i>x" not in page
    assert ada.get(f"/rescues/{id}/archive").content == b"archive"
    assert sign_in("vera", "viewer").get("/rescues").status_code == 403
    assert "No files were rescued yet" in ada.post(f"/rescues/{id}/delete", data={"csrf": token}).text


def test_a_lesser_role_starts_nothing(sign_in: Any) -> None:
    vera = sign_in("vera", "viewer")
    token = csrf(vera.get("/account").text)
    form = {"csrf": token, "host": "B204-01", "kind": "test"}
    assert vera.post("/tasks/new", data=form).status_code == 403
