"""Every error has one shape."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import Request

from api.app import create_app
from pxeboot.errors import Conflict, NotFound, StoreRefused, Throttled
from tests.api.conftest import Served


def shape(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail", "instance", "code", "errors"} <= set(body)
    assert body["status"] == answer.status_code
    return body


async def test_404_405_and_validation(client: httpx.AsyncClient) -> None:
    assert shape(await client.get("/nothing"))["code"] == "not-found"
    wrong = await client.put("/healthz")
    assert shape(wrong)["code"] == "method-not-allowed"
    assert wrong.headers["allow"] == "GET"
    secret = await client.post("/agent/v1/checkin", json={"token": 5, "password": "hunter2"})
    body = shape(secret)
    assert (body["status"], body["code"]) == (422, "invalid")
    assert {error["field"] for error in body["errors"]} == {"body.token", "body.mac"}
    assert "hunter2" not in secret.text
    assert shape(await client.post("/agent/v1/checkin", content=b"{"))["status"] == 422


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (NotFound("image", "x"), 404, "image-not-found"),
        (Conflict("no", errors=[{"host": "pc1"}]), 409, "conflict"),
        (StoreRefused("full", "store-full", 507), 507, "store-full"),
        (Throttled("slowly", 7), 429, "too-many-attempts"),
        (ZeroDivisionError("a secret"), 500, "internal"),
    ],
)
async def test_errors_of_ours(served: Served, error: Exception, status: int, code: str) -> None:
    app = create_app(served.services)

    @app.get("/boom")
    def boom() -> None:
        raise error

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        answer = await client.get("/boom")
    body = shape(answer)
    assert (body["status"], body["code"]) == (status, code)
    assert "a secret" not in answer.text
    if code == "conflict":
        assert body["errors"] == [{"host": "pc1"}]
    if status == 429:
        assert answer.headers["retry-after"] == "7"


async def test_a_machine_that_goes_away_in_mid_upload_is_no_mistake_of_ours(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(served.services)

    @app.put("/upload")
    async def upload(request: Request) -> int:
        return len(await request.body())

    said = iter([{"type": "http.request", "body": b"half", "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(said)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "PUT", "path": "/upload", "raw_path": b"/upload", "query_string": b"",
        "headers": [], "client": ("10.20.0.7", 40000), "server": ("10.20.0.1", 80), "http_version": "1.1",
        "scheme": "http", "root_path": "",
    }  # fmt: skip
    with caplog.at_level("INFO"):
        await app(scope, receive, send)
    assert "10.20.0.7 went away" in caplog.text
    assert "Traceback" not in caplog.text
    assert all(message.get("status", 400) == 400 for message in sent)


async def test_health(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    assert (await client.get("/readyz")).json()["store"] is True
    assert (await client.get("/version")).json()["name"] == "pxeboot"
