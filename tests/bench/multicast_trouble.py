"""Multicast where machines die, freeze, come late in groups, are started again, or lose their server."""

from __future__ import annotations

import random
import signal
import time

from tests.bench.harness import Entry, Measurement
from tests.bench.lan import lan
from tests.bench.multicast import LINK, NEEDS, UDPCAST, Ours, ends, event, ours
from tests.bench.multicast_peers import (
    DROP_AFTER,
    finished,
    half_written,
    make_image,
    same,
    udp_receiver,
    udp_sender,
)


def stopped(found: Measurement, number: signal.Signals, hosts: int, megabytes: int) -> None:
    """The last machine gets a signal half-way: how long the others need."""
    size, others = found.megabytes(megabytes), range(hosts - 1)
    image = make_image(found.scratch, size)
    undisturbed = 0.0
    for round in found.rounds(2):
        with lan(hosts) as net:
            net.shape(LINK)
            if not round:
                undisturbed = ours(net, image, found.scratch, hosts, LINK)
            session = Ours(net, image, found.scratch, expected=hosts, rate=LINK)
            receivers = [session.receiver(host) for host in range(hosts)]
            began = session.started()
            event(receivers[-1], "half")
            receivers[-1].send_signal(number)
            found.ours.append(ends(receivers[:-1]) - began)
            session.close()
        with lan(hosts) as net:
            net.shape(LINK)
            receivers = [udp_receiver(net, found.scratch, host) for host in range(hosts)]
            _, start = udp_sender(net, image, hosts, "--retries-until-drop", DROP_AFTER)
            began = start()
            half_written(found.scratch / f"target{hosts - 1}", image.size)
            receivers[-1].send_signal(number)
            found.peer.append(finished(image, found.scratch, others) - began)
        same(image, found.scratch, others)
    found.remark(
        f"{size} MiB to {hosts} over {LINK} Mbit/s, {number.name} for one half-way; ours "
        f"{found.ours[0] / undisturbed:.2f} × its undisturbed time; udpcast with --retries-until-drop "
        f"{DROP_AFTER}, with its default of 200 it takes over 3 minutes"
    )


def groups(found: Measurement) -> None:
    """Four groups of two, ten seconds apart: what is sent, in images."""
    size = found.megabytes(96)
    image = make_image(found.scratch, size)
    for _ in found.rounds(1):
        with lan(8) as net:
            net.shape(LINK)
            session = Ours(net, image, found.scratch, expected=9, rate=LINK, gather=12)
            receivers = []
            for group in range(4):
                if group:
                    time.sleep(10)
                receivers += [session.receiver(2 * group + host) for host in range(2)]
            session.started()
            ends(receivers)
            found.ours.append(session.close()["bytes_sent"] / sum(image.sizes))
    found.remark(f"{size} MiB over {LINK} Mbit/s to 8; the sender waits until nobody new has come for 12 s")


def restarts(found: Measurement) -> None:
    """Half-way the sender is stopped, a machine killed, both started again: what was sent, in images."""
    hosts, size = 4, found.megabytes(96)
    image = make_image(found.scratch, size)
    pauses = []
    for _ in found.rounds(2):
        with lan(hosts) as net:
            net.shape(LINK)
            session = Ours(net, image, found.scratch, expected=hosts, rate=LINK)
            receivers = [session.receiver(host) for host in range(hosts)]
            session.started()
            event(receivers[0], "half")
            sent = session.close()["bytes_sent"]
            # The machine goes with its sender, and comes back wanting what a machine at half still lacks.
            net.stop(receivers[0])
            session.restart()
            began = time.monotonic()
            rest = random.sample(range(size), size // 2)
            again = session.receiver(0, only=rest)
            session.started()
            pauses.append(time.monotonic() - began)
            ends([again, *receivers[1:]])
            found.ours.append((sent + session.close()["bytes_sent"]) / sum(image.sizes))
    found.remark(
        f"{size} MiB over {LINK} Mbit/s to {hosts}; sender stopped half-way and started again with the "
        f"session's number, one machine killed and back (lacking another half: 0.25 images are its own); "
        f"the stream went on after {max(pauses):.1f} s"
    )


ENTRIES = (
    *(
        Entry(
            f"multicast_{name}",
            "s of the others",
            lambda found, number=number, hosts=hosts, size=size: stopped(found, number, hosts, size),
            "udpcast",
            lower=True,
            needs=UDPCAST,
        )
        for name, number, hosts, size in (
            ("dead", signal.SIGKILL, 8, 96),
            ("frozen", signal.SIGSTOP, 8, 96),
        )
    ),
    Entry("multicast_groups", "images sent", groups, goal=1.15, lower=True, needs=NEEDS),
    Entry("multicast_restarts", "images sent", restarts, goal=1.3, lower=True, needs=NEEDS),
)
