"""This machine itself: room on its disks, its clock, its limits and rights, and how full the DHCP pool is."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from pxeboot.doctor.finding import N_, Finding, not_looked
from pxeboot.doctor.site import Pool, Site

DISK, CLOCK, LIMITS, POOL = "disk", "clock", "limits", "pool"

_STA_UNSYNC: Final = 0x40  # linux/timex.h
_CAPABILITIES: Final = {"CAP_NET_BIND_SERVICE": 10, "CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}
FEWEST_FILES: Final = 4096  # 1024 TFTP transfers with file and socket, and HTTP beside them
OLDEST_YEAR: Final = 2025


def judge_disk(what: str, path: Path, free: int, total: int, reserve: int) -> Finding:
    """`reserve`: bytes a capture must leave."""
    facts: dict[str, Any] = {
        "what": what,
        "path": str(path),
        "free": free,
        "total": total,
        "free_gb": f"{free / 1e9:.1f}",
        "reserve_gb": f"{reserve / 1e9:.1f}",
    }
    if free < max(reserve, 200_000_000):
        return Finding(
            DISK,
            "error" if free < 200_000_000 else "warning",
            str(path),
            N_("%(path)s (%(what)s) has %(free_gb)s GB left: captures are refused below %(reserve_gb)s GB."),
            N_("Make room (`pxeboot image list`), or move it to a larger disk (server.data_dir)."),
            facts,
        )
    return Finding(DISK, "ok", str(path), N_("%(path)s (%(what)s) has %(free_gb)s GB left."), "", facts)


def check_disk(site: Site) -> list[Finding]:
    """Data directory and store, once where they share a file system."""
    found, seen = [], set()
    for what, path in (("data_dir", site.data_dir), ("store", site.store_dir)):
        there = next((one for one in (path, *path.parents) if one.exists()), path)
        try:
            device, usage = there.stat().st_dev, shutil.disk_usage(there)
        except OSError as error:
            found.append(not_looked(DISK, str(path), error.strerror or error))
            continue
        if device in seen:
            continue
        seen.add(device)
        found.append(judge_disk(what, path, usage.free, usage.total, site.reserve_mb * 1_000_000))
    return found


class _Timex(ctypes.Structure):
    """The beginning of struct timex (adjtimex(2)); the rest is room for the kernel to write to."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def judge_clock(now: datetime, synchronised: bool | None) -> Finding:
    """`synchronised`: what the kernel says; None = it says nothing."""
    facts = {"now": now.isoformat(timespec="seconds")}
    if now.year < OLDEST_YEAR:
        return Finding(
            CLOCK,
            "error",
            "clock",
            N_("The clock says %(now)s: leases, schedules and certificates need the time of day."),
            N_("Set it: `timedatectl set-time …`, and switch on a time service."),
            facts,
        )
    if synchronised:
        return Finding(CLOCK, "ok", "clock", N_("The clock is synchronised (%(now)s)."), "", facts)
    return Finding(
        CLOCK,
        "note",
        "clock",
        N_("No time service keeps the clock right (%(now)s): schedules may start early or late."),
        N_("`timedatectl set-ntp true`, or install chrony."),
        facts,
    )


def check_clock() -> list[Finding]:
    """Ask the kernel."""
    asked = _Timex()
    synchronised: bool | None = None
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(asked)) >= 0:
        synchronised = not asked.status & _STA_UNSYNC
    return [judge_clock(datetime.now(UTC), synchronised)]


@dataclass(frozen=True, slots=True)
class Rights:
    """Of one process: most open files, effective capabilities as a bit mask, its security module's name."""

    files: int
    capabilities: int
    confined: str = ""


def judge_rights(who: str, rights: Rights) -> list[Finding]:
    """`who`: `pxeboot (pid 17)`, or this command."""
    facts: dict[str, Any] = {"who": who, "files": rights.files, "confined": rights.confined}
    found = []
    if rights.files < FEWEST_FILES:
        found.append(
            Finding(
                LIMITS,
                "warning",
                who,
                N_("%(who)s may have only %(files)s files open; a room that boots at once needs 4096."),
                N_("LimitNOFILE=65536 in its systemd unit, or `ulimit -n 65536` before it starts."),
                facts,
            )
        )
    lacking = [name for name, bit in _CAPABILITIES.items() if not rights.capabilities >> bit & 1]
    if lacking:
        found.append(
            Finding(
                LIMITS,
                "warning",
                who,
                N_(
                    "%(who)s lacks %(lacking)s: without NET_BIND_SERVICE no port below 1024, without "
                    "NET_ADMIN all answers are broadcast, without NET_RAW no probing."
                ),
                N_("Run it as root, or with AmbientCapabilities= in its systemd unit."),
                {**facts, "lacking": lacking},
            )
        )
    if rights.confined:
        found.append(
            Finding(
                LIMITS,
                "note",
                who,
                N_("%(who)s is confined by a security module as %(confined)s."),
                N_("If files or ports are refused, look at `journalctl -k -g denied`."),
                facts,
            )
        )
    return found or [
        Finding(
            LIMITS, "ok", who, N_("%(who)s may open %(files)s files and has all rights it needs."), "", facts
        )
    ]


def read_rights(pid: int, proc: Path = Path("/proc")) -> Rights:
    """Of a process. Raises OSError, ValueError."""
    about = proc / str(pid)
    limits = re.search(r"Max open files\s+(\S+)", (about / "limits").read_text())
    effective = re.search(r"CapEff:\s+([0-9a-f]+)", (about / "status").read_text())
    if limits is None or effective is None:
        raise ValueError("the kernel does not tell limits or capabilities")
    files = 1 << 20 if limits.group(1) == "unlimited" else int(limits.group(1))
    try:
        profile = (about / "attr/current").read_text().strip("\0\n ")
    except OSError:
        profile = ""
    return Rights(
        files,
        int(effective.group(1), 16),
        "" if profile in ("", "unconfined", "kernel") or "unconfined" in profile else profile,
    )


def check_limits(daemon: int) -> list[Finding]:
    """Of the daemon if it runs (pid, 0 = no), else of this process, as which it would be started."""
    who = f"pxeboot (pid {daemon})" if daemon else f"this process (uid {os.geteuid()})"
    try:
        return judge_rights(who, read_rights(daemon or os.getpid()))
    except (OSError, ValueError) as error:
        return [not_looked(LIMITS, who, error)]


def judge_pool(pool: Pool, used: Mapping[str, int]) -> Finding:
    """`used`: addresses by state (`bound`, `declined`), counted now."""
    taken, declined = used.get("bound", 0), used.get("declined", 0)
    busy = taken + declined
    facts: dict[str, Any] = {
        "subnet": str(pool.network),
        "size": pool.size,
        "bound": taken,
        "declined": declined,
        "free": max(pool.size - busy, 0),
    }
    name = str(pool.network)
    if pool.size and busy >= pool.size:
        level: Any = "error"
        sentence = N_("The pool of %(subnet)s is used up: %(bound)s of %(size)s addresses leased.")
    elif busy * 10 >= pool.size * 9:
        level = "warning"
        sentence = N_("The pool of %(subnet)s is nearly used up: %(free)s of %(size)s addresses free.")
    elif declined:
        level = "warning"
        sentence = N_(
            "%(declined)s addresses of %(subnet)s were found in use by somebody else: are they fixed "
            "somewhere, or given by another server?"
        )
        return Finding(
            POOL,
            level,
            name,
            sentence,
            N_("`pxeboot doctor --only dhcp-servers`; put fixed addresses into dhcp.exclude."),
            facts,
        )
    else:
        sentence = N_("%(free)s of %(size)s addresses of %(subnet)s are free.")
        return Finding(POOL, "ok", name, sentence, "", facts)
    remedy = N_("Make the pool larger (dhcp.pool_start, dhcp.pool_end) or dhcp.lease_seconds shorter.")
    return Finding(POOL, level, name, sentence, remedy, facts)


def check_pool(site: Site) -> list[Finding]:
    """Read the lease file beside the daemon that writes it."""
    if site.mode != "full":
        facts: dict[str, Any] = {"mode": site.mode}
        sentence = N_("We give no addresses (dhcp.mode = %(mode)s): there is no pool.")
        return [Finding(POOL, "ok", "dhcp", sentence, "", facts)]
    path = site.data_dir / "leases.sqlite"
    if not path.exists():
        sentence = N_("No address was ever leased: there is no %(path)s yet.")
        return [Finding(POOL, "ok", "dhcp", sentence, "", {"path": str(path)})]
    try:
        leases = read_leases(path, time.time())
    except (OSError, sqlite3.Error) as error:
        return [not_looked(POOL, str(path), error)]
    found = []
    for pool in site.pools:
        used: dict[str, int] = {}
        for address, state in leases:
            if IPv4Address(address) in pool.network:
                used[state] = used.get(state, 0) + 1
        found.append(judge_pool(pool, used))
    return found


def read_leases(path: Path, now: float) -> list[tuple[str, str]]:
    """(address, state) of what is not free now. Raises sqlite3.Error, OSError."""
    if not os.access(path, os.R_OK):
        raise PermissionError(f"{path} may not be read")
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=2)
    try:
        query = "SELECT address, state FROM lease WHERE expires > ? AND state IN ('bound', 'declined')"
        return [(str(address), str(state)) for address, state in database.execute(query, (now,))]
    finally:
        database.close()
