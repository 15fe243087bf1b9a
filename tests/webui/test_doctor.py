"""The doctor's page, and the quiet line on the overview while something is wrong."""

from __future__ import annotations

from starlette.testclient import TestClient

from pxeboot.adapters.container import Services
from pxeboot.doctor.finding import Finding
from tests.webui.test_pages import csrf

WRONG = Finding("disk", "error", "/x", "%(a)s is <full>.", "Make room.", {"a": "/x"})


def test_the_page_shows_findings_and_looks_again(ada: TestClient, services: Services) -> None:
    page = ada.get("/doctor").text
    assert "Nobody has looked yet." in page
    assert "doctor-banner" not in ada.get("/").text
    services.doctor.take([WRONG], ["disk"])
    page = ada.get("/doctor").text
    assert "/x is &lt;full&gt;." in page
    assert "Make room." in page
    home = ada.get("/").text
    assert 'id="doctor-banner"' in home
    assert "/x is &lt;full&gt;." in home
    again = ada.post("/doctor", data={"csrf": csrf(page)})
    assert again.status_code == 200
    assert 'data-check="boot-files"' in again.text
    assert 'data-level="error"' in again.text, "no interface is configured here"


def test_findings_are_said_in_the_readers_language(ada: TestClient, services: Services) -> None:
    said = Finding("interface", "error", "eth1", "%(interface)s is switched off.", "", {"interface": "eth1"})
    services.doctor.take([said], ["interface"])
    page = ada.get("/doctor", headers={"accept-language": "fr"}).text
    assert "eth1 est éteinte." in page
    assert "erreur" in page


def test_a_stranger_sees_nothing(stranger: TestClient) -> None:
    assert stranger.get("/doctor").status_code == 303
    assert stranger.post("/doctor").status_code == 303
