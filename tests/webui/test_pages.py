"""The pages as a person meets them: sign in, approve, group, deploy; and as a stranger meets them."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from tests.webui.conftest import PASSWORD


def csrf(page: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found
    return found.group(1)


def test_a_stranger_is_sent_to_the_sign_in_page(stranger: TestClient) -> None:
    for path in (
        "/",
        "/hosts",
        "/groups",
        "/images",
        "/deploy",
        "/operations",
        "/schedules",
        "/menu",
        "/journal",
        "/account",
    ):
        answer = stranger.get(path)
        assert answer.status_code == 303, path
        assert answer.headers["location"].startswith("/login")
    assert "Password" in stranger.get("/login").text


def test_a_wrong_password_is_told_and_sets_no_cookie(stranger: TestClient, ada: TestClient) -> None:
    answer = stranger.post("/login", data={"name": "ada", "password": "guess"})
    assert answer.status_code == 401
    assert "pxeboot_session" not in answer.cookies
    assert 'role="alert"' in answer.text


def test_signing_in_leads_only_to_our_own_pages(stranger: TestClient, ada: TestClient) -> None:
    form = {"name": "ada", "password": PASSWORD}
    for evil in ("https://evil.example/", "//evil.example/", "/\\evil.example"):
        assert stranger.post("/login", data={**form, "next": evil}).headers["location"] == "/"
    assert stranger.post("/login", data={**form, "next": "/hosts"}).headers["location"] == "/hosts"


@pytest.mark.usefixtures("room")
def test_every_page_shows_what_is_there(ada: TestClient) -> None:
    for path, shows in [
        ("/", "wait for approval"),
        ("/hosts", "B204-03"),
        ("/hosts?state=pending", "B204-03"),
        ("/hosts/B204-01", "52:54:00:00:00:01"),
        ("/groups", "B204"),
        ("/groups/B204", "Deploy to this group"),
        ("/images", "debian"),
        ("/images/debian", "debian@1"),
        ("/deploy?group=B204", "debian@1"),
        ("/operations", "Nothing was asked yet"),
        ("/schedules", "Nothing is scheduled"),
        ("/menu", "No entry yet"),
        ("/journal", "Group B204 was made"),
        ("/account", "API tokens"),
    ]:
        page = ada.get(path)
        assert page.status_code == 200, f"{path}: {page.text}"
        assert shows in page.text, path


@pytest.mark.usefixtures("room")
def test_ticked_hosts_are_approved(ada: TestClient) -> None:
    token = csrf(ada.get("/hosts").text)
    page = ada.post("/hosts/act", data={"csrf": token, "do": "approve", "host": ["B204-03"]})
    assert "Done." in page.text
    assert 'value="B204-03"' not in ada.get("/hosts?state=pending").text
    assert "B204-03" in ada.get("/hosts?state=approved").text


@pytest.mark.usefixtures("room")
def test_a_form_from_elsewhere_is_refused(ada: TestClient) -> None:
    answer = ada.post("/hosts/act", data={"do": "delete", "host": ["B204-01"]})
    assert answer.status_code == 403
    answer = ada.post("/hosts/act", data={"csrf": "guess", "do": "delete", "host": ["B204-01"]})
    assert answer.status_code == 403
    assert ada.get("/hosts/B204-01").status_code == 200


@pytest.mark.usefixtures("room")
def test_a_deploy_starts_and_its_page_names_who_was_refused(ada: TestClient) -> None:
    token = csrf(ada.get("/deploy").text)
    form = {"csrf": token, "group": "B204", "image": "debian@1", "when": "now", "zone": "Europe/Paris"}
    page = ada.post("/deploy", data=form)
    assert page.status_code == 200
    assert "/operations/" in str(page.url)
    assert page.text.count('data-state="queued"') == 2
    assert 'data-reason-of="B204-03"' in page.text


@pytest.mark.usefixtures("room")
def test_a_deploy_is_scheduled_in_the_zone_of_the_form(ada: TestClient) -> None:
    token = csrf(ada.get("/deploy").text)
    form = {"csrf": token, "group": "B204", "image": "debian@1", "zone": "Europe/Paris"}
    page = ada.post("/deploy", data={**form, "when": "at", "at": "2030-07-01T06:30:00"})
    assert "2030-07-01T04:30:00+00:00" in page.text
    again = ada.post("/deploy", data={**form, "when": "at", "at": "soon"})
    assert again.status_code == 422
    assert "Say when" in again.text
    assert 'value="debian@1" selected' in again.text, "the form keeps what was chosen"


@pytest.mark.usefixtures("room")
def test_what_is_missing_is_a_page_with_a_sentence(ada: TestClient) -> None:
    page = ada.get("/hosts/B204-99")
    assert page.status_code == 404
    assert "B204-99" in page.text


@pytest.mark.usefixtures("room")
def test_names_cannot_smuggle_html(ada: TestClient) -> None:
    token = csrf(ada.get("/groups").text)
    ada.post("/groups", data={"csrf": token, "name": "<script>alert(1)</script>"})
    assert "<script>alert(1)" not in ada.get("/groups").text


@pytest.mark.usefixtures("room")
def test_the_live_page_of_a_finished_operation_ends(ada: TestClient) -> None:
    token = csrf(ada.get("/deploy").text)
    form = {"csrf": token, "group": "B204", "image": "debian@1", "when": "now", "zone": "UTC"}
    identifier = str(ada.post("/deploy", data=form).url).rsplit("/", 1)[1]
    ada.post(f"/operations/{identifier}/cancel", data={"csrf": token})
    stream = ada.get(f"/live/operations/{identifier}").text
    assert "event: html" in stream
    assert stream.rstrip().endswith("data: {}")


def test_pages_speak_french_to_a_french_browser(stranger: TestClient) -> None:
    page = stranger.get("/login", headers={"accept-language": "fr-FR,fr;q=0.9,en;q=0.5"})
    assert "Se connecter" in page.text
    assert '<html lang="fr">' in page.text
    assert "Sign in" in stranger.get("/login", headers={"accept-language": "de"}).text


def test_signing_out_ends_the_session(ada: TestClient) -> None:
    ada.post("/logout", data={"csrf": csrf(ada.get("/account").text)})
    assert "Password" in ada.get("/hosts").text
