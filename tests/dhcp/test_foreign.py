"""Other servers are remembered, told of once an hour, and forgotten when there are too many."""

from dhcp.foreign import TOLD_EVERY, ForeignServers


def test_each_server_is_told_of_once_an_hour() -> None:
    servers = ForeignServers()
    assert servers.note("a", "10.0.0.1", 0)
    assert not servers.note("a", "10.0.0.1", TOLD_EVERY - 1)
    assert servers.note("b", "10.0.0.1", 5)
    assert servers.note("a", "10.0.0.2", 5)
    assert servers.note("a", "10.0.0.1", TOLD_EVERY)
    assert servers.seen == {"a": {"10.0.0.1": TOLD_EVERY, "10.0.0.2": 5}, "b": {"10.0.0.1": 5}}


def test_a_flood_of_made_up_servers_is_bounded() -> None:
    servers = ForeignServers()
    for number in range(1000):
        servers.note("a", f"10.1.{number >> 8}.{number & 255}", number)
    assert len(servers.seen["a"]) == 16
    assert "10.1.3.231" in servers.seen["a"]
    assert len(servers._told) == 16
