"""Options: joined on reading, split on writing, and never read past their end."""

import pytest

from dhcp import options as opt


def test_repeated_options_are_joined_in_order_across_fields() -> None:
    first = opt.parse(b"\x2b\x02ab\x0c\x01x\xff\x2b\x01z")
    assert first == {43: b"ab", 12: b"x"}  # what follows END is not an option
    assert opt.parse(b"\x00\x2b\x01c\xff", first) == {43: b"abc", 12: b"x"}  # RFC 3396 §7


def test_a_long_value_is_split_and_comes_back_whole() -> None:
    value = bytes(range(256)) * 3
    wire = opt.encode(43, value)
    assert wire[:2] == b"\x2b\xff"
    assert len(wire) == len(value) + 4 * 2
    assert opt.parse(wire) == {43: value}
    assert opt.encode(12, b"") == b"\x0c\x00"


@pytest.mark.parametrize("field", [b"\x35", b"\x35\x01", b"\x35\x05abcd"])
def test_an_option_that_runs_past_the_field_is_refused(field: bytes) -> None:
    with pytest.raises(opt.PacketError):
        opt.parse(field)


def test_a_missing_end_is_accepted() -> None:
    assert opt.parse(b"\x35\x01\x01") == {53: b"\x01"}


@pytest.mark.parametrize(
    ("code", "value"), [(53, b""), (53, b"\1\1"), (54, b"abc"), (50, b""), (57, b"\1"), (52, b"")]
)
def test_a_wrong_fixed_length_is_refused(code: int, value: bytes) -> None:
    with pytest.raises(opt.PacketError, match=str(code)):
        opt.check_lengths({code: value})


def test_suboptions_give_what_is_whole() -> None:
    assert opt.suboptions(b"\x06\x01\x08\xff\x01\x01\x01") == {6: b"\x08"}
    assert opt.suboptions(b"\x00\x05\x04\x0a\x01\x00\x00\x0b\x04\x0a") == {5: b"\x0a\x01\x00\x00"}
    assert opt.suboptions(b"") == {}


def test_seconds_never_mean_for_ever() -> None:
    assert opt.seconds(1e12) == b"\xff\xff\xff\xfe"
    assert opt.seconds(-5) == bytes(4)
