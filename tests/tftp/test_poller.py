"""Turns of the loop: who is served, who waits, what goes wrong."""

import asyncio
import socket
import time

import pytest

from tftp.poller import Poller, Ways


@pytest.fixture
def pair():
    """A connected pair of UDP sockets on loopback."""
    one, two = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    one.bind(("127.0.0.1", 0))
    two.bind(("127.0.0.1", 0))
    one.connect(two.getsockname())
    two.connect(one.getsockname())
    yield one, two
    one.close()
    two.close()


@pytest.fixture
async def poller():
    poller = Poller()
    yield poller
    poller.close()


async def until(condition, seconds=30.0):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


async def test_what_is_readable_is_read(poller, pair):
    got = []
    poller.add(pair[0], lambda: got.append(pair[0].recv(10)))
    pair[1].send(b"a")
    pair[1].send(b"b")
    await until(lambda: got == [b"a", b"b"])
    poller.remove(pair[0])
    poller.remove(pair[0])
    pair[1].send(b"c")
    await asyncio.sleep(0.02)
    assert got == [b"a", b"b"]


async def test_a_fault_is_reported_and_the_others_are_served(poller, pair):
    faults, got = [], []
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: faults.append(context["exception"])
    )

    def fail():
        pair[0].recv(10)
        raise ZeroDivisionError

    poller.add(pair[0], fail)
    poller.add(pair[1], lambda: got.append(pair[1].recv(10)))
    pair[1].send(b"x")
    pair[0].send(b"y")
    await until(lambda: faults and got)
    assert [type(fault) for fault in faults] == [ZeroDivisionError]
    assert got == [b"y"]


async def test_a_socket_that_another_one_closed_is_not_called(poller, pair):
    """Both are readable in one turn; the first to be served takes the other away."""
    called = []

    def ready(mine, other):
        mine.recv(10)
        called.append(mine)
        poller.remove(other)

    poller.add(pair[0], lambda: ready(pair[0], pair[1]))
    poller.add(pair[1], lambda: ready(pair[1], pair[0]))
    pair[0].send(b"x")
    pair[1].send(b"y")
    await until(lambda: called)
    await asyncio.sleep(0.02)
    assert len(called) == 1


async def test_a_socket_that_never_falls_silent_leaves_the_loop_its_share(poller, pair):
    """It sends to itself for ever; the loop's other callbacks come round within a few turns."""
    served = 0

    def ready():
        nonlocal served
        served += 1
        pair[0].recv(10)
        pair[1].send(b"again")

    poller.add(pair[0], ready)
    pair[1].send(b"go")
    began = time.monotonic()
    for _ in range(20):
        await asyncio.sleep(0)
    assert time.monotonic() - began < 20  # 20 turns of 2 ms, on a machine with other work
    assert served > 20


async def test_who_was_waited_for_in_vain_is_not_waited_for_again_at_once(poller, pair, monkeypatch):
    waits = []

    def stay(until):
        waits.append(until - time.monotonic())
        return 0

    poller.add(pair[0], lambda: pair[0].recv(10), stay)
    monkeypatch.setattr(poller.ways, "pick", lambda: False)
    monkeypatch.setattr("tftp.poller._VAIN", 60.0)
    after = 0
    for _ in range(20_000):  # until two come soon enough one after the other, on a machine with other work
        pair[1].send(b"brisk")
        await asyncio.sleep(0)
        after += bool(waits)
        if after > 200:
            break
    assert len(waits) == 1
    assert all(0 < wait <= 0.002 for wait in waits)


def test_the_better_way_is_used_and_the_other_tried_again(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    ways, truth = Ways(), {True: 40_000.0, False: 20_000.0}

    def turns(count):
        picked = []
        for _ in range(count):
            picked.append(ways.pick())
            ways.note(picked[-1], truth[picked[-1]])
        return picked

    turns(20)
    assert sum(turns(80)) == 75  # awake, but for each sixteenth turn
    truth[False] = 80_000.0  # somebody else needs the CPUs now
    turns(80)
    assert sum(turns(80)) == 5


def test_a_single_cpu_never_looks_about(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    ways = Ways()
    for _ in range(100):
        assert not ways.pick()
        ways.note(False, 1.0)
