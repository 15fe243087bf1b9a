"""Images that are versions, over the API: tags, pins, rollback, history, differences, deleting, the store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from imaging.store import ChunkStore
from pxeboot.adapters import storekeeper
from pxeboot.adapters.container import Services
from pxeboot.services import hosts, lookup
from tests.shelf import spoil, stock

Ask = Callable[..., httpx.Response]


@pytest.fixture
def shelf(services: Services, ask: Ask) -> Services:
    """debian@1..3; the second differs from the first by one chunk, the third is on a larger disk."""
    stock(services, "debian", "a", "b", "c", source_host="pc1", actor="ada")
    stock(services, "debian", "a", "x", "c", source_host="pc1", actor="ada")
    stock(services, "debian", "a", "x", "c", size=48, source_host="pc2", actor="bob")
    return services


def ended(services: Services, answer: httpx.Response) -> dict[str, Any]:
    """The job that a request started, at its end."""
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"/api/v1/jobs/{answer.json()['id']}"
    view = services.jobs.wait(answer.json()["id"], 90)
    assert view.state == "done", view.error
    return view.result


def current(ask: Ask) -> str:
    return str(ask("GET", "/images/debian").json()["current"]["name"])


def test_the_history_tells_who_when_and_how_much(shelf: Services, ask: Ask) -> None:
    items = ask("GET", "/images/debian/versions?usage=true", by="viewer").json()["items"]
    assert [(v["name"], v["by"], v["source_host"], v["current"]) for v in items] == [
        ("debian@3", "bob", "pc2", True),
        ("debian@2", "ada", "pc1", False),
        ("debian@1", "ada", "pc1", False),
    ]
    first = items[2]["usage"]
    assert first["own_chunks"] == 1  # b
    assert first["shared_chunks"] == 3
    assert 0 < first["own"] < first["shared"]
    partitions = items[0]["summary"]["disks"][0]["partitions"]
    assert [(p["number"], p["filesystem"]) for p in partitions] == [(1, "fat"), (2, "ext4")]


def test_a_tag_is_used_wherever_a_version_is_named(shelf: Services, ask: Ask, room: None) -> None:
    assert ask("PUT", "/images/debian/tags/golden", json={"version": "1"}).json()["name"] == "debian@1"
    for _ in range(2):  # twice is once
        answer = ask("PUT", "/images/debian/tags/golden", json={"version": "2"}).json()
        assert list(answer["tags"]) == ["golden"]
        assert answer["tags"]["golden"]["by"] == "admin"
    assert ask("GET", "/images/debian/versions/1").json()["tags"] == {}
    assert ask("GET", "/images/debian/versions/golden").json()["number"] == 2
    started = ask(
        "POST", "/operations", json={"kind": "deploy", "hosts": ["B204-01"], "image": "debian@golden"}
    ).json()
    assert started["version"] == "debian@2"
    assert ask("DELETE", "/images/debian/tags/golden").status_code == 204
    assert ask("DELETE", "/images/debian/tags/golden").status_code == 204
    missing = ask("GET", "/images/debian/versions/golden")
    assert (missing.status_code, missing.json()["code"]) == (404, "version-not-found")
    assert "debian@3" in missing.json()["detail"]
    for bad in ("7", "latest", "a/b", "ä"):
        assert ask("PUT", f"/images/debian/tags/{bad}", json={"version": "1"}).status_code in (404, 422)
    assert ask("PUT", "/images/debian/tags/x", by="technician", json={"version": "1"}).status_code == 403


def test_a_rollback_holds_until_it_is_let_go(shelf: Services, ask: Ask) -> None:
    assert current(ask) == "debian@3"
    back = ask("POST", "/images/debian:rollback").json()
    assert (back["current"]["name"], back["held"]) == ("debian@2", True)
    stock(shelf, "debian", "new")  # a capture does not undo what an administrator decided
    assert current(ask) == "debian@2"
    assert ask("POST", "/images/debian:rollback", json={"version": "1"}).json()["current"]["number"] == 1
    refused = ask("POST", "/images/debian:rollback")
    assert (refused.status_code, refused.json()["detail"]) == (409, "There is no version before debian@1.")
    free = ask("POST", "/images/debian:rollback", json={"version": "latest"}).json()
    assert (free["current"]["name"], free["held"]) == ("debian@4", False)
    stock(shelf, "debian", "newer")
    assert current(ask) == "debian@5"
    kinds = [event["kind"] for event in ask("GET", "/events").json()["items"]]
    assert {"image.rolled-back", "image.followed", "image.added"} <= set(kinds)


def test_what_differs_is_told_by_partition(shelf: Services, ask: Ask) -> None:
    diff = ask("GET", "/images/debian/diff?from=1&to=2", by="viewer").json()
    assert (diff["a"], diff["b"], diff["same"]) == ("debian@1", "debian@2", False)
    assert (diff["added_chunks"], diff["removed_chunks"], diff["common_chunks"]) == (1, 1, 3)
    assert diff["added_bytes"] == 1 << 20
    assert [(p["number"], p["change"], p["bytes"]) for p in diff["partitions"]] == [
        (1, "same", 0),
        (2, "changed", 1 << 20),
    ]
    larger = ask("GET", "/images/debian/diff").json()  # the current one and the one before it
    assert (larger["a"], larger["b"], larger["added_chunks"]) == ("debian@2", "debian@3", 0)
    assert "size: 27262976 → 44040192" in larger["partitions"][1]["note"]
    assert ask("GET", "/images/debian/diff?from=2&to=2").json()["same"] is True
    assert ask("GET", "/images/debian/diff?from=9").status_code == 404


def test_deleting_says_why_not(shelf: Services, ask: Ask, room: None) -> None:
    def refusal(version: str) -> str:
        answer = ask("DELETE", f"/images/debian/versions/{version}")
        assert answer.status_code == 409, answer.text
        return str(answer.json()["detail"])

    assert "is what a deploy of debian takes" in refusal("4")  # the room's own
    ask("POST", "/images/debian/versions/1:pin")
    assert refusal("1") == "debian@1 is pinned; unpin it first."
    ask("POST", "/images/debian/versions/1:unpin")
    ask("PUT", "/images/debian/tags/exam", json={"version": "1"})
    assert "has the tag exam" in refusal("1")
    ask("DELETE", "/images/debian/tags/exam")
    operation = ask(
        "POST", "/operations", json={"kind": "deploy", "hosts": ["B204-01"], "image": "debian@1"}
    ).json()
    assert f"Operation {operation['id']} still uses debian@1" in refusal("1")
    ask("POST", f"/operations/{operation['id']}:cancel")
    schedule = ask(
        "POST",
        "/schedules",
        json={"operation": {"kind": "deploy", "group": "B204", "image": "debian@1"}, "cron": "0 6 * * *"},
    ).json()
    assert "Schedule deploy B204 deploys debian@1" in refusal("1")
    ask("DELETE", f"/schedules/{schedule['id']}")
    manifest = ask("GET", "/images/debian/versions/1").json()["manifest"]
    assert shelf.store.has_manifest(manifest)
    assert ask("DELETE", "/images/debian/versions/1", by="technician").status_code == 403
    assert ask("DELETE", "/images/debian/versions/1").status_code == 204
    assert not shelf.store.has_manifest(manifest)
    assert ask("DELETE", "/images/debian/versions/1").status_code == 404
    assert ask("GET", f"/operations/{operation['id']}").json()["version"] is None


def test_a_number_is_never_used_twice(shelf: Services, ask: Ask) -> None:
    ask("POST", "/images/debian:rollback", json={"version": "1"})
    assert ask("DELETE", "/images/debian/versions/3").status_code == 204
    assert stock(shelf, "debian", "again").name == "debian@4"


def test_a_manifest_stays_while_another_image_has_it(shelf: Services, ask: Ask) -> None:
    same = stock(shelf, "copy", "a", "b", "c")
    assert ask("DELETE", "/images/debian/versions/1").status_code == 204
    assert shelf.store.has_manifest(same.manifest)
    assert ask("DELETE", "/images/copy").status_code == 204
    assert not shelf.store.has_manifest(same.manifest)


def test_hosts_that_hold_a_version_are_named(shelf: Services, ask: Ask, room: None) -> None:
    manifest = ask("GET", "/images/debian/versions/2").json()["manifest"]
    with shelf.write() as session:
        host = lookup.host(session, "B204-02")
        host.held_manifest = manifest
        session.add(host)
    view = ask("GET", "/images/debian/versions/2").json()
    assert (view["hosts"], view["held_by"]) == (1, ["B204-02"])
    with shelf.read() as session:
        assert hosts.get_host(session, "B204-02").held_version == "debian@2"


def test_prune_keeps_what_it_must_and_says_so_first(shelf: Services, ask: Ask) -> None:
    for letter in "pqrs":
        stock(shelf, "debian", "a", letter)  # 4, 5, 6, 7
    ask("POST", "/images/debian/versions/2:pin")
    ask("PUT", "/images/debian/tags/golden", json={"version": "3"})
    ask("POST", "/images/debian:rollback", json={"version": "4"})
    assert ask("GET", "/store/prune-plan").json()["delete"] == []
    ask("PATCH", "/images/debian", json={"params": {"keep": 2}})
    plan = ask("GET", "/store/prune-plan?image=debian", by="viewer").json()
    assert plan["delete"] == ["debian@5", "debian@1"]
    assert {kept["version"]: kept["reason"] for kept in plan["keep"]} == {
        "debian@7": "one of the 2 newest",
        "debian@6": "one of the 2 newest",
        "debian@4": "current",
        "debian@3": "tagged golden",
        "debian@2": "pinned",
    }
    assert ask("GET", "/images/debian").json()["versions"] == 7  # a plan changes nothing
    result = ended(shelf, ask("POST", "/store:prune", json={"image": "debian"}))
    assert (result["versions"], result["chunks"]) == (["debian@5", "debian@1"], 2)  # q and b
    assert [v["number"] for v in ask("GET", "/images/debian/versions").json()["items"]] == [7, 6, 4, 3, 2]
    assert ended(shelf, ask("POST", "/store:verify"))["damaged"] == 0
    assert ask("POST", "/store:prune", by="technician").status_code == 403
    assert ask("POST", "/store:prune", json={"image": "nothing"}).status_code == 404


def test_verify_and_scrub_name_the_versions_that_damage_hits(shelf: Services, ask: Ask) -> None:
    assert ended(shelf, ask("POST", "/store:verify", json={"image": "debian"}, by="technician")) == {
        "chunks": 4, "damaged": 0, "findings": [], "versions": {},
    }  # fmt: skip
    spoil(shelf, "x")
    assert ended(shelf, ask("POST", "/store:verify", json={"image": "debian@1"}))["damaged"] == 0
    result = ended(shelf, ask("POST", "/store:verify"))
    assert (result["damaged"], result["versions"]) == (1, {"debian@2": 1, "debian@3": 1})
    assert "capture the image again" in result["findings"][0]["sentence"]
    scrubbed = ended(shelf, ask("POST", "/store:scrub"))
    assert (scrubbed["complete"], scrubbed["versions"]) == (True, {"debian@2": 1, "debian@3": 1})
    assert shelf.journal.flush()
    seen = ask("GET", "/store", by="viewer").json()
    assert (seen["versions"], seen["damaged"], seen["scrub"]["result"]["damaged"]) == (3, 1, 1)
    assert seen["scrub"]["next_at"] > datetime.now(UTC).isoformat()
    stock(shelf, "cure", "x")  # the next capture brings the chunk again
    assert ended(shelf, ask("POST", "/store:verify"))["damaged"] == 0


def test_a_capture_is_refused_when_there_is_no_room(
    shelf: Services, ask: Ask, room: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storekeeper, "LEAST_ROOM", 1 << 60)
    refused = ask("POST", "/operations", json={"kind": "capture", "hosts": ["B204-01"], "image": "fresh"})
    assert (refused.status_code, refused.json()["code"]) == (507, "store-full")
    assert "prune the store" in refused.json()["detail"]
    assert ask("GET", "/operations").json()["items"] == []
    deploy = ask("POST", "/operations", json={"kind": "deploy", "hosts": ["B204-01"], "image": "debian"})
    assert deploy.status_code == 202


def test_the_store_looks_after_itself_when_nothing_happens(shelf: Services, ask: Ask, room: None) -> None:
    now = datetime.now(UTC)
    shelf.keeper.tick(now + timedelta(minutes=5))
    assert shelf.jobs.list() == []  # too soon
    operation = ask(
        "POST", "/operations", json={"kind": "deploy", "hosts": ["B204-01"], "image": "debian"}
    ).json()
    later = now + timedelta(hours=1)
    shelf.keeper.tick(later)
    ask("POST", f"/operations/{operation['id']}:cancel")
    shelf.keeper.tick(later + timedelta(minutes=9))
    assert shelf.jobs.list() == []  # machines were at work a moment ago
    shelf.keeper.tick(later + timedelta(minutes=11))
    scrub = shelf.jobs.list()[0]
    assert (scrub.kind, shelf.jobs.wait(scrub.id, 90).result["complete"]) == ("scrub", True)
    assert shelf.journal.flush()
    shelf.keeper.tick(later + timedelta(minutes=30))
    recompress = shelf.jobs.list()[0]
    assert (recompress.kind, shelf.jobs.wait(recompress.id, 90).state) == ("recompress", "done")
    assert shelf.journal.flush()
    shelf.keeper.tick(later + timedelta(minutes=50))
    assert [job.kind for job in shelf.jobs.list()] == ["recompress", "scrub"]  # nothing is due


def test_a_scrub_makes_way_for_a_prune(shelf: Services, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    def slow(self: ChunkStore, rate: Any, progress: Any, stop: Callable[[], bool], **more: Any) -> Any:
        begun.append(rate)
        while not stop():
            pass
        return storekeeper_report()

    monkeypatch.setattr(ChunkStore, "scrub", slow)
    scrub = ask("POST", "/store:scrub").json()
    again = ask("POST", "/store:scrub").json()
    assert again["id"] == scrub["id"]
    assert ask("POST", "/store:scrub", json={"restart": True}).status_code == 409
    ended(shelf, ask("POST", "/store:prune"))
    view = shelf.jobs.wait(scrub["id"], 90)
    assert (view.state, view.error) == ("cancelled", "It made way: Prune the image store.")
    assert begun == [20e6]


def storekeeper_report() -> Any:
    from imaging.store import ScrubReport

    return ScrubReport(False, 0, 0, 0, 0, (), {})
