"""Pages of images that are versions: history, tags, rollback, differences, options, the store's jobs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from pxeboot.adapters.container import Services
from pxeboot.db.models import Task, TaskState
from pxeboot.services import attempts, checkin, outcomes, tasks
from pxeboot.services.auth import Role
from tests.shelf import spoil, stock
from tests.webui.test_pages import csrf
from webui.outcomes import lines

SignIn = Callable[[str, Role], TestClient]


@pytest.fixture
def shelf(services: Services, room: None) -> Services:
    stock(services, "linux", "a", "b", source_host="pc1", actor="ada", note_text="before the exam")
    stock(services, "linux", "a", "c", source_host="pc1", actor="ada")
    stock(services, "linux", "a", "d", source_host="pc2", actor="bob")
    return services


@pytest.fixture
def send(ada: TestClient) -> Callable[..., httpx.Response]:
    """Send a form as the administrator."""
    token = csrf(ada.get("/images").text)

    def call(path: str, **fields: Any) -> httpx.Response:
        return ada.post(path, data={"csrf": token, **fields})

    return call


def rows(page: str) -> list[str]:
    """The rows of the table of versions, as words."""
    return [
        " ".join(re.sub(r"<[^>]+>", " ", row).split())
        for row in re.findall(r'<tr data-version="\d+">.*?</tr>', page, re.S)
    ]


def test_the_history_and_one_version(shelf: Services, ada: TestClient) -> None:
    newest, middle, first = rows(ada.get("/images/linux").text)
    assert newest.startswith("linux@3 current")
    assert "pc2 bob" in newest
    assert "before the exam" in first
    assert "current" not in middle
    page = ada.get("/images/linux/versions/1").text
    assert "ext4" in page
    assert "No host is proved to hold it" in page
    assert ada.get("/images/linux/versions/9").status_code == 404


def test_tags_pins_and_a_rollback(shelf: Services, ada: TestClient, send: Any) -> None:
    assert "Saved." in send("/images/linux/versions/1/tag", tag="golden").text
    assert "Saved." in send("/images/linux/versions/1/pin").text
    assert "linux@1 pinned golden" in rows(ada.get("/images/linux").text)[2]
    assert "linux@golden" in ada.get("/deploy").text
    assert "cannot be a tag" in send("/images/linux/versions/1/tag", tag="7").text
    assert "is pinned; unpin it first" in send("/images/linux/versions/1/delete").text
    page = send("/images/linux/rollback", version="1").text
    assert "Deploys take linux@1, also when new versions come." in page
    assert "rolled back" in ada.get("/images").text
    assert "also when new" not in send("/images/linux/rollback", version="latest").text
    send("/images/linux/untag", tag="golden", version="1")
    send("/images/linux/versions/1/unpin")
    assert "Deleted." in send("/images/linux/versions/1/delete").text
    assert len(rows(ada.get("/images/linux").text)) == 2


def test_what_differs(shelf: Services, ada: TestClient) -> None:
    page = " ".join(re.sub(r"<[^>]+>", " ", ada.get("/images/linux/diff?from=1&to=2").text).split())
    assert "Came chunks: 1, 1.0 MB" in page
    assert "Stayed chunks: 2" in page
    assert "1 part1 fat the same" in page
    assert "2 part2 ext4 changed 1.0 MB" in page
    assert "Both are the same" in ada.get("/images/linux/diff?from=2&to=2").text


def test_an_image_s_defaults_are_a_form_that_comes_back(shelf: Services, ada: TestClient, send: Any) -> None:
    form = {"do": "save", "name": "linux", "description": "exam rooms", "keep": "2", "grow": "last"}
    assert "Saved." in send("/images/linux", **form, discard="yes").text
    page = ada.get("/images/linux").text
    assert 'name="grow" value="last"' in page
    assert 'name="keep" value="2"' in page
    refused = send("/images/linux", **{**form, "grow": "2, x"})
    assert (refused.status_code, "names no partitions" in refused.text) == (422, True)
    assert 'name="grow" value="2, x"' in refused.text
    plan = ada.get("/store/prune").text
    assert "linux@1" in plan.split('id="doomed"')[1].split("</p>")[0]
    assert "one of the 2 newest" in plan
    job = send("/store/prune")
    job_id = str(job.url).rsplit("/", 1)[1]
    shelf.jobs.wait(job_id, 90)
    done = ada.get(f"/jobs/{job_id}").text
    assert 'data-state="done"' in done
    assert "linux@1" in done


def test_verify_shows_what_is_damaged(shelf: Services, ada: TestClient, send: Any) -> None:
    spoil(shelf, "d")
    job_id = str(send("/store/verify", image="linux@3").url).rsplit("/", 1)[1]
    shelf.jobs.wait(job_id, 90)
    page = ada.get(f"/jobs/{job_id}").text
    assert "linux@3" in page
    assert "is damaged" in page
    assert "Damaged chunks: 1." in ada.get("/images").text
    assert ada.get("/jobs/nothing").status_code == 404


def test_only_administrators_change_versions(shelf: Services, sign_in: SignIn) -> None:
    grace = sign_in("grace", "technician")
    token = csrf(grace.get("/images").text)
    for path in (
        "/images/linux/versions/1/delete",
        "/images/linux/versions/1/pin",
        "/images/linux/rollback",
        "/store/prune",
        "/store/scrub",
        "/capture",
    ):
        assert grace.post(path, data={"csrf": token, "version": "1"}).status_code == 403, path
    assert grace.post("/store/verify", data={"csrf": token}).status_code == 200
    eve = sign_in("eve", "viewer")
    assert eve.get("/images/linux/versions/1").status_code == 200
    assert eve.post("/store/verify", data={"csrf": csrf(eve.get("/images").text)}).status_code == 403


def test_options_of_a_deploy_are_sent_shown_and_come_back(
    shelf: Services, ada: TestClient, send: Any
) -> None:
    form = {"group": "B204", "image": "linux", "grow": "2", "identities": "renew", "verify": "yes"}
    refused = send("/deploy", **{**form, "partitions": "1"})
    assert "deploy all partitions" in refused.text
    assert 'name="partitions" value="1"' in refused.text
    assert "<details open>" in refused.text
    page = send("/deploy", **form, rule="serial", disk="S3R1AL").text
    words = " ".join(re.sub(r"<[^>]+>", " ", page.split('id="options"')[1].split("</p>")[0]).split())
    assert "grow on a larger disk: 2" in words
    assert "identities: made new" in words
    assert "disk: serial S3R1AL" in words


def test_options_of_a_capture_are_sent_and_come_back(shelf: Services, ada: TestClient, send: Any) -> None:
    form = {"host": "B204-01", "image": "linux", "partitions": "1, 2", "whole": ["luks"], "note": "again"}
    refused = send("/capture", **{**form, "partitions": "one"})
    assert (refused.status_code, 'value="one"' in refused.text) == (422, True)
    page = send("/capture", **form).text
    assert "taken byte for byte: luks" in page
    assert "only the partitions: 1, 2" in page


def test_what_an_agent_did_is_told_on_both_pages(shelf: Services, ada: TestClient, send: Any) -> None:
    page = send("/deploy", group="B204", image="linux@1")
    operation = str(page.url).rsplit("/", 1)[1]
    with shelf.write() as session:
        host_id = 1
        task = tasks.active(session, host_id)
        assert task is not None
        now = task.created_at
        attempts.boot(session, host_id, now=now)
        assert tasks.claim(session, task.id, now=now)
        manifest = checkin.order(session, task.id, shelf.settings).manifest
        outcomes.outcome(
            session, task.id, attempt=1, ok=True, reason="", code="", verified=True,
            manifest=manifest, bytes_multicast=0, bytes_http=0,
            seconds={}, chunks={"total": 9, "kept": 7, "written": 2}, now=now,
            told={"afterwards": {"grown": {"2": [10_000_000, 20_000_000]}}, "left_out": ["<pagefile.sys>"]},
        )  # fmt: skip
        session.flush()
        assert session.get_one(Task, task.id).state == TaskState.DONE
    told = "9 chunks: 7 were on the disk already, 2 were written."
    for path, chunks in ((f"/operations/{operation}", "2 of 9 chunks written"), ("/hosts/B204-01", told)):
        page = ada.get(path).text
        assert chunks in page
        assert "Partition 2 grew from 10.0 MB to 20.0 MB." in page
        assert "left out: &lt;pagefile.sys&gt;" in page


def test_whatever_an_agent_sends_can_be_shown() -> None:
    def say(text: str, **named: Any) -> str:
        return text % named if named else text

    told: dict[str, Any] = {
        "version": "a@1",
        "stored_bytes": "many",
        "chunks": 7,
        "afterwards": {
            "shrunk": {"1": [5], "2": [20, 10]},
            "identities": {
                "disk": "renewed",
                "kept": {"1": "its tool is missing"},
                "files": {"2": ["fstab"]},
            },
            "boot_entries": {"created": ["Debian"], "deleted": "none"},
        },
        "customise": [
            {"step": "look", "name": "", "where": "", "ok": True},
            {"step": "host-name", "name": "", "where": "Debian", "ok": True},
            {"step": "file", "name": "motd", "where": "Debian", "ok": True},
            {"step": "script", "name": "printers", "ok": False, "output": "no such printer"},
            "nonsense",
        ],
        "grown": [1, 2],
        "empty": [],
    }
    assert list(lines(told, say)) == [
        "Became a@1.",
        "New in the store: .",
        "Partition 2 shrank from 20 B to 10 B.",
        "Disk and partitions have new identities (GUIDs, UUIDs).",
        "Partition 1 keeps its identities: its tool is missing.",
        "Files that name them were changed: fstab.",
        "Boot entries made: Debian.",
        "Failed: script printers. no such printer",
        "After the image: host name (Debian), file motd (Debian).",
    ]
