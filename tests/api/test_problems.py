"""Every error has one shape."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

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


async def test_health(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    assert (await client.get("/readyz")).json()["store"] is True
    assert (await client.get("/version")).json()["name"] == "pxeboot"
