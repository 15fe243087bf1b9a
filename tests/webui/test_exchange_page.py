"""The section about files from and for other programs, on the page of images."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from pxeboot.adapters.container import Services
from tests.shelf import stock
from tests.webui.test_pages import csrf


@pytest.fixture
def send(ada: TestClient) -> Any:
    token = csrf(ada.get("/images").text)
    return lambda to_page, **fields: ada.post(to_page, data={"csrf": token, **fields})


def test_files_are_listed_and_imported(services: Services, ada: TestClient, send: Any) -> None:
    stock(services, "debian", "a", "b")
    assert "Nothing lies there" in ada.get("/images").text
    page = send("/exchange/export", image="debian@1", format="bundle").text
    assert "Export debian@1 to debian-1.pxi" in page
    services.jobs.wait(services.jobs.list(kind="export")[0].id, 90)
    assert 'data-file="debian-1.pxi"' in ada.get("/images").text
    page = send("/exchange/import", path="debian-1.pxi", image="copy").text
    assert "Import debian-1.pxi as copy" in page
    assert services.jobs.wait(services.jobs.list(kind="import")[0].id, 90).result["version"] == "copy@1"
    assert "is not the name of a file inside" in send("/exchange/import", path="../x.raw", image="copy").text
    assert "exists already" in send("/exchange/export", image="debian@1", format="bundle").text


def test_others_do_not_see_the_folder(services: Services, sign_in: Any) -> None:
    viewer = sign_in("vera", "viewer")
    assert 'id="exchange"' not in viewer.get("/images").text
    token = csrf(viewer.get("/images").text)
    assert viewer.post("/exchange/import", data={"csrf": token, "path": "a", "image": "b"}).status_code == 403


def test_the_section_speaks_french(ada: TestClient, services: Services) -> None:
    page = ada.get("/images", headers={"Accept-Language": "fr"}).text
    assert "Images venant d&#39;autres programmes" in page
    assert "Rien ne s&#39;y trouve" in page
