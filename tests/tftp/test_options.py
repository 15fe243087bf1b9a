"""What is granted, for any request at all."""

from hypothesis import given
from hypothesis import strategies as st

from tftp.options import Limits, agree
from tftp.packet import ReadRequest

NAMES = st.sampled_from(["blksize", "BLKSIZE", "tsize", "timeout", "windowsize", "multicast", "rollover", ""])
VALUES = st.integers(-5, 70_000).map(str) | st.text(max_size=6)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6), st.integers(0, 1 << 40), st.integers(68, 9000))
def test_never_more_than_was_asked_and_never_what_was_not(options, size, mtu):
    """EDK2 ends the transfer with ERROR 8 or 4 otherwise (`Mtftp4RrqOackValid`)."""
    asked = {}
    for name, value in options:
        asked.setdefault(name.lower(), []).append((name, value))
    granted = agree(ReadRequest("f", "octet", tuple(options)), size, Limits(mtu=mtu))
    assert set(granted) <= {"blksize", "tsize", "timeout", "windowsize"} & set(asked)
    for name, (spelling, value) in granted.items():
        values = [int(text) for spelt, text in asked[name] if spelt == spelling and text.isdecimal()]
        match name:
            case "blksize":
                assert 8 <= value <= max(values)
                assert value <= max(8, mtu - 32)
            case "windowsize":
                assert 1 <= value <= min(64, max(values))
            case "timeout":
                assert value in values
                assert 1 <= value <= 30
            case "tsize":
                assert value == size


def test_the_block_size_follows_the_path():
    assert [Limits(mtu=mtu).blksize for mtu in (20, 68, 576, 1400, 1500, 9000, 100_000)] == [
        *(8, 36, 544, 1368, 1468),
        *(8968, 65464),
    ]
