"""The server's part: who is in a swarm, and which chunk it gives whom."""

from imaging.peers.tracker import ALIVE_SECONDS, HOLD_SECONDS, NEIGHBOURS, SEEDS, Advice, Tracker

ROOM = ("operation", "manifest", "10.0.0.0/24")
CHUNKS = [bytes([number]) * 32 for number in range(10)]


def hello(
    tracker: Tracker, name: str, now: float = 0.0, *, key: object = ROOM, complete: bool = False,
    way: str = "peers", port: int = 9080,
) -> Advice:  # fmt: skip
    return tracker.hello(key, name, (f"10.0.0.{name}", port), have=0, complete=complete, way=way, now=now)  # type: ignore[arg-type]


def test_hosts_of_a_room_hear_of_each_other_and_of_nobody_else() -> None:
    tracker = Tracker()
    assert hello(tracker, "1").others == 0
    hello(tracker, "9", key=("operation", "manifest", "10.0.1.0/24"))
    assert hello(tracker, "2").neighbours == (("10.0.0.1", 9080),)
    assert hello(tracker, "1").neighbours == (("10.0.0.2", 9080),)


def test_who_is_not_heard_is_named_no_more() -> None:
    tracker = Tracker()
    hello(tracker, "1")
    assert hello(tracker, "2", ALIVE_SECONDS + 1).others == 0


def test_who_serves_nothing_counts_but_is_not_named() -> None:
    tracker = Tracker()
    hello(tracker, "1", port=0)
    advice = hello(tracker, "2")
    assert (advice.neighbours, advice.others) == ((), 1)


def test_in_a_large_room_everybody_knows_ten_and_nobody_is_alone() -> None:
    tracker = Tracker()
    names = [str(number) for number in range(1, 101)]
    for name in names:
        hello(tracker, name)
    advice = {name: hello(tracker, name) for name in names}
    assert all(len(each.neighbours) == NEIGHBOURS for each in advice.values())
    # From any host every other one is reached over neighbours of neighbours.
    reached, edge = {"1"}, {"1"}
    while edge:
        edge = {host.split(".")[3] for name in edge for host, _ in advice[name].neighbours} - reached
        reached |= edge
    assert len(reached) == 100
    seeds = [name for name in names if advice[name].connections]
    assert len(seeds) == SEEDS


def test_few_hosts_may_ask_the_server_more_often() -> None:
    tracker = Tracker()
    assert hello(tracker, "1").connections == 4
    for number in range(2, 9):
        hello(tracker, str(number))
    assert hello(tracker, "1").connections == 1


def test_each_chunk_is_given_once() -> None:
    tracker = Tracker()
    for name in ("1", "2"):
        hello(tracker, name)
    given = [tracker.grant(name, CHUNKS, 0.0) for name in ("1", "2", "1", "2")]
    assert given == [0, 1, 0, 1]  # a host that asks again for its own did not get it
    assert tracker.grant("2", CHUNKS[:1], 0.0) is None


def test_a_chunk_given_to_somebody_who_died_or_who_cannot_be_reached_is_given_again() -> None:
    tracker = Tracker()
    hello(tracker, "1", 0.0)
    hello(tracker, "2", 0.0)
    tracker.grant("1", CHUNKS[:1], 0.0)
    hello(tracker, "2", ALIVE_SECONDS)
    assert tracker.grant("2", CHUNKS[:1], ALIVE_SECONDS + 0.1) == 0
    hello(tracker, "1", HOLD_SECONDS)
    hello(tracker, "2", HOLD_SECONDS)
    tracker.grant("1", CHUNKS[1:2], HOLD_SECONDS)
    for name in ("1", "2"):
        hello(tracker, name, 2 * HOLD_SECONDS)
    assert tracker.grant("2", CHUNKS[1:2], 2 * HOLD_SECONDS) == 0


def test_what_went_over_plain_http_counts() -> None:
    tracker = Tracker()
    for name in ("1", "2"):
        hello(tracker, name)
    tracker.note("1", CHUNKS[0], 0.0)
    assert tracker.grant("2", CHUNKS[:1], 0.0) is None


def test_a_server_that_was_restarted_gives_to_whoever_asks_first() -> None:
    assert Tracker().grant("1", CHUNKS, 0.0) == 0


def test_a_host_is_needed_while_another_one_lacks_chunks_and_hears_no_multicast() -> None:
    tracker = Tracker()
    hello(tracker, "1", complete=True)
    hello(tracker, "2", way="multicast")
    assert not tracker.needed("1", 0.0)
    hello(tracker, "2", way="peers")
    assert tracker.needed("1", 0.0)
    hello(tracker, "2", complete=True)
    assert not tracker.needed("1", 0.0)
    hello(tracker, "2", way="peers")
    assert not tracker.needed("1", ALIVE_SECONDS + 1)


def test_two_complaints_are_heard_one_is_not() -> None:
    tracker = Tracker()
    for name in ("1", "2", "3", "4"):
        hello(tracker, name)
    tracker.accuse("2", ("10.0.0.1", 9080))
    assert ("10.0.0.1", 9080) in hello(tracker, "3").neighbours
    tracker.accuse("4", ("10.0.0.1", 9080))
    assert ("10.0.0.1", 9080) not in hello(tracker, "3").neighbours


def test_a_machine_that_was_restarted_is_named_again() -> None:
    tracker = Tracker()
    for now in (0.0, ALIVE_SECONDS + 1):
        for name in ("1", "2", "3"):
            hello(tracker, name, now)
        assert ("10.0.0.1", 9080) in hello(tracker, "2", now).neighbours
        for name in ("2", "3"):
            tracker.accuse(name, ("10.0.0.1", 9080))
        assert ("10.0.0.1", 9080) not in hello(tracker, "2", now).neighbours


def test_what_is_long_gone_is_forgotten() -> None:
    tracker = Tracker()
    hello(tracker, "1", 0.0)
    tracker.grant("1", CHUNKS, 0.0)
    hello(tracker, "2", 1000.0, key="another")
    assert tracker.needed("1", 1000.0) is False
    assert tracker.grant("2", CHUNKS, 1000.0) == 0
