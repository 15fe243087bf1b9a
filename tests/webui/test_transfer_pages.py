"""What is being sent, on the pages: figures, the form that slows a room down, and why it was slow."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from babel.messages.pofile import read_po
from starlette.testclient import TestClient

from pxeboot import i18n
from pxeboot.adapters.container import Services
from pxeboot.services import transfers
from pxeboot.services.transfer_views import HostFiguresView, ReasonView, StreamView, TransferView
from pxeboot.transfer.log import Sample, StreamLog
from pxeboot.transfer.sentences import SENTENCES
from pxeboot.transfer.why import Reason
from tests.plane import NOW
from tests.webui.test_pages import csrf
from webui import transfer

pytestmark = pytest.mark.usefixtures("room")
TEMPLATES = Path(transfer.__file__).parent / "templates"


@pytest.fixture
def operation(ada: TestClient) -> str:
    form = {"csrf": csrf(ada.get("/deploy").text), "group": "B204", "image": "debian", "limit": "80"}
    return str(ada.post("/deploy", data=form).url).rsplit("/", 1)[1]


def test_a_room_is_slowed_down_from_its_page(ada: TestClient, services: Services, operation: str) -> None:
    page = ada.get(f"/operations/{operation}").text
    assert 'value="80"' in page
    form = {"csrf": csrf(page), "limit": "12,5", "priority": "low"}
    assert ada.post(f"/operations/{operation}/bandwidth", data=form).status_code == 200
    with services.read() as session:
        assert transfers.rules(session, [operation]) == {operation: (12.5, 0.25)}
    assert 'value="12.5"' in ada.get(f"/operations/{operation}").text
    assert ada.post(f"/operations/{operation}/bandwidth", data={**form, "limit": "much"}).status_code == 422
    ada.post(f"/operations/{operation}/bandwidth", data={**form, "limit": ""})
    with services.read() as session:
        assert transfers.rules(session, [operation])[operation][0] is None


def test_the_slow_are_named_with_their_reason(ada: TestClient, services: Services, operation: str) -> None:
    reason = ReasonView.of(Reason("now-disk", {"host": "B204-01", "percent": "0", "speed": "9.0"}))
    host = HostFiguresView(
        host="B204-01", way="multicast", rate_mbit=72, loss_percent=1.5, backlog_percent=95, wanted=8,
        taken_bytes=10, state="receiving", class_="slow", stage="receive", eta_seconds=754,
        sparks=[10, 70, 72], reason=reason,
    )  # fmt: skip
    stream = StreamView(
        session=7, way="multicast", interface="eth1", rate_mbit=80, granted_mbit=80, bound="operation"
    )
    services.sessions.transfers._views[operation] = TransferView(
        operation=operation, limit_mbit=80, eta_seconds=754, streams=[stream], hosts=[host]
    )
    page = ada.get(f"/operations/{operation}").text
    for shown in ("Its disk writes 9.0 MB/s", "13 min", "held by the limit of this operation", "<polyline"):
        assert shown in page
    french = ada.get(f"/operations/{operation}", headers={"Accept-Language": "fr"}).text
    assert "Son disque écrit 9.0 Mo/s" in french


def test_why_it_was_slow(ada: TestClient, services: Services, operation: str) -> None:
    assert "nothing to explain" in ada.get(f"/operations/{operation}/why").text
    log = StreamLog("http", "eth1")
    for n in range(10):
        log.add(Sample(NOW.timestamp() + n * 60, 79, 80, "operation", 79, 950))
    with services.write() as session:
        transfers.keep(session, operation, 0, log.to_json(), now=NOW)
    assert "The limit of this operation, 80 Mbit/s, held" in ada.get(f"/operations/{operation}/why").text
    french = ada.get(f"/operations/{operation}/why", headers={"Accept-Language": "fr"}).text
    assert "La limite de cette opération, 80 Mbit/s, a joué" in french


def test_curves_and_times() -> None:
    assert transfer.spark([1.0]) == ""
    assert transfer.spark([0.0, 10.0]) == "0.0,15.0 80.0,1.0"
    assert [transfer.left(seconds) for seconds in (None, 45, 720, 3900)] == [
        "",
        "45 s",
        "12 min",
        "1 h 05 min",
    ]


def test_all_of_it_is_said_in_french() -> None:
    with (i18n.LOCALES / "fr" / "LC_MESSAGES" / "pxeboot.po").open("rb") as stream:
        catalogue = {message.id: message.string for message in read_po(stream)}
    texts = [*SENTENCES.values(), *transfer.BOUNDS.values(), *transfer.PRIORITIES.values()]
    texts += [word for word in transfer.GRADES.values() if word]
    for name in ("transfer.html", "tasks.html", "operation.html", "operation_why.html", "deploy.html"):
        texts += re.findall(r'_\("([^"]+)"', (TEMPLATES / name).read_text(encoding="utf-8"))
    assert [text for text in texts if not catalogue.get(text)] == []
