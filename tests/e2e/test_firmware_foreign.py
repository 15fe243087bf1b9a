"""Firmware boots where port 67 is not ours: a DHCP server on our machine, or one that names our files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.dialogues import (
    SCRIPT_URL,
    SHIM_URL,
    asks_port_4011,
    loads_everything_by_http,
    loads_shim_and_grub_by_tftp,
    runs_its_script,
    was_asked_and_told,
)
from tests.e2e.firmware import THEM, US, Cell, Network, Outcome, Talk, network

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2400)]


# --- somebody else's DHCP server on our own machine: port 67 is its, 4011 is ours --------------------------

SAME = [Cell("same-secure", "uefi-secureboot"), Cell("same-bios", "bios")]
# What Windows' DHCP server says when deployment services run beside it: "ask here, on port 4011".
SAYS_PXE = json.dumps(
    {
        "Dhcp4": {
            "option-data": [{"name": "vendor-class-identifier", "data": "PXEClient", "always-send": True}]
        }
    }
)


@pytest.fixture(scope="module")
def same(var: Path, boot_files: Path) -> Iterator[Network]:
    with network(
        var / "matrix" / "same",
        boot_files,
        SAME,
        beside="kea",
        here=True,
        fragment=SAYS_PXE,
        dhcp={"mode": "proxy"},
    ) as made:
        yield made


def sent_to_port_4011(outcome: Outcome, architecture: str) -> Talk:
    """Its offer and ACK have an address and option 60, and no file."""
    talk = outcome.talk()
    talk.next("dhcp DISCOVER", port=67, _93=architecture)
    for kind in ("OFFER", "ACK"):
        told = talk.next(f"dhcp {kind}", by=US, yiaddr="10.77.0.", _60="PXEClient")
        assert (told.source[1], told.name) == (67, "")
    return talk


def test_secure_boot_beside_kea_on_our_machine(same: Network) -> None:
    outcome = same.outcome("same-secure")
    talk = sent_to_port_4011(outcome, "0007")
    asks_port_4011(talk, "shimx64.efi")
    loads_shim_and_grub_by_tftp(talk)
    was_asked_and_told(outcome, "on port 4011", "shimx64.efi")
    assert re.search(r"port 67. kea-dhcp4 .* has it", same.server.log_tail(1000))


def test_bios_beside_kea_on_our_machine(same: Network) -> None:
    outcome = same.outcome("same-bios")
    talk = sent_to_port_4011(outcome, "0000")
    request = talk.next("dhcp REQUEST", port=4011, _77="iPXE")
    ack = talk.next("dhcp ACK", name=SCRIPT_URL + "pcbios", _60="PXEClient")
    assert (ack.source, ack.target) == ((US, 4011), request.source)
    runs_its_script(talk, "pcbios")
    was_asked_and_told(outcome, "on port 4011")


# --- somebody else's DHCP server names our files: mode off -------------------------------------------------

OFF = [
    Cell("secure", "uefi-secureboot"),
    Cell("bios", "bios"),
    Cell("secure-http", "uefi-secureboot", network_boot="http"),
]


@pytest.fixture(scope="module", params=["dnsmasq", "kea"])
def off(request: pytest.FixtureRequest, var: Path, boot_files: Path) -> Iterator[Network]:
    """Its configuration has what `pxeboot dhcp snippet` printed."""
    with network(
        var / "matrix" / f"off-{request.param}",
        boot_files,
        OFF,
        beside=request.param,
        ping=False,
        dhcp={"mode": "off"},
    ) as made:
        yield made


def sent_to_us(outcome: Outcome, architecture: str, boot_file: str) -> Talk:
    """Address and boot file come from the other server, the file from us, and we say nothing by DHCP."""
    talk = outcome.talk()
    talk.next("dhcp DISCOVER", port=67, _93=architecture)
    talk.next("dhcp OFFER", by=THEM, name=boot_file)
    talk.next("dhcp ACK", by=THEM, name=boot_file)
    assert not [said for said in outcome.heard if said.kind == "dhcp" and said.source[0] == US]
    assert outcome.says("boot", outcome.mac, "a menu offers to register it")
    return talk


def test_off_secure_boot(off: Network) -> None:
    loads_shim_and_grub_by_tftp(sent_to_us(off.outcome("secure"), "0007", "shimx64.efi"))


def test_off_bios(off: Network) -> None:
    # The other server cannot put the machine's own identity into the URL: iPXE does.
    url = rf"http://{US}/boot/ipxe\?mac=\$\{{net0/mac\}}&uuid=\$\{{uuid\}}&platform=\$\{{platform\}}"
    runs_its_script(sent_to_us(off.outcome("bios"), "0000", url), "pcbios")


def test_off_secure_http_boot(off: Network) -> None:
    outcome = off.outcome("secure-http")
    loads_everything_by_http(outcome, sent_to_us(outcome, "0010", SHIM_URL))
