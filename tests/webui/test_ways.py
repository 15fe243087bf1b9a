"""By which way chunks come, and why not by multicast: on the operation's page, per host."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from pxeboot.adapters.container import Services
from pxeboot.services import attempts, tasks
from tests.webui.test_image_pages import send, shelf

__all__ = ["send", "shelf"]
REASON = "Nothing of 239.192.0.0 has arrived in 5 s <although> the server has sent 500 datagrams."


@pytest.mark.parametrize(
    ("language", "said", "size"),
    [("en", "From neighbours:", "77.0 MB"), ("fr", "Depuis les machines voisines :", "77.0 Mo")],
)
def test_a_host_that_hears_no_multicast_says_so_on_the_page(
    shelf: Services, ada: TestClient, send: Any, language: str, said: str, size: str
) -> None:
    page = send("/deploy", group="B204", image="linux@1", transport="multicast")
    operation = str(page.url).rsplit("/", 1)[1]
    with shelf.write() as session:
        task = tasks.active(session, 1)
        assert task is not None
        attempts.boot(session, 1, now=task.created_at)
        assert tasks.claim(session, task.id, now=task.created_at)
        tasks.progress(
            session, task.id, attempt=1, stage="receive", done=1, total=4, bytes_multicast=0,
            bytes_peers=77_000_000, bytes_http=0, way="peers", way_reason=REASON, message="",
            now=task.created_at,
        )  # fmt: skip
    text = ada.get(f"/operations/{operation}", headers={"Accept-Language": language}).text
    assert said in text
    assert "Nothing of 239.192.0.0 has arrived in 5 s &lt;although&gt;" in text
    assert size in text


def test_a_deploy_without_multicast_can_be_chosen(shelf: Services, ada: TestClient, send: Any) -> None:
    page = send("/deploy", group="B204", image="linux@1", transport="peers")
    operation = str(page.url).rsplit("/", 1)[1]
    with shelf.read() as session:
        from pxeboot.services import operations

        assert operations.get(session, operation).transport == "peers"
