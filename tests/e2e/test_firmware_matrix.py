"""Every kind of firmware finds its way to our menu: in a network of ours, and beside somebody else's DHCP
server.

Each test reads one machine's boot: what was said on the wire, in this order, what our journal says of it, and
where the machine arrived. Which cell is where: docs/lab.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pxeboot.lab.server import Value
from tests.e2e.firmware import THEM, US, Cell, Network, Outcome, Talk, network

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

SHIM_URL = f"http://{US}/boot/files/shimx64.efi"
SCRIPT_URL = rf"http://{US}/boot/ipxe\?mac=[0-9a-f:]+&uuid=[0-9a-f-]*&platform="
# PXE_DISCOVERY_CONTROL with "boot the file of this packet" (PXE 2.1): no menu, and nothing to ask at port
# 4011.
FROM_THIS_PACKET = "060108ff"


# --- what all of a kind have in common ---------------------------------------------------------------------


def leased_by_us(talk: Talk, architecture: str, vendor: str, boot_file: str) -> None:
    """Address and boot file come from us, in one conversation."""
    talk.next("dhcp DISCOVER", port=67, _93=architecture, _60=vendor)
    offer = talk.next("dhcp OFFER", by=US, name=boot_file, yiaddr="10.77.0.", siaddr=US, _60=vendor[:10])
    talk.next("dhcp REQUEST", port=67, _54=US)
    ack = talk.next("dhcp ACK", by=US, name=boot_file, siaddr=US)
    assert ack.detail["yiaddr"] == offer.detail["yiaddr"]
    talk.never("dhcp REQUEST", port=4011)


def leased_by_them(talk: Talk) -> None:
    """The address comes from the other server; we neither give one nor confirm theirs."""
    talk.next("dhcp REQUEST", port=67, _54=THEM)
    talk.next("dhcp ACK", by=THEM, yiaddr="10.77.0.")


def offered_without_address(talk: Talk, architecture: str, vendor: str, boot_file: str, control: str) -> None:
    """Our offer in proxy mode: it gives no address, and everybody may hear it (PXE 2.1)."""
    talk.next("dhcp DISCOVER", port=67, _93=architecture, _60=vendor)
    offer = talk.next("dhcp OFFER", by=US, siaddr=US, _60=vendor[:10], _54=US)
    assert offer.target == ("255.255.255.255", 68)
    assert offer.detail["yiaddr"] == ""
    assert offer.detail["43"] == control
    assert offer.packet is not None
    assert talk.fits(boot_file, offer.name), offer


def asks_port_4011(talk: Talk, boot_file: str) -> None:
    """UEFI in BINL style: once it has its address, it asks us for the file, from port 4011 itself."""
    request = talk.next("dhcp REQUEST", port=4011)
    assert request.target[0] == US
    assert request.source[1] == 4011
    assert request.detail["ciaddr"] == request.source[0]
    ack = talk.next("dhcp ACK", by=US, name=boot_file, siaddr=US, _60="PXEClient")
    assert (ack.source[1], ack.target) == (4011, request.source)


def loads_shim_and_grub_by_tftp(talk: Talk) -> None:
    """Debian's chain, with what is absent on the way, to this machine's own configuration by HTTP."""
    talk.next("tftp RRQ", name="/*shimx64.efi", blksize="1468", windowsize="4")
    talk.next("tftp RRQ", name="/*revocations_sku.efi")
    talk.next("tftp RRQ", name="/*grubx64.efi")
    talk.next("tftp RRQ", name="/*grub/grub.cfg", blksize="1024")
    asks_for_its_configuration(talk)


def loads_everything_by_http(outcome: Outcome, talk: Talk) -> None:
    """UEFI HTTP Boot: the same chain, and not one packet of TFTP."""
    for method in ("HEAD", "GET"):
        talk.next(f"http {method}", name="/boot/files/shimx64.efi")
        assert int(talk.next("http ANSWER", by=US, status="200").detail["content-length"]) > 500_000
    talk.next("http GET", name="/boot/files/revocations_sku.efi")
    # An empty one hangs OVMF.
    assert int(talk.next("http ANSWER", by=US, status="404").detail["content-length"]) > 0
    talk.next("http GET", name="/boot/files//?grubx64.efi")
    head = talk.next("http HEAD", name="/grub/grub.cfg")
    get = talk.next("http GET", name="/grub/grub.cfg")
    assert head.source == get.source, "GRUB keeps the connection, and so do we"
    asks_for_its_configuration(talk)
    talk.never("tftp RRQ")
    assert not any("range" in said.detail for said in outcome.heard), "no firmware seen asks for ranges"


def asks_for_its_configuration(talk: Talk) -> None:
    talk.next("http GET", name="/boot/grub/[0-9a-f-]{17}")
    talk.next("http ANSWER", by=US, status="200")


def runs_its_script(talk: Talk, platform: str) -> None:
    talk.next("http GET", name=rf"/boot/ipxe\?mac=[0-9a-fA-F%:]+&uuid=[0-9a-f-]*&platform={platform}")
    talk.next("http ANSWER", by=US, status="200")


def was_asked_and_told(outcome: Outcome, *what: str) -> None:
    """Our journal: what we said by DHCP, and the decision."""
    outcome.says("dhcp", outcome.mac, *what)
    decided = outcome.says("boot", outcome.mac, "a menu offers to register it")
    assert decided["kind"] == "boot.decided"


def is_registered(net: Network, outcome: Outcome, *, firmware: str, secure_boot: bool) -> None:
    """It went on into the boot environment, which knows what it runs on."""
    host = net.host(outcome.host)
    assert host["state"] == "pending"
    assert outcome.mac in host["macs"]
    assert (host["firmware"], bool(host["secure_boot"])) == (firmware, secure_boot)


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
