"""What the two cores tell their users."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

# -- the receiver --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChunkReceived:
    """A whole stored frame, not yet verified; answer with `got` or `reject`."""

    index: int
    frame: bytes


@dataclass(frozen=True, slots=True)
class ChunkLost:
    """This chunk will not come by multicast: fetch it otherwise."""

    index: int
    reason: str


class Rejoin(NamedTuple):
    """Nothing heard for a while: leave and join again, an IGMP-snooping switch may have forgotten us."""


class Silent(NamedTuple):
    """Nothing heard for so long that waiting alone would be a hang."""


class Resumed(NamedTuple):
    """Datagrams arrive again after Silent."""


class Stalled(NamedTuple):
    """Data comes, but too much of it gets lost here to finish any chunk."""


class Ended(NamedTuple):
    """The sender has stopped, or serves something else than we were told; the reason says which."""

    reason: str


ReceiverEvent = ChunkReceived | ChunkLost | Rejoin | Silent | Resumed | Stalled | Ended


# -- the sender ----------------------------------------------------------------------------------------------


class ReceiverJoined(NamedTuple):
    """A receiver reported for the first time (or again after it was forgotten)."""

    receiver: int
    address: Hashable


class ReceiverLeft(NamedTuple):
    """A receiver counts no more; reason is `left` or `silent`."""

    receiver: int
    address: Hashable
    reason: str


class ClassChanged(NamedTuple):
    """A receiver turned slow (it loses too much or its buffers are full), or keeps up again."""

    receiver: int
    address: Hashable
    slow: bool
    loss: float
    backlog: int


class SweepStarted(NamedTuple):
    """The gather window is over."""

    receivers: int


class ChunkSkipped(NamedTuple):
    """The chunk source could not give this chunk; it is left out and announced as unavailable."""

    chunk: int
    reason: str


SenderEvent = ReceiverJoined | ReceiverLeft | ClassChanged | SweepStarted | ChunkSkipped
