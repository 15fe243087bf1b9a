"""The lease list as a person sees it, in both languages."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from pxeboot.adapters.container import Services
from tests.api.v1.test_leases_api import table  # noqa: F401  (fixture)


@pytest.mark.usefixtures("table", "room")
def test_leases_with_their_hosts(ada: TestClient) -> None:
    page = ada.get("/leases")
    assert page.status_code == 200, page.text
    for shows in ("10.20.0.1", "B204-01", "a stranger has it", "10.30.0.0/24", "Download as CSV"):
        assert shows in page.text
    assert "10.20.0.9" not in ada.get("/leases?state=expired").text
    french = ada.get("/leases", headers={"Accept-Language": "fr"})
    assert "Baux" in french.text
    assert "prise par un inconnu" in french.text
    assert "no state of a lease" in ada.get("/leases?state=lost").text
    download = ada.get("/leases.csv?subnet=10.30.0.0/24")
    assert download.headers["content-disposition"] == 'attachment; filename="leases.csv"'
    assert "10.30.0.5" in download.text
    assert "10.20.0.9" not in download.text


def test_a_stranger_signs_in_first(stranger: TestClient) -> None:
    for path in ("/leases", "/leases.csv"):
        assert stranger.get(path).headers["location"].startswith("/login")


def test_beside_another_server_the_page_says_whose_list_it_is(ada: TestClient, services: Services) -> None:
    assert "Another DHCP server gives the addresses here" in ada.get("/leases").text
