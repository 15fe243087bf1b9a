"""Options by name: what people write, what goes on the wire, and what a mistake says."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhcp.catalog import (
    OPTION_NAMES,
    OptionError,
    format_option,
    lookup,
    parse_option,
    refusal,
)
from dhcp.subnets import SubnetError
from tests.dhcp.conversation import subnet


@pytest.mark.parametrize(
    ("key", "value", "code", "data"),
    [
        ("routers", ["10.20.0.1", "10.20.0.2"], 3, "0a1400010a140002"),
        ("Routers", "10.20.0.1, 10.20.0.2", 3, "0a1400010a140002"),
        ("domain_name_servers", "10.20.0.1", 6, "0a140001"),
        ("time-offset", -3600, 2, "fffff1f0"),
        ("interface-mtu", "9000", 26, "2328"),
        ("default-ip-ttl", 64, 23, "40"),
        ("ip-forwarding", True, 19, "01"),
        ("ip-forwarding", "off", 19, "00"),
        ("domain-name", "example.org.", 15, b"example.org".hex()),
        ("bootfile-name", "pxelinux.0", 67, b"pxelinux.0".hex()),
        ("static-routes", ["10.9.0.0 10.20.0.1"], 33, "0a0900000a140001"),
        ("path-mtu-plateau-table", [68, 1500], 25, "004405dc"),
        (43, "hex:01:04:ff:00:00:01", 43, "0104ff000001"),
        ("43", "hex:0104 ff", 43, "0104ff"),
        ("224", "text", 224, b"text".hex()),
        (224, "hex:", 224, ""),
        ("mobile-ip-home-agent", [], 68, ""),
        ("tftp-server-address", ["10.20.0.1"], 150, "0a140001"),
        ("pxelinux-reboottime", 0xFFFFFFFF, 211, "ffffffff"),
        # RFC 3442's examples: as many bytes of the network as matter.
        ("classless-static-routes", "default via 10.0.0.1", 121, "000a000001"),
        ("classless-static-routes", ["10.0.0.0/8 via 10.0.0.1"], 121, "080a0a000001"),
        ("classless-static-routes", "10.17.0.0/16 via 10.0.0.1, 10.27.129.0/24 via 10.0.0.2", 121,
         "100a110a000001" "180a1b810a000002"),
        ("249", ["10.198.122.47/32 via 10.0.0.1"], 249, "200ac67a2f0a000001"),
        # RFC 3397 §2's example: the common end once.
        ("domain-search", ["eng.apple.com", "marketing.apple.com"], 119,
         "03656e67056170706c6503636f6d00" "096d61726b6574696e67c004"),
    ],
)  # fmt: skip
def test_what_people_write_becomes_bytes(key: str | int, value: object, code: int, data: str) -> None:
    found = parse_option(key, value)
    assert (found[0], found[1].hex()) == (code, data)
    assert parse_option(*format_option(*found)) == found


@pytest.mark.parametrize(
    ("key", "value", "remedy"),
    [
        ("ntp", "10.0.0.1", "did you mean"),
        ("no-such-thing", 1, "use its number"),
        (0, "x", "1 to 254"),
        ("255", "x", "1 to 254"),
        ("routers", "router.example.org", "IPv4 address"),
        ("routers", [], "empty"),
        ("routers", ["10.0.0.1", 7], "IPv4 address"),
        ("interface-mtu", 70000, "from 0 to 65535"),
        ("interface-mtu", True, "whole number"),
        ("interface-mtu", "big", "whole number"),
        ("time-offset", 1 << 31, "from -2147483648"),
        ("ip-forwarding", "perhaps", "true or false"),
        ("ip-forwarding", 2, "true or false"),
        ("domain-name", "schön.example", "xn--"),
        ("domain-name", "a..b", "labels"),
        ("host-name", "x" * 64, "at most 63"),
        ("bootfile-name", 5, "in quotes"),
        ("bootfile-name", "", "empty"),
        ("bootfile-name", "a\nb", "control characters"),
        ("vendor-encapsulated-options", "abc", "hex:"),
        (43, "hex:1", "pairs of hexadecimal digits"),
        (43, "hex:zz", "pairs of hexadecimal digits"),
        (6, "hex:01:02", "these bytes are not a list of IPv4 addresses"),
        (224, 5, "a text, or bytes"),
        ("classless-static-routes", "10.0.0.1/8 via 10.0.0.1", "host bits set"),
        ("classless-static-routes", "10.0.0.0/8", "via"),
        ("static-routes", ["10.9.0.0"], "pairs"),
        (224, "x" * 1001, "at most 1000"),
        ("dhcp-lease-time", 60, "set lease_seconds"),
        (51, 60, "set lease_seconds"),
        ("subnet-mask", "255.255.255.0", "follows from the subnet's network"),
        ("server-identifier", "10.0.0.1", "the subnet's server"),
        (82, "hex:01", "relay agents"),
        (53, 1, "protocol's own"),
    ],
)
def test_a_mistake_names_option_value_and_remedy(key: str | int, value: object, remedy: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_option(key, value)
    assert remedy in caught.value.remedy
    assert (caught.value.key, caught.value.value) == (str(key), value)
    assert str(key) in str(caught.value)


def test_the_table_holds_what_rfc_2132_and_its_successors_define() -> None:
    numbers = {row.code for row in OPTION_NAMES.values()}
    assert set(range(2, 50)) <= numbers
    assert {43, 60, 66, 67, 119, 121, 138, 150, 208, 209, 210, 211} <= numbers
    assert not numbers & {1, 50, 51, 52, 53, 54, 55, 57, 58, 59, 61, 82, 93, 97}
    assert all(refusal(code) for code in (0, 1, 51, 53, 82, 255))


def test_no_two_options_go_by_one_name() -> None:
    rows = [lookup(code) for code in range(1, 255)]
    names = [name for row in rows for name in (row.name, *row.aliases)]
    assert len(names) == len(set(names))


def test_bytes_of_clients_are_shown_by_type_or_as_they_are() -> None:
    assert format_option(55, b"\x01\x03") == ("dhcp-parameter-request-list", [1, 3])
    assert format_option(93, b"\0\x07") == ("client-architecture", [7])
    assert format_option(54, b"\x0a\0\0") == ("dhcp-server-identifier", "hex:0a:00:00")
    assert format_option(77, b"iPXE") == ("user-class", "iPXE")
    assert format_option(77, b"\x04iPXE\x02xy") == ("user-class", ["iPXE", "xy"])
    assert format_option(12, b"pc one") == ("host-name", "hex:70:63:20:6f:6e:65")
    assert format_option(119, b"\x01a\xc0\x00") == ("domain-search", "hex:01:61:c0:00")  # a loop
    assert format_option(119, b"\x03eng\x07example\x00\xc0\x04") == (
        "domain-search",
        ["eng.example", "example"],
    )


@given(st.integers(1, 254), st.binary(max_size=300))
def test_any_bytes_can_be_shown_and_what_fits_can_be_set(code: int, data: bytes) -> None:
    name, value = format_option(code, data)
    if refusal(code):
        return
    if lookup(code).type.decode(data) is None:
        with pytest.raises(OptionError, match="these bytes are not"):
            parse_option(name, value)
        return
    again = parse_option(name, value)
    assert format_option(*again) == (name, value)
    # Lists of domains may be packed better than they came, and routes lose bits that do not matter.
    assert again == (code, data) or isinstance(value, list)


labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=5).map(".".join)


@given(st.lists(names, min_size=1, max_size=8))
def test_compressed_names_come_back(search: list[str]) -> None:
    code, data = parse_option("domain-search", search)
    assert format_option(code, data) == ("domain-search", search)
    assert len(data) <= sum(len(name) + 2 for name in search)


networks = st.builds(
    lambda number, prefix: str(IPv4Network((number, prefix), strict=False)),
    st.integers(0, 2**32 - 1),
    st.integers(0, 32),
)


@given(st.lists(st.builds("{} via {}".format, networks, st.ip_addresses(v=4)), min_size=1, max_size=9))
def test_routes_come_back(routes: list[str]) -> None:
    assert format_option(*parse_option(121, routes)) == ("classless-static-routes", routes)


@given(
    st.one_of(st.text(), st.integers()), st.one_of(st.text(), st.integers(), st.lists(st.text()), st.none())
)
def test_nothing_but_an_option_error_comes_out(key: str | int, value: object) -> None:
    with suppress(OptionError):
        parse_option(key, value)


@pytest.mark.parametrize("code", [1, 51, 54, 58, 82, 97, 175, 0, 255])
def test_a_subnet_refuses_what_is_ours(code: int) -> None:
    with pytest.raises(SubnetError, match="cannot be set"):
        subnet(options={code: b"\1\2\3\4"})
