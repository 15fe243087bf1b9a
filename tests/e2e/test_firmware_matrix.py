"""Every kind of firmware comes to our menu: in a network of ours, and beside somebody else's DHCP server.

Each test reads one machine's boot: what was said on the wire, in this order, what our journal says of it, and
where the machine arrived. Which cell is where: docs/lab.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pxeboot.lab.server import Value
from tests.e2e.dialogues import (
    FROM_THIS_PACKET,
    SCRIPT_URL,
    SHIM_URL,
    asks_port_4011,
    is_registered,
    leased_by_them,
    leased_by_us,
    loads_everything_by_http,
    loads_shim_and_grub_by_tftp,
    offered_without_address,
    runs_its_script,
    was_asked_and_told,
)
from tests.e2e.firmware import THEM, US, Cell, Network, Outcome, network

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2400)]


# --- our own network: mode full ----------------------------------------------------------------------------

FULL = [
    Cell("full-secure-http", "uefi-secureboot", network_boot="http", registers=True),
    Cell("full-bios", "bios"),
    Cell("full-bios-undionly", "bios", chain=f"dhcp\nchain tftp://{US}/undionly.kpxe"),
    Cell("full-uefi", "uefi"),
    Cell("full-secure", "uefi-secureboot"),
    Cell("full-uefi-http", "uefi", network_boot="http"),
    Cell("full-uefi-ipxe", "uefi", card="e1000"),
]


@pytest.fixture(scope="module")
def full(var: Path, boot_files: Path) -> Iterator[Network]:
    with network(var / "matrix" / "full", boot_files, FULL) as made:
        yield made


def test_full_bios_with_ipxe_in_the_card(full: Network) -> None:
    outcome = full.outcome("full-bios")
    talk = outcome.talk()
    leased_by_us(talk, "0000", "PXEClient", SCRIPT_URL + "pcbios")
    runs_its_script(talk, "pcbios")
    talk.never("tftp RRQ")
    was_asked_and_told(outcome, "bios iPXE")


def test_full_bios_with_our_ipxe_on_top_of_the_cards_pxe(full: Network) -> None:
    outcome = full.outcome("full-bios-undionly")
    talk = outcome.talk()
    talk.next("tftp RRQ", name="/*undionly.kpxe")
    leased_by_us(talk, "0000", "PXEClient", SCRIPT_URL + "pcbios")
    runs_its_script(talk, "pcbios")


@pytest.mark.parametrize("name", ["full-uefi", "full-secure"])
def test_full_uefi(full: Network, name: str) -> None:
    outcome = full.outcome(name)
    talk = outcome.talk()
    leased_by_us(talk, "0007", "PXEClient", "shimx64.efi")
    loads_shim_and_grub_by_tftp(talk)
    was_asked_and_told(outcome, "shimx64.efi")


@pytest.mark.parametrize("name", ["full-uefi-http", "full-secure-http"])
def test_full_uefi_http_boot(full: Network, name: str) -> None:
    outcome = full.outcome(name)
    talk = outcome.talk()
    leased_by_us(talk, "0010", "HTTPClient", SHIM_URL)
    loads_everything_by_http(outcome, talk)
    was_asked_and_told(outcome, SHIM_URL)


def test_full_secure_boot_over_http_comes_to_the_boot_environment(full: Network) -> None:
    outcome = full.outcome("full-secure-http")
    is_registered(full, outcome, firmware="uefi", secure_boot=True)


def test_full_uefi_with_ipxe_in_the_card(full: Network) -> None:
    outcome = full.outcome("full-uefi-ipxe")
    talk = outcome.talk()
    leased_by_us(talk, "0007", "PXEClient", SCRIPT_URL + "efi")
    runs_its_script(talk, "efi")
    was_asked_and_told(outcome, "x64-uefi iPXE")


# --- beside somebody else's DHCP server: mode proxy --------------------------------------------------------

PROXY = [
    Cell("proxy-secure", "uefi-secureboot", registers=True),
    Cell("proxy-bios", "bios", registers=True),
    Cell("proxy-bios-undionly", "bios", chain=f"dhcp\nchain tftp://{US}/undionly.kpxe"),
    Cell("proxy-uefi", "uefi"),
    Cell("proxy-uefi-http", "uefi", network_boot="http"),
    Cell("proxy-secure-http", "uefi-secureboot", network_boot="http"),
    Cell("proxy-uefi-ipxe", "uefi", card="e1000"),
]
DIRECT = [
    Cell("direct-secure", "uefi-secureboot"),
    Cell("direct-uefi", "uefi"),
    Cell("direct-bios", "bios"),
    Cell("direct-uefi-ipxe", "uefi", card="e1000"),
]
KEA = [Cell("kea-secure", "uefi-secureboot"), Cell("kea-bios", "bios")]


@pytest.fixture(scope="module")
def proxy(var: Path, boot_files: Path) -> Iterator[Network]:
    with network(
        var / "matrix" / "proxy", boot_files, PROXY, beside="dnsmasq", dhcp={"mode": "proxy"}
    ) as made:
        yield made


@pytest.fixture(scope="module")
def direct(var: Path, boot_files: Path) -> Iterator[Network]:
    settings: dict[str, Value] = {"mode": "proxy", "proxy_style": "direct"}
    # Here the other server's offer comes at once, in the proxy network three seconds after ours.
    with network(
        var / "matrix" / "direct", boot_files, DIRECT, beside="dnsmasq", ping=False, dhcp=settings
    ) as made:
        yield made


@pytest.fixture(scope="module")
def kea(var: Path, boot_files: Path) -> Iterator[Network]:
    with network(var / "matrix" / "kea", boot_files, KEA, beside="kea", dhcp={"mode": "proxy"}) as made:
        yield made


def gave_no_address(outcome: Outcome) -> None:
    """In proxy mode nothing of ours looks like a DHCP server's answer."""
    for said in outcome.heard:
        if said.kind == "dhcp" and said.source == (US, 67):
            assert (said.what, said.detail["yiaddr"]) == ("OFFER", ""), said
        if said.kind == "dhcp" and said.source[0] == THEM:
            assert said.name == "", f"the other server knows nothing of booting: {said}"


def boots_by_script(outcome: Outcome, architecture: str, platform: str) -> None:
    """iPXE takes its script's URL out of our offer; it has no use for port 4011."""
    talk = outcome.talk()
    offered_without_address(talk, architecture, "PXEClient", SCRIPT_URL + platform, FROM_THIS_PACKET)
    leased_by_them(outcome.talk())
    talk.never("dhcp REQUEST", port=4011)
    runs_its_script(talk, platform)
    gave_no_address(outcome)
    was_asked_and_told(outcome, "offered", "without an address")


def boots_shim_from_port_4011(outcome: Outcome) -> None:
    """UEFI in BINL style: our offer says no more than who we are, and the file comes from port 4011."""
    talk = outcome.talk()
    offered_without_address(talk, "0007", "PXEClient", "", "")
    leased_by_them(outcome.talk())
    asks_port_4011(talk, "shimx64.efi")
    loads_shim_and_grub_by_tftp(talk)
    gave_no_address(outcome)
    was_asked_and_told(outcome, "on port 4011", "shimx64.efi")


def test_proxy_bios_comes_to_the_boot_environment(proxy: Network) -> None:
    outcome = proxy.outcome("proxy-bios")
    boots_by_script(outcome, "0000", "pcbios")
    is_registered(proxy, outcome, firmware="bios", secure_boot=False)


def test_proxy_bios_with_our_ipxe_on_top_of_the_cards_pxe(proxy: Network) -> None:
    outcome = proxy.outcome("proxy-bios-undionly")
    talk = outcome.talk()
    talk.next("tftp RRQ", name="/*undionly.kpxe")
    offered_without_address(talk, "0000", "PXEClient", SCRIPT_URL + "pcbios", FROM_THIS_PACKET)
    runs_its_script(talk, "pcbios")
    gave_no_address(outcome)


def test_proxy_secure_boot_comes_to_the_boot_environment(proxy: Network) -> None:
    outcome = proxy.outcome("proxy-secure")
    boots_shim_from_port_4011(outcome)
    is_registered(proxy, outcome, firmware="uefi", secure_boot=True)


def test_proxy_uefi(proxy: Network) -> None:
    boots_shim_from_port_4011(proxy.outcome("proxy-uefi"))


@pytest.mark.parametrize("name", ["proxy-uefi-http", "proxy-secure-http"])
def test_proxy_uefi_http_boot(proxy: Network, name: str) -> None:
    """The URL is in our offer, the address in theirs: UEFI 2.10 §24.7 knows proxies too, without port
    4011."""
    outcome = proxy.outcome(name)
    talk = outcome.talk()
    offered_without_address(talk, "0010", "HTTPClient", SHIM_URL, "")
    leased_by_them(outcome.talk())
    loads_everything_by_http(outcome, talk)
    talk.never("dhcp REQUEST", port=4011)
    gave_no_address(outcome)
    was_asked_and_told(outcome, SHIM_URL)


def test_proxy_uefi_with_ipxe_in_the_card(proxy: Network) -> None:
    boots_by_script(proxy.outcome("proxy-uefi-ipxe"), "0007", "efi")


@pytest.mark.parametrize("name", ["direct-uefi", "direct-secure"])
def test_direct_uefi(direct: Network, name: str) -> None:
    """All is in the offer; nobody comes to port 4011."""
    outcome = direct.outcome(name)
    talk = outcome.talk()
    offered_without_address(talk, "0007", "PXEClient", "shimx64.efi", FROM_THIS_PACKET)
    leased_by_them(outcome.talk())
    loads_shim_and_grub_by_tftp(talk)
    talk.never("dhcp REQUEST", port=4011)
    gave_no_address(outcome)
    was_asked_and_told(outcome, "without an address", "shimx64.efi")


@pytest.mark.parametrize(
    ("name", "architecture", "platform"),
    [("direct-bios", "0000", "pcbios"), ("direct-uefi-ipxe", "0007", "efi")],
)
def test_direct_ipxe(direct: Network, name: str, architecture: str, platform: str) -> None:
    boots_by_script(direct.outcome(name), architecture, platform)


def test_secure_boot_beside_kea(kea: Network) -> None:
    boots_shim_from_port_4011(kea.outcome("kea-secure"))


def test_bios_beside_kea(kea: Network) -> None:
    boots_by_script(kea.outcome("kea-bios"), "0000", "pcbios")
