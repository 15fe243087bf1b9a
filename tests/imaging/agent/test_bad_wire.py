"""Flipped and forged datagrams: whatever a wire says, only what the manifest names reaches the disk."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.imaging.agent.images import blank
from tests.imaging.agent.test_net import CHUNKS, SESSION, Site
from tests.imaging.multicast.room import net_room

pytestmark = pytest.mark.net

WHOLE = CHUNKS * 300_000  # bytes on the wire, about


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with net_room(2) as room:
        yield Site(room, tmp_path)


def deployed(
    site: Site, session: dict[str, Any] = SESSION, **wire: Any
) -> tuple[dict[str, Any], dict[str, int]]:
    """Deploy to a host behind such a wire and to one beside it: its outcome, and what its wire did."""
    tell = site.room.bad_wire(0, **wire)
    site.tell(f"session {json.dumps(session)}")
    site.sender(expected=2, session=session)
    disks = [blank(site.path / f"disk-{n}.img", CHUNKS << 20) for n in range(2)]
    behind, beside = (site.agent(n, disk) for n, disk in enumerate(disks))
    outcomes = site.finish(behind, beside)
    assert site.same(*disks)
    lied = tell()
    left = re.search(r"multicast left .* rejected=(\d+)", (site.path / "host-0.log").read_text())
    assert left
    lied["rejected"] = int(left[1])
    clean = max(outcomes, key=lambda outcome: int(outcome["bytes_multicast"]))
    assert clean["bytes_multicast"] > WHOLE * 0.9, "the neighbour does not notice"
    return min(outcomes, key=lambda outcome: int(outcome["bytes_multicast"])), lied


def test_flipped_bits_cost_chunks_and_never_reach_the_disk(site: Site) -> None:
    outcome, lied = deployed(site, flip=0.003)
    assert lied["flipped"] > 10
    assert lied["rejected"] > 0, "the receiver was really lied to"
    assert outcome["bytes_multicast"] > WHOLE * 0.5, "and what is right is taken all the same"


def test_what_a_stranger_makes_up_never_reaches_the_disk(site: Site) -> None:
    """He knows the session and seals rightly, for there is no key: he can only make it slower."""
    outcome, lied = deployed(site, forge=0.01)
    assert lied["forged"] > 10
    assert outcome["bytes_multicast"] + outcome["bytes_http"] > WHOLE * 0.9


def test_with_a_key_a_stranger_is_not_even_a_nuisance(site: Site) -> None:
    outcome, lied = deployed(site, {**SESSION, "key": "5a" * 32, "symbol": 1446}, forge=0.05)
    assert lied["forged"] > 100
    assert lied["rejected"] == 0
    assert outcome["bytes_multicast"] > WHOLE * 0.9
