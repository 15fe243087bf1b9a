"""One listener's socket: from which of our addresses an answer leaves."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from dhcp.batches import Inbox, PlainInbox, sender
from dhcp.ports import Listener, Port
from tests.dhcp.test_server import PORT, NoNeighbours, may_bind_to_device

__all__ = ["may_bind_to_device"]


@pytest.fixture
def client() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.settimeout(5)
        made.bind(("127.0.0.1", 0))
        yield made


@pytest.mark.usefixtures("may_bind_to_device")
def test_an_answer_leaves_from_the_address_that_was_asked(client: socket.socket) -> None:
    port = Port(Listener("lo", PORT), NoNeighbours())
    port.open()
    try:
        for own in ("127.0.0.2", None):
            port.send(b"answer", *client.getsockname(), None, own)
            data, source = client.recvfrom(100)
            assert (data, source) == (b"answer", (own or "127.0.0.1", PORT))
        assert port.counters["sent"] == 2
    finally:
        port.close()


@pytest.mark.parametrize("kind", [Inbox, PlainInbox])
def test_what_arrived_is_taken_at_once_with_where_it_came_from_and_to(
    kind: type[Inbox] | type[PlainInbox], client: socket.socket
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        ours.setblocking(False)
        ours.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
        ours.bind(("127.0.0.1", 0))
        inbox = kind(ours)
        sent = [bytes([one]) * (one % 7) for one in range(70)]
        for data in sent:
            client.sendto(data, ours.getsockname())
        first, second = inbox.take(), inbox.take()
        assert [data for data, _, _ in first + second] == sent
        assert len(first) == Inbox.COUNT
        for _, info, name in first + second:
            assert sender(name) == client.getsockname()
            assert info[4:] == socket.inet_aton("127.0.0.1") * 2
        client.sendto(bytes(4000), ours.getsockname())
        [(cut, _, _)] = inbox.take()
        assert len(cut) == 2048
