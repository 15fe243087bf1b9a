"""What replies carry: whose options reach whom, and what is left out when they do not fit."""

from __future__ import annotations

from dhcp import options as opt
from tests.dhcp.conversation import (
    LINK,
    NOW,
    OTHER,
    SERVER,
    Make,
    dora,
    http_boot,
    plain,
    pxe,
    sent,
)


def test_a_sites_own_boot_options_reach_plain_clients_only(make: Make) -> None:
    own = {43: b"\x01\x02", 60: b"PHONE", 66: b"10.9.9.9", 67: b"phone.cfg", 150: b"\x0a\x09\x09\x09"}
    wishes = {opt.PARAMETER_LIST: bytes((1, 43, 60, 66, 67, 150))}
    phone, rom = plain(), pxe(OTHER)
    phone.options.update(wishes)
    rom.options.update(wishes)
    ack = dora(make(options=own), phone)
    assert {code: ack.options[code] for code in own} == own
    assert (ack.file, ack.siaddr) == (b"", "0.0.0.0")  # 66 and 67 say it; the header stays ours
    ack = dora(make(options=own), rom)
    assert (ack.options[67], ack.options[60], ack.options[66]) == (
        b"undionly.kpxe",
        b"PXEClient",
        SERVER.encode(),
    )
    assert ack.options[150] == own[150]
    nothing = dora(make(options=own), pxe("52:54:00:aa:bb:03", arch=10))
    assert not {43, 60, 66, 67} & set(nothing.options)
    web = dora(make(options=own), http_boot("52:54:00:aa:bb:04"))
    assert 66 not in web.options


def test_a_long_option_82_comes_back_whole_beside_a_full_reply(make: Make) -> None:
    relay = b"\x01\xc8" + bytes(range(200))
    discover = pxe(giaddr="10.20.0.254")
    del discover.options[opt.MAX_MESSAGE_SIZE]
    discover.options[opt.RELAY_AGENT_INFORMATION] = relay
    discover.options[opt.PARAMETER_LIST] = bytes((1, 3, 6, 15, 119, 121))
    long = {119: b"\x03" + b"abc" + bytes(1) * 200, 121: bytes(190)}
    offer = sent(make(options=long).handle(discover, LINK, NOW))
    assert offer.packet.options[opt.RELAY_AGENT_INFORMATION] == relay
    assert list(offer.packet.options)[-1] == opt.RELAY_AGENT_INFORMATION
    assert {53, 54, 43, 60, 66, 67, 97} <= set(offer.packet.options)
    # What the client gets when the relay took its part out fits in 576 with IP and UDP headers.
    assert len(offer.data()) - len(relay) - 2 <= 576 - 28
