"""The admin API from a script's side: lists, changes, idempotent operations, problems with stable codes."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from fastapi import FastAPI

Ask = Callable[..., httpx.Response]


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, object]:
    """The problem document of an answer, which must be one (RFC 9457)."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    document: dict[str, object] = answer.json()
    assert document["code"] == code
    assert document["status"] == status
    assert document["detail"]
    return document


def test_nobody_comes_in_without_a_token(ask: Ask) -> None:
    for path in ("/hosts", "/groups", "/images", "/operations", "/schedules", "/tokens", "/events"):
        problem(ask("GET", path, by=None), 401, "token-missing")
        assert ask("GET", path, by="pxb_nobody_nothing").status_code == 401


def test_a_viewer_reads_and_changes_nothing(ask: Ask, room: None) -> None:
    assert ask("GET", "/hosts", by="viewer").status_code == 200
    problem(ask("PATCH", "/hosts/B204-01", by="viewer", json={"name": "x"}), 403, "forbidden")
    problem(ask("POST", "/groups/B204:reset", by="technician", json={"image": "debian"}), 403, "forbidden")
    assert ask("POST", "/hosts:approve", by="technician", json={"hosts": ["B204-03"]}).status_code == 200


def test_hosts_are_listed_in_pages_and_found_by_mac(ask: Ask, room: None) -> None:
    first = ask("GET", "/hosts?limit=2").json()
    assert [host["name"] for host in first["items"]] == ["B204-01", "B204-02"]
    second = ask("GET", f"/hosts?limit=2&cursor={first['next_cursor']}").json()
    assert [host["name"] for host in second["items"]] == ["B204-03"]
    assert second["next_cursor"] is None
    assert ask("GET", "/hosts/52:54:00:00:00:02").json()["name"] == "B204-02"
    problem(ask("GET", "/hosts/B204-99"), 404, "host-not-found")


def test_approving_tells_the_result_of_each_host(ask: Ask, room: None) -> None:
    answer = ask("POST", "/hosts:approve", json={"hosts": ["B204-03", "B204-77"]}).json()
    assert [(r["host"], r["ok"], r["code"]) for r in answer["results"]] == [
        ("B204-03", True, ""),
        ("B204-77", False, "host-not-found"),
    ]
    assert ask("GET", "/hosts/B204-03").json()["state"] == "approved"


def test_a_reset_sent_twice_with_one_key_runs_once(ask: Ask, room: None) -> None:
    request = {"json": {"image": "debian@1"}, "headers": {"Idempotency-Key": "exam-8-00"}}
    first = ask("POST", "/groups/B204:reset", **request)
    again = ask("POST", "/groups/B204:reset", **request)
    assert first.status_code == again.status_code == 202
    assert first.headers["location"] == again.headers["location"]
    assert again.headers["idempotent-replayed"] == "true"
    assert first.json()["id"] == again.json()["id"]
    assert len(ask("GET", "/operations").json()["items"]) == 1
    other = ask(
        "POST", "/groups/B204:reset", json={"image": "debian"}, headers={"Idempotency-Key": "exam-8-00"}
    )
    problem(other, 422, "idempotency-key-reused")


def test_a_group_deploy_goes_on_without_the_host_that_may_not(ask: Ask, room: None) -> None:
    started = ask("POST", "/operations", json={"kind": "deploy", "group": "B204", "image": "debian"})
    assert started.status_code == 202
    operation = ask("GET", started.headers["location"].removeprefix("/api/v1")).json()
    states = {task["host"]: (task["state"], task["reason"]) for task in operation["tasks"]}
    assert states["B204-01"][0] == states["B204-02"][0] == "queued"
    assert states["B204-03"][0] == "failed"
    assert "approv" in states["B204-03"][1]


def test_wrong_requests_are_one_clear_sentence(ask: Ask, room: None) -> None:
    wrong = {"kind": "deploy", "group": "B204", "image": "debain"}
    document = problem(ask("POST", "/operations", json=wrong), 404, "image-not-found")
    assert "debian" in str(document["detail"]), "the nearest name helps"
    problem(
        ask("POST", "/operations", json={"kind": "deploy", "group": "C9", "image": "debian"}),
        404,
        "group-not-found",
    )
    document = problem(ask("POST", "/operations", json={"kind": "explode"}), 422, "invalid")
    assert document["errors"]
    problem(ask("POST", "/operations", content=b"{"), 422, "invalid")
    assert ask("GET", "/nowhere").status_code == 404
    assert ask("DELETE", "/hosts").status_code == 405


def test_cancel_ends_what_waits(ask: Ask, room: None) -> None:
    started = ask(
        "POST", "/operations", json={"kind": "deploy", "hosts": ["B204-01"], "image": "debian"}
    ).json()
    ended = ask("POST", f"/operations/{started['id']}:cancel").json()
    assert ended["state"] == "cancelled"
    assert [task["state"] for task in ended["tasks"]] == ["cancelled"]


def test_following_an_operation_ends_with_it(ask: Ask, room: None) -> None:
    started = ask(
        "POST", "/operations", json={"kind": "deploy", "hosts": ["B204-01"], "image": "debian"}
    ).json()
    ask("POST", f"/operations/{started['id']}:cancel")
    stream = ask("GET", f"/operations/{started['id']}/events")
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert [line for line in stream.text.splitlines() if line.startswith("event: ")] == [
        "event: operation",
        "event: transfer",
        "event: end",
    ]


def test_a_schedule_takes_wall_clock_time_of_its_zone(ask: Ask, room: None) -> None:
    operation = {"kind": "deploy", "group": "B204", "image": "debian"}
    body = {"operation": operation, "at": "2030-07-01T06:30:00", "zone": "Europe/Paris"}
    made = ask("POST", "/schedules", json=body)
    assert made.status_code == 201, made.text
    assert made.json()["next_run_at"].startswith("2030-07-01T04:30:00")
    body = {"operation": operation, "at": "2030-07-01T06:30:00", "zone": "Paris"}
    problem(ask("POST", "/schedules", json=body), 422, "invalid")
    nightly = ask(
        "POST", "/schedules", json={"operation": operation, "cron": "30 6 * * 1-5", "zone": "Europe/Paris"}
    )
    assert nightly.status_code == 201
    off = ask("PATCH", f"/schedules/{nightly.json()['id']}", json={"enabled": False}).json()
    assert off["enabled"] is False
    assert ask("DELETE", f"/schedules/{nightly.json()['id']}").status_code == 204


def test_a_token_is_shown_once_and_can_be_revoked(ask: Ask) -> None:
    made = ask("POST", "/tokens", json={"name": "nightly script", "role": "viewer", "days": 30}).json()
    assert ask("GET", "/hosts", by=made["token"]).status_code == 200
    listed = ask("GET", "/tokens").text
    assert made["prefix"] in listed
    assert made["token"] not in listed
    assert ask("DELETE", f"/tokens/{made['prefix']}").status_code == 204
    assert ask("GET", "/hosts", by=made["token"]).status_code == 401


def test_explain_says_what_and_why(ask: Ask, room: None) -> None:
    answer = ask("GET", "/hosts/B204-03/explain").json()
    assert answer["action"] == "local"
    assert "approv" in answer["reason"]
    assert ask("GET", "/hosts/52:54:00:ff:ff:ff/explain").json()["action"] == "menu"


def test_openapi_describes_every_endpoint_with_a_stable_name(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    names = [
        operation["operationId"]
        for path, methods in paths.items()
        if path.startswith("/api/v1/")
        for operation in methods.values()
    ]
    assert len(names) == len(set(names)) > 25
    assert {"startOperation", "resetGroup", "approveHosts", "explainHost"} <= set(names)


@pytest.mark.parametrize("role", ["technician", "viewer", None])
def test_only_administrators_make_tokens(ask: Ask, role: str | None) -> None:
    assert ask("POST", "/tokens", by=role, json={"name": "x"}).status_code in (401, 403)
