"""Reserved addresses and DHCP options of hosts and groups."""

from __future__ import annotations

from typing import Any

import pytest

from pxeboot.errors import Conflict, Invalid
from pxeboot.services import groups, hosts
from pxeboot.services.views import HostView
from tests.plane import Plane


def change(plane: Plane, host: str, **values: Any) -> HostView:
    with plane.write() as session:
        return hosts.update_host(session, host, actor="ada", **values)


def test_an_address_is_reserved_for_one_host(plane: Plane) -> None:
    plane.room(2)
    assert change(plane, "pc1", reserved_address=" 10.20.0.31 ").reserved_address == "10.20.0.31"
    assert plane.heard.records[-1].sentence == "Host pc1 was changed by ada: reserved address 10.20.0.31."
    with pytest.raises(Conflict, match="reserved for pc1 already"):
        change(plane, "pc2", reserved_address="10.20.0.31")
    change(plane, "pc1", reserved_address="10.20.0.31")  # its own
    change(plane, "pc1", reserved_address=None)
    assert change(plane, "pc2", reserved_address="10.20.0.31").reserved_address == "10.20.0.31"


@pytest.mark.parametrize(
    "text", ["10.20.0", "10.20.0.256", "pc1", "224.0.0.1", "127.0.0.1", "0.0.0.0", "255.255.255.255", "::1"]
)
def test_what_is_no_machines_address_is_refused(plane: Plane, text: str) -> None:
    plane.room(1)
    with pytest.raises(Invalid) as caught:
        change(plane, "pc1", reserved_address=text)
    assert caught.value.data["field"] == "reserved_address"


def test_options_are_kept_by_name_with_clean_values(plane: Plane) -> None:
    plane.room(1)
    host = change(plane, "pc1", dhcp_options={"42": "10.0.0.1, 10.0.0.2", "domain": "lab.example"})
    assert host.dhcp_options == {"ntp-servers": ["10.0.0.1", "10.0.0.2"], "domain-name": "lab.example"}
    assert "option ntp-servers 10.0.0.1, 10.0.0.2." in plane.heard.records[-1].sentence
    host = change(plane, "pc1", dhcp_options={"ntp-servers": "10.0.0.3", "15": None})
    assert host.dhcp_options == {"ntp-servers": ["10.0.0.3"]}
    assert "no option domain-name, option ntp-servers" in plane.heard.records[-1].sentence
    assert change(plane, "pc1", dhcp_options=None).dhcp_options == {}


def test_a_group_has_options_too(plane: Plane) -> None:
    plane.room(1)
    with plane.write() as session:
        view = groups.update_group(session, "B204", dhcp_options={"ntp-servers": "10.0.0.1"})
    assert view.dhcp_options == {"ntp-servers": ["10.0.0.1"]}
    assert plane.heard.changes[-1].what == "group"


@pytest.mark.parametrize(
    ("key", "value"),
    [("ntp-servers", "noon"), ("ntp-sevrers", "10.0.0.1"), ("53", "1"), ("0", "x"), ("domain-name", 5)],
)
def test_an_option_that_cannot_be_sent_is_refused_with_its_name(
    plane: Plane, key: str, value: object
) -> None:
    plane.room(1)
    with pytest.raises(Invalid) as caught:
        change(plane, "pc1", dhcp_options={key: value})
    assert caught.value.data["field"] == f"dhcp_options.{key}"
