"""Limits, figures, reasons and metrics: asked as administrator, as viewer and as a stranger."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from pxeboot.adapters.container import Services
from pxeboot.adapters.metrics import Family, Metrics, render
from pxeboot.services import operations, transfers
from pxeboot.services.transfer_views import HostFiguresView, TransferView
from pxeboot.transfer.log import HostPoint, Sample, StreamLog
from tests.plane import NOW

Ask = Callable[..., httpx.Response]
pytestmark = pytest.mark.usefixtures("room")
DEPLOY = {"kind": "deploy", "group": "B204", "image": "debian", "limit_mbit": 80, "priority": "low"}


@pytest.fixture
def operation(ask: Ask) -> str:
    return str(ask("POST", "/operations", json=DEPLOY).json()["id"])


def test_a_limit_is_given_at_the_start_and_changed_while_it_runs(ask: Ask, operation: str) -> None:
    transfer = ask("GET", f"/operations/{operation}/transfer", by="viewer").json()
    assert (transfer["limit_mbit"], transfer["priority"], transfer["streams"]) == (80, "low", [])
    changed = ask("PATCH", f"/operations/{operation}", json={"limit_mbit": 20})
    assert changed.json()["params"]["limit_mbit"] == 20
    assert changed.json()["params"]["priority"] == "low"
    lifted = ask("PATCH", f"/operations/{operation}", json={"limit_mbit": None, "priority": "high"})
    assert lifted.json()["params"]["limit_mbit"] is None
    assert ask("GET", f"/operations/{operation}/transfer").json()["priority"] == "high"


def test_who_may_change_it(ask: Ask, operation: str) -> None:
    body = {"limit_mbit": 20}
    assert ask("PATCH", f"/operations/{operation}", json=body, by=None).status_code == 401
    assert ask("PATCH", f"/operations/{operation}", json=body, by="viewer").status_code == 403
    for path in ("transfer", "why", "log"):
        assert ask("GET", f"/operations/{operation}/{path}", by=None).status_code == 401
        assert ask("GET", f"/operations/{operation}/{path}", by="viewer").status_code == 200
        assert ask("GET", f"/operations/none/{path}").status_code == 404


@pytest.mark.parametrize("body", [{"limit_mbit": 0}, {"limit_mbit": -5}, {"priority": "urgent"}, {"x": 1}])
def test_nonsense_is_refused(ask: Ask, operation: str, body: dict[str, object]) -> None:
    assert ask("PATCH", f"/operations/{operation}", json=body).status_code == 422


def test_an_operation_that_is_over_cannot_be_changed(ask: Ask, operation: str) -> None:
    ask("POST", f"/operations/{operation}:cancel")
    answer = ask("PATCH", f"/operations/{operation}", json={"limit_mbit": 20})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


def test_why_it_took_so_long(ask: Ask, services: Services, operation: str) -> None:
    assert ask("GET", f"/operations/{operation}/why").json()["reasons"] == []
    log = StreamLog("http", "eth1")
    for n in range(10):
        hosts = {"B204-01": HostPoint(taken=n)}
        log.add(Sample(NOW.timestamp() + n * 60, 79, 80, "operation", 79, 950, hosts))
    with services.write() as session:
        transfers.keep(session, operation, 0, log.to_json(), now=NOW)
    told = ask("GET", f"/operations/{operation}/why").json()["reasons"]
    assert [reason["code"] for reason in told] == ["by-http", "limit-operation"]
    assert told[1]["sentence"] == "The limit of this operation, 80 Mbit/s, held from 13:00:00 to 13:09:00."
    (record,) = ask("GET", f"/operations/{operation}/log").json()
    assert (record["way"], len(record["samples"])) == ("http", 10)


def test_the_stream_of_an_operation_tells_what_it_transfers(
    ask: Ask, app: FastAPI, services: Services, operation: str
) -> None:
    with services.write() as session:
        operations.cancel(session, operation, actor="ada")
    text = ask("GET", f"/operations/{operation}/events").text
    assert "event: transfer\ndata: {" in text
    assert text.rstrip().split("\n\n")[-1].startswith("event: end")


def test_metrics_need_a_token(ask: Ask, app: FastAPI, operation: str) -> None:
    client = TestClient(app)
    assert client.get("/metrics").status_code == 401
    token = str(ask("POST", "/tokens", json={"name": "prometheus", "role": "viewer"}).json()["token"])
    answer = client.get("/metrics", headers={"Authorization": f"Bearer {token}"})
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    assert 'pxeboot_hosts{state="approved"} 2' in lines
    assert 'pxeboot_tasks{state="queued"} 2' in lines
    assert "pxeboot_operations_running 1" in lines
    assert 'pxeboot_sent_bytes_total{way="http"} 0' in lines
    assert "# TYPE pxeboot_sent_bytes_total counter" in lines
    assert any(line.startswith("pxeboot_store_chunks ") for line in lines)


def test_machines_that_receive_are_counted_and_named_up_to_a_bound(
    services: Services, operation: str
) -> None:
    def machine(number: int) -> HostFiguresView:
        return HostFiguresView(
            host=f"pc{number:03}", way="peers" if number else "multicast", rate_mbit=80, loss_percent=12,
            backlog_percent=50, wanted=1, taken_bytes=1, state="receiving", class_="healthy",
            stage="receive", eta_seconds=None if number else 30, sparks=[],
        )  # fmt: skip

    services.sessions.transfers._views[operation] = TransferView(
        operation=operation, hosts=[machine(number) for number in range(600)]
    )
    lines = render(Metrics(services).collect()).splitlines()
    assert 'pxeboot_receivers{way="multicast",class="healthy"} 1' in lines
    assert 'pxeboot_receivers{way="peers",class="healthy"} 599' in lines
    assert 'pxeboot_receiver_rate_bits{host="pc000"} 80000000' in lines
    assert 'pxeboot_receiver_loss_ratio{host="pc511"} 0.12' in lines
    assert not any('host="pc512"' in line for line in lines)
    assert [line for line in lines if line.startswith("pxeboot_receiver_eta")] == [
        'pxeboot_receiver_eta_seconds{host="pc000"} 30'
    ]
    assert 'pxeboot_received_bytes{way="peers"} 0' in lines


def test_label_values_are_escaped() -> None:
    made = render(
        [Family("a", "gauge", "A.", [({"x": 'q"\\\n'}, 0.5), ({}, 3)]), Family("b", "gauge", "B.", [])]
    )
    assert made == '# HELP a A.\n# TYPE a gauge\na{x="q\\"\\\\\\n"} 0.5\na 3\n'
