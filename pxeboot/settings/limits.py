"""Rates and limits by time of day as people write them: `mon-fri 08:00-18:00 100 Mbit/s`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EXAMPLE: Final = 'write it like "mon-fri 08:00-18:00 100 Mbit/s"'
_UNITS: Final = {"kbit/s": 1e3, "mbit/s": 1e6, "gbit/s": 1e9}
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmg]bit/s)$", re.IGNORECASE)
_SPAN = re.compile(r"([0-2][0-9]):([0-5][0-9])-([0-2][0-9]):([0-5][0-9])$")
_DAY = 24 * 60  # minutes


@dataclass(frozen=True)
class TimedLimit:
    """Between two times of day, on some days, no more than `rate` bit/s.

    `start` and `end` are minutes of the day; an end at or before the start is on the next day, and the
    days are those on which the span begins. `interface`: "" = all that the server sends, summed up.
    """

    rate: float
    start: int
    end: int
    days: frozenset[int]  # 0 is Monday
    interface: str = ""

    def holds(self, at: datetime) -> bool:
        """Whether it holds at a local time."""
        minute, day = at.hour * 60 + at.minute, at.weekday()
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        if day in self.days and minute >= self.start:
            return True
        return (day - 1) % 7 in self.days and minute < self.end

    @property
    def span(self) -> str:
        """The times of day, `08:00-18:00`."""
        return f"{_clock(self.start)}-{_clock(self.end)}"


def parse_rate(text: str) -> float:
    """`100 Mbit/s` in bit/s. Raises ValueError with what is wrong with it."""
    found = _RATE.search(text.strip())
    if not found or found.start() != 0:
        raise ValueError("is not a rate; write one like 100 Mbit/s")
    rate = float(found[1]) * _UNITS[found[2].lower()]
    if not 1e5 <= rate <= 1e12:
        raise ValueError("is out of range: from 100 kbit/s to 1000 Gbit/s")
    return rate


def parse_limit(text: str) -> TimedLimit:
    """`[INTERFACE] [DAYS] HH:MM-HH:MM RATE`. Raises ValueError with what is wrong with it."""
    words = text.split()
    at = next((number for number, word in enumerate(words) if _SPAN.match(word)), None)
    if at is None or at > 2:
        raise ValueError("has no times of day like 08:00-18:00 before its rate")
    span = _SPAN.match(words[at])
    assert span is not None
    start, end = (int(span[n]) * 60 + int(span[n + 1]) for n in (1, 3))
    if start >= _DAY or end > _DAY:
        raise ValueError("has a time after 24:00")
    if start == end:
        raise ValueError("begins and ends at the same time; 00:00-24:00 is the whole day")
    days: frozenset[int] | None = None
    interface = ""
    for word in words[:at]:
        found = _days(word)
        if found is not None and days is None:
            days = found
        elif not interface:
            interface = word
        else:
            raise ValueError(f"has a word too many: {word}")
    return TimedLimit(
        parse_rate(" ".join(words[at + 1 :])), start, end, days or frozenset(range(7)), interface
    )


def parse_cap(text: str) -> tuple[str, float]:
    """`eth2 = 500 Mbit/s`: interface and bit/s. Raises ValueError with what is wrong with it."""
    name, sign, rate = text.partition("=")
    if not sign or not name.strip():
        raise ValueError("names no interface before a =")
    return name.strip(), parse_rate(rate)


def holding(limits: Iterable[TimedLimit], at: datetime) -> list[TimedLimit]:
    """Those that hold at a local time; where several do, the lowest counts."""
    return [limit for limit in limits if limit.holds(at)]


def _days(word: str) -> frozenset[int] | None:
    """`mon`, `mon-fri`, `sat,sun`; None when it names no days."""
    found: set[int] = set()
    for part in word.lower().split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            return None
        start, end = DAYS.index(first), DAYS.index(last or first)
        found.update((start + step) % 7 for step in range((end - start) % 7 + 1))
    return frozenset(found)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
