"""partclone's maps are read as they are, and never believed outside the partition."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.disk.usedmap import parse_map
from imaging.errors import DiskError

RECORDED = """\
# Domain logfile created by unset_name v0.3.23
# Source: n.img
# Offset: 0x00100000
# current_pos  current_status
0x040FF000     ?
#      pos        size  status
0x00100000  0x00003000  +
0x00103000  0x00001000  ?
0x00104000  0x00007000  +
"""


def test_a_recorded_map() -> None:
    assert list(parse_map(RECORDED.splitlines())) == [(0x100000, 0x3000), (0x104000, 0x7000)]


@pytest.mark.parametrize("line", ["0x0 0x10", "0x0 0x10 -", "zero 0x10 +", "0x0 -0x10 +", "0x0 0x10 *"])
def test_other_lines_are_refused(line: str) -> None:
    with pytest.raises(DiskError, match="partclone"):
        list(parse_map([*RECORDED.splitlines(), line]))


@given(st.lists(st.text(alphabet="0x1fF+?# -", max_size=20), max_size=6))
def test_noise_raises_only_disk_error(lines: list[str]) -> None:
    with contextlib.suppress(DiskError):
        assert all(start >= 0 and length > 0 for start, length in parse_map(lines))
