"""`/api/v1/jobs`: read by everybody, ended by administrators, followed live."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable

import httpx

from api.v1.live import job_stream
from pxeboot.adapters.container import Services

Ask = Callable[..., httpx.Response]


def test_jobs_are_listed_shown_and_cancelled(ask: Ask, services: Services) -> None:
    view = services.jobs.start("verify", "Verify debian@1", lambda handle: {"stopped": handle.wait(60)})
    listed = ask("GET", "/jobs", by="viewer").json()["items"]
    assert [(item["id"], item["title"]) for item in listed] == [(view.id, "Verify debian@1")]
    assert ask("GET", "/jobs?kind=prune").json()["items"] == []
    assert ask("GET", f"/jobs/{view.id}", by="viewer").json()["state"] == "running"
    assert ask("DELETE", f"/jobs/{view.id}", by="technician").status_code == 403
    assert ask("DELETE", f"/jobs/{view.id}", by=None).status_code == 401
    answer = ask("DELETE", f"/jobs/{view.id}")
    assert answer.status_code == 202
    assert services.jobs.wait(view.id, 30).state == "cancelled"
    assert ask("DELETE", f"/jobs/{view.id}").json()["error"] == "It was cancelled by admin."
    unknown = ask("GET", "/jobs/nothing")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "job-not-found")


async def test_a_job_is_followed_to_its_end(services: Services) -> None:
    go_on = threading.Event()

    def work(handle: object) -> dict[str, object]:
        go_on.wait(60)
        return {"bad": 0}

    view = services.jobs.start("verify", "Verify", work)
    body = aiter(job_stream(services, view.id).body_iterator)
    first = str(await asyncio.wait_for(anext(body), 10))
    assert first.startswith("event: job")
    go_on.set()
    seen = first
    while not seen.startswith("event: end"):
        seen = str(await asyncio.wait_for(anext(body), 10))
    assert json.loads(seen.split("data: ", 1)[1]) == {"state": "done"}
