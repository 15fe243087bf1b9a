"""What the daemon counts, in Prometheus' text format (version 0.0.4): a few own lines instead of a library,
since all that is told here is counted elsewhere already.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlmodel import Session, col, func

from imaging.store.values import Statistics
from pxeboot import __version__
from pxeboot.adapters.container import Services
from pxeboot.db.models import Host, Operation, OperationState, Task
from pxeboot.services.transfer_views import HostFiguresView, StreamView
from pxeboot.transfer.figures import WAYS

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MAX_HOSTS: Final = 512  # that have samples of their own: a Prometheus must not choke on us
STORE_SECONDS: Final = 300.0  # counting the store reads its manifests: not at every scrape


class Family(NamedTuple):
    """One metric with its samples: (labels, value)."""

    name: str
    kind: str  # counter | gauge
    help: str
    samples: list[tuple[Mapping[str, str], float]]


def render(families: Iterable[Family]) -> str:
    """The text. Label values are escaped; a family without samples is left out."""
    lines = []
    for family in families:
        if not family.samples:
            continue
        lines += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
        for labels, value in family.samples:
            inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            number = f"{value:.0f}" if float(value).is_integer() else repr(float(value))
            lines.append(f"{family.name}{'{' + inside + '}' if inside else ''} {number}")
    return "\n".join(lines) + "\n"


class Metrics:
    """Collects; thread-safe. `collect` blocks: it asks the database."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._store: tuple[float, Statistics] | None = None

    def collect(self) -> list[Family]:
        """Everything, now."""
        services = self._services
        with services.read() as session:
            found = [*_control(session)]
        transfers = services.sessions.transfers
        status: dict[str, Any] = services.status() if services.status is not None else {}
        return [
            Family("pxeboot_info", "gauge", "The version that runs.", [({"version": __version__}, 1)]),
            *found,
            *_streams(transfers.streams()),
            *_receivers(transfers.hosts()),
            Family(
                "pxeboot_sent_bytes_total",
                "counter",
                "Bytes sent to agents on the wire since the start, headers included.",
                [({"way": way}, transfers.sent[way]) for way in ("multicast", "http")],
            ),
            Family(
                "pxeboot_uploaded_bytes_total",
                "counter",
                "Bytes on the wire that machines brought to captures and rescues since the start.",
                [({}, transfers.sent["upload"])],
            ),
            *_boot(status),
            *self._stored(),
            Family(
                "pxeboot_journal_dropped_total",
                "counter",
                "Lines of the journal that could not be written.",
                [({}, services.journal.dropped)],
            ),
        ]

    def _stored(self) -> list[Family]:
        with self._lock:
            now = time.monotonic()
            if self._store is None or now - self._store[0] > STORE_SECONDS:
                with self._services.store.chunks() as store:
                    self._store = now, store.statistics()
            counted = self._store[1]
        rows = (
            ("chunks", "Chunks in the store.", counted.chunks),
            ("stored_bytes", "Bytes of compressed chunks in the store.", counted.stored),
            ("free_bytes", "Free space of the store's file system.", counted.free),
            ("damaged_chunks", "Chunks that are known to be damaged.", counted.damaged),
            ("manifests", "Manifests in the store.", counted.manifests),
        )
        return [Family(f"pxeboot_store_{name}", "gauge", text, [({}, value)]) for name, text, value in rows]


def _control(session: Session) -> Iterable[Family]:
    """Hosts, tasks and operations by state, and what came to disks by which way."""
    hosts = session.execute(sa.select(col(Host.state), func.count()).group_by(col(Host.state))).all()
    yield Family(
        "pxeboot_hosts", "gauge", "Hosts by state.", [({"state": row[0].value}, row[1]) for row in hosts]
    )
    tasks = session.execute(
        sa.select(
            col(Task.state),
            func.count(),
            func.sum(Task.bytes_multicast),
            func.sum(Task.bytes_peers),
            func.sum(Task.bytes_http),
        ).group_by(col(Task.state))
    ).all()
    yield Family(
        "pxeboot_tasks", "gauge", "Tasks by state.", [({"state": row[0].value}, row[1]) for row in tasks]
    )
    yield Family(
        "pxeboot_received_bytes",
        "gauge",
        "Bytes of images that the machines of all tasks kept here took in, by way.",
        [({"way": way}, sum(row[2 + place] or 0 for row in tasks)) for place, way in enumerate(WAYS)],
    )
    running = session.execute(
        sa.select(func.count()).where(col(Operation.state) == OperationState.RUNNING)
    ).scalar_one()
    yield Family("pxeboot_operations_running", "gauge", "Operations under way.", [({}, running)])


def _streams(streams: Iterable[StreamView]) -> Iterable[Family]:
    """By way and interface, not by operation: labels that never come again would fill Prometheus."""
    sums: dict[tuple[str, str], list[float]] = {}
    for one in streams:
        values = (
            1, one.rate_mbit * 1e6, one.granted_mbit * 1e6, one.receivers,
            one.wanted, one.datagrams, one.parity,
        )  # fmt: skip
        row = sums.setdefault((one.way, one.interface), [0.0] * len(values))
        for place, value in enumerate(values):
            row[place] += value
    names = (
        ("pxeboot_streams", "Multicast sessions, downloads and uploads under way."),
        ("pxeboot_stream_rate_bits", "How fast they are, in bit/s on the wire."),
        ("pxeboot_stream_granted_bits", "How fast the arbiter lets them be, in bit/s."),
        ("pxeboot_stream_receivers", "Receivers of multicast sessions."),
        ("pxeboot_stream_wanted_chunks", "Chunks that somebody still wants from these sessions."),
        ("pxeboot_stream_datagrams", "Datagrams that the sessions under way have sent."),
        ("pxeboot_stream_parity_datagrams", "Of these, datagrams of parity."),
    )
    for place, (name, text) in enumerate(names):
        samples = [({"way": way, "interface": on}, row[place]) for (way, on), row in sorted(sums.items())]
        yield Family(name, "gauge", text, samples)  # type: ignore[arg-type]


def _receivers(hosts: Sequence[HostFiguresView]) -> Iterable[Family]:
    """Machines that receive: counted by way and class, and each by name, the first `MAX_HOSTS` of them."""
    counted = Counter((one.way, one.class_) for one in hosts)
    yield Family(
        "pxeboot_receivers",
        "gauge",
        "Machines that receive, by the way their chunks come and the class their sender put them in.",
        [({"way": way, "class": grade}, count) for (way, grade), count in sorted(counted.items())],
    )
    named: dict[tuple[str, str], list[tuple[Mapping[str, str], float]]] = {}
    for one in sorted(hosts, key=lambda one: one.host)[:MAX_HOSTS]:
        for name, text, value in (
            ("rate_bits", "Image data that a machine takes in, in bit/s.", one.rate_mbit * 1e6),
            ("loss_ratio", "Share of the datagrams that it loses.", one.loss_percent / 100),
            ("backlog_ratio", "Share of its buffers in use.", one.backlog_percent / 100),
            ("eta_seconds", "Seconds until its stage is over; none while nobody can say.", one.eta_seconds),
        ):
            if value is not None:
                named.setdefault((name, text), []).append(({"host": one.host}, value))
    for (name, text), samples in named.items():
        yield Family(f"pxeboot_receiver_{name}", "gauge", text, samples)


def _boot(status: Mapping[str, Any]) -> Iterable[Family]:
    """DHCP and TFTP (docs/booting.md says what each counter means)."""
    dhcp, tftp = status.get("dhcp", {}), status.get("tftp", {})
    for name, text, counters in (
        ("pxeboot_dhcp_total", "What DHCP counted since the start.", dhcp.get("counters", {})),
        ("pxeboot_tftp_total", "What TFTP counted since the start.", tftp.get("counters", {})),
    ):
        yield Family(
            name, "counter", text, [({"event": str(key)}, value) for key, value in sorted(counters.items())]
        )
    if tftp:
        yield Family(
            "pxeboot_tftp_running", "gauge", "TFTP transfers under way.", [({}, tftp.get("running", 0))]
        )


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
