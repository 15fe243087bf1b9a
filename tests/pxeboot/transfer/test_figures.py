"""What is shown of one machine, from what its agent reports and its sender says, second by second."""

from __future__ import annotations

from typing import Any

from pxeboot.transfer.figures import HostFigures, HostTrack, Machine

MB = 1_000_000


def machine(done: int, *, multicast: int = 0, peers: int = 0, http: int = 0, **way: str) -> Machine:
    return Machine("op", "pc1", "10.0.0.1", "running", "receive", done, 100, multicast, peers, http, **way)


def after(*seen: tuple[Machine, dict[str, Any] | None]) -> HostFigures:
    """Looks that are five seconds apart."""
    track = HostTrack("pc1")
    for second, (one, row) in enumerate(seen):
        track.saw(5.0 * second, one, row)
    return track.figures()


def test_what_neighbours_give_counts() -> None:
    reason = "Nothing of the group has arrived."
    shown = after(
        (machine(0, way="peers", way_reason=reason), None),
        (machine(10, peers=40 * MB, http=10 * MB, way="peers", way_reason=reason), None),
    )
    assert (shown.way, shown.way_reason, shown.rate, shown.taken) == ("peers", reason, 80.0, 50 * MB)
    assert shown.reason is None, "the way is explained by its own reason"
    assert shown.eta == 45


def test_the_way_of_an_agent_that_names_none_is_where_most_came_from() -> None:
    assert after((machine(0), None)).way == ""
    assert after((machine(0), None), (machine(9, peers=2 * MB, http=MB), None)).way == "peers"
    assert after((machine(0), None), (machine(9, multicast=2 * MB, http=MB), None)).way == "multicast"


def test_half_full_buffers_tell_of_the_disk_once_the_sender_calls_it_slow() -> None:
    def hindrance(**row: Any) -> str:
        first, last = {"received": 0, "lost": 0}, {"received": 1000, "lost": 0, **row}
        reason = after((machine(0), first), (machine(9, multicast=10 * MB), last)).reason
        return reason.say() if reason else ""

    assert hindrance(backlog=600) == ""
    assert hindrance(backlog=600, slow=True) == "Its disk writes 2.0 MB/s: its buffers fill up."
    assert hindrance(backlog=900) == "Its disk writes 2.0 MB/s: its buffers fill up."
    assert hindrance(backlog=600, lost=140, slow=True) == "It loses 12 % of the datagrams."
    assert hindrance(slow=True) == "It is slower than the others: it is served after them."


def test_a_way_is_remembered_with_its_clearest_reason() -> None:
    track = HostTrack("pc1")
    track.saw(0, machine(0), None)
    assert track.way == "multicast", "nothing to tell of one that has just begun"
    track.saw(1, machine(0, way="peers", way_reason="Nothing was heard for 3 s."), None)
    track.why = {"way": "peers", "reason": "Nothing was heard for 3 s."}
    track.saw(9, machine(0, way="peers", way_reason="A filter drops it."), None)
    assert (track.way, track.why["reason"]) == ("peers", "A filter drops it.")
    track.saw(10, machine(0, way="multicast"), None)
    assert (track.way, track.why["reason"]) == ("multicast", "A filter drops it.")
