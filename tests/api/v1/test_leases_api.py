"""Who has which address, asked as administrator, as viewer and as a stranger; and settings read again."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable

import httpx
import pytest

from dhcp.leases import Lease
from pxeboot.adapters.container import Services
from pxeboot.adapters.leaseview import LeaseView
from pxeboot.adapters.reload import Reloaded, SettingsRefused
from tests.api.v1.test_admin_api import problem

Ask = Callable[..., httpx.Response]
NOW = time.time()


def lease(number: int, state: str = "bound", expires: float = 3600, **more: str) -> Lease:
    given = {"subnet": "10.20.0.0/24", "mac": f"52:54:00:00:00:{number:02x}", **more}
    return Lease(
        address=more.pop("address", f"10.20.0.{number}"),
        state=state,  # type: ignore[arg-type]
        starts=NOW - 60,
        expires=NOW + expires,
        **{key: value for key, value in given.items() if key != "address"},
    )


class Table:
    def __init__(self, *leases: Lease) -> None:
        self._leases = leases

    def all(self) -> list[Lease]:
        return list(self._leases)

    def owner_of(self, address: str) -> Lease | None:
        return next((one for one in self._leases if one.address == address), None)


@pytest.fixture
def table(services: Services) -> None:
    services.leases = LeaseView(
        Table(
            lease(10, host_name="=cmd|'/c calc'!A1"),
            lease(9),
            lease(1, host_name="B204-01"),
            lease(2, expires=-10),
            lease(3, "declined", mac=""),
            lease(4, "released", expires=-5),
            lease(5, address="10.30.0.5", subnet="10.30.0.0/24"),
        )
    )


def addresses(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["address"] for item in answer.json()["items"]]


@pytest.mark.usefixtures("table")
def test_a_stranger_sees_nothing_and_a_viewer_everything(ask: Ask, room: None) -> None:
    for path in ("/leases", "/leases.csv"):
        problem(ask("GET", path, by=None), 401, "token-missing")
    found = ask("GET", "/leases", by="viewer")
    order = ["10.20.0.1", "10.20.0.2", "10.20.0.3", "10.20.0.4", "10.20.0.9", "10.20.0.10", "10.30.0.5"]
    assert addresses(found) == order
    first = found.json()["items"][0]
    assert (first["host"], first["client_name"], first["state"]) == ("B204-01", "B204-01", "bound")
    assert (first["mac"], first["subnet"]) == ("52:54:00:00:00:01", "10.20.0.0/24")
    assert first["expires"] > first["starts"]
    assert [item["state"] for item in found.json()["items"][1:4]] == ["expired", "declined", "released"]


@pytest.mark.usefixtures("table")
def test_filters_and_pages(ask: Ask, room: None) -> None:
    assert addresses(ask("GET", "/leases?subnet=10.30.0.0/24")) == ["10.30.0.5"]
    assert addresses(ask("GET", "/leases?state=expired")) == ["10.20.0.2"]
    assert addresses(ask("GET", "/leases?mac=52-54-00-00-00-09")) == ["10.20.0.9"]
    assert addresses(ask("GET", "/leases?q=b204-02")) == ["10.20.0.2"]  # the name we know it by
    page = ask("GET", "/leases?limit=4")
    rest = ask("GET", f"/leases?limit=4&cursor={page.json()['next_cursor']}")
    assert len(addresses(page)) == 4
    assert addresses(rest) == ["10.20.0.9", "10.20.0.10", "10.30.0.5"]
    assert rest.json()["next_cursor"] is None
    for wrong in ("state=lost", "mac=zz", "subnet=10.20.0.1/24", "cursor=x"):
        problem(ask("GET", f"/leases?{wrong}"), 422, "invalid")


@pytest.mark.usefixtures("table")
def test_csv_for_a_spreadsheet(ask: Ask, room: None) -> None:
    answer = ask("GET", "/leases.csv?state=bound", by="viewer")
    assert answer.headers["content-type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    assert [line["address"] for line in lines] == ["10.20.0.1", "10.20.0.9", "10.20.0.10", "10.30.0.5"]
    assert lines[0]["host"] == "B204-01"
    assert lines[2]["client_name"].startswith("'=cmd")  # no formula for whoever opens it


def test_beside_another_server_there_are_none(ask: Ask) -> None:
    assert addresses(ask("GET", "/leases")) == []


def test_only_an_administrator_has_the_settings_read_again(ask: Ask, services: Services) -> None:
    problem(ask("POST", "/settings:reload", by=None), 401, "token-missing")
    problem(ask("POST", "/settings:reload", by="technician"), 403, "forbidden")
    problem(ask("POST", "/settings:reload"), 409, "conflict")  # no daemon

    async def good() -> Reloaded:
        return Reloaded(("dhcp.dns",), ("http.port",), ())

    async def bad() -> Reloaded:
        raise SettingsRefused("x = 1 is wrong; write 2.", errors=[{"field": "x", "msg": "x = 1 is wrong"}])

    services.reload = good
    answer = ask("POST", "/settings:reload").json()
    assert answer == {"changed": ["dhcp.dns"], "kept": ["http.port"], "warnings": []}
    services.reload = bad
    document = problem(ask("POST", "/settings:reload"), 422, "settings-refused")
    assert document["errors"] == [{"field": "x", "msg": "x = 1 is wrong"}]
