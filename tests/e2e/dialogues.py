"""The dialogues of booting firmware, as assertions: what is said to whom, by which port, in which order."""

from __future__ import annotations

from tests.e2e.firmware import THEM, US, Network, Outcome, Talk

SHIM_URL = f"http://{US}/boot/files/shimx64.efi"
SCRIPT_URL = rf"http://{US}/boot/ipxe\?mac=[0-9a-f:]+&uuid=[0-9a-f-]*&platform="
# PXE_DISCOVERY_CONTROL with "boot the file of this packet" (PXE 2.1): no menu, nothing to ask at port 4011.
FROM_THIS_PACKET = "060108ff"


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
    talk.next("http GET", name="/boot/grub/(x86_64-efi/)?[0-9a-f-]{17}")
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
