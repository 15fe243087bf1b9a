"""An independent judge of a lease file: what clients were told, against what the file says. No code of ours.

`told` reads the log of tests.dhcp.dora; `judge` returns one sentence for every broken promise.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

_SLACK = 0.05  # s between our clock reading and the server's, on one machine


@dataclass
class Told:
    """What one client believes: this address until then."""

    mac: str
    address: str
    asked: float
    until: float
    given_back: float | None = None


def told(log: Path) -> list[Told]:
    """Every ACK in the order it came, with the moment it was given back."""
    found: list[Told] = []
    for line in log.read_text().splitlines():
        what, mac, address, at, until = line.split()
        if what == "ack":
            found.append(Told(mac, address, float(at), float(until)))
        else:
            latest = next(one for one in reversed(found) if (one.mac, one.address) == (mac, address))
            latest.given_back = float(at)
    return found


def judge(path: Path, history: list[Told]) -> list[str]:
    """Broken promises: two machines with one address at one time, or an ACK that the file does not hold."""
    wrong: list[str] = []
    holder: dict[str, Told] = {}
    latest: dict[str, Told] = {}
    for one in history:
        before = holder.get(one.address)
        if before is not None and before.mac != one.mac:
            end = before.until if before.given_back is None else before.given_back
            if latest[before.mac] is before and one.asked < end - _SLACK:
                wrong.append(f"{one.address} was given to {one.mac} while {before.mac} had it")
        holder[one.address] = latest[one.mac] = one
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        rows = database.execute("SELECT address, mac, state, starts, expires FROM lease").fetchall()
        if (verdict := database.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
            wrong.append(f"the file is damaged: {verdict}")
    finally:
        database.close()
    addresses = [address for address, *_ in rows]
    machines = [mac for _, mac, *_ in rows if mac]
    if len(set(addresses)) != len(addresses) or len(set(machines)) != len(machines):
        wrong.append("an address or a machine is in the file twice")
    kept = {address: row for address, *row in rows}
    moved = {mac: starts for _, mac, _, starts, _ in rows}
    for one in latest.values():
        if holder[one.address] is not one:
            continue  # it ran out, and somebody else was told later
        mac, state, starts, expires = kept.get(one.address, ("nobody", "", 0.0, 0.0))
        end = one.until if one.given_back is None else one.given_back
        if mac != one.mac:
            # Fine if a later promise, which its client did not hear of any more, took the place of this one.
            later = moved.get(one.mac, 0.0) > one.asked or (mac != "nobody" and starts >= end - _SLACK)
            if not later:
                wrong.append(f"{one.mac} was told {one.address}, the file says {mac}")
        elif one.given_back is None and (state != "bound" or expires < one.until - _SLACK):
            wrong.append(f"{one.mac} was told {one.address} until {one.until}, the file: {state}, {expires}")
    return wrong
