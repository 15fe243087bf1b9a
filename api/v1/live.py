"""Server-sent events: things people follow while they happen (WHATWG HTML §9.2)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi.responses import StreamingResponse

from pxeboot.adapters.container import Services
from pxeboot.errors import NotFound
from pxeboot.events import Change, Lagged, Message, Record
from pxeboot.services import journal, operations
from pxeboot.services.views import EventView, OperationView

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
KEEPALIVE_SECONDS = 15.0
SETTLE_SECONDS = 0.25  # let a burst of changes become one message


def encode(event: str, data: str, id: int | None = None) -> str:
    """One message of the event stream; `data` may have several lines."""
    lines = [f"id: {id}"] if id is not None else []
    lines.append(f"event: {event}")
    lines += [f"data: {line}" for line in data.split("\n")]
    return "\n".join(lines) + "\n\n"


@dataclass(frozen=True)
class EventFilter:
    """Which lines of the journal somebody follows; "" and None let everything pass."""

    machine: journal.Whose | None = None
    plane: str | None = None
    kind: str | None = None

    def wants(self, message: Record | Change) -> bool:
        """Whether it is for them. A change of a thing has no plane and no kind."""
        if self.machine is not None:
            mac = message.mac if isinstance(message, Record) else ""
            if not self.machine.has(message.host_id, mac):
                return False
        if isinstance(message, Change):
            return not (self.plane or self.kind)
        return self.plane in (None, "", message.plane) and self.kind in (None, "", message.kind)


async def event_stream(
    these: Services, *, host: str | None, plane: str | None, kind: str | None, after: int | None
) -> StreamingResponse:
    """The journal as it is written; with `after` first what was written since that line. NotFound(host)."""

    def filter_now() -> EventFilter:
        if not host:
            return EventFilter(None, plane, kind)
        with these.read() as session:
            return EventFilter(journal.whose(session, host), plane, kind)

    def written_since(id: int) -> list[EventView]:
        with these.read() as session:
            page = journal.list_events(
                session, host=host or None, plane=plane or None, kind=kind or None, after_id=id, limit=500
            )
        return page.items

    first = await asyncio.to_thread(filter_now)

    async def body() -> AsyncIterator[str]:
        wanted, last = first, after

        def for_them(message: Record | Change) -> bool:
            new_macs = isinstance(message, Change) and message.what == "host" and bool(host)
            return new_macs or wanted.wants(message)

        with these.journal.subscribe(for_them) as live:
            yield ": following\n\n"
            while last is not None and (missed := await asyncio.to_thread(written_since, last)):
                for line in missed:
                    yield encode("journal", line.model_dump_json(exclude={"host"}), line.id)
                last = missed[-1].id
            while not live.closed:
                message = await live.get(KEEPALIVE_SECONDS)
                if message is None:
                    yield ": still here\n\n"
                    continue
                if isinstance(message, Change) and not wanted.wants(message):
                    # Somebody's network card may have become this machine's, or it was forgotten altogether.
                    with contextlib.suppress(NotFound):
                        wanted = await asyncio.to_thread(filter_now)
                    continue
                id = message.id if isinstance(message, Record) else None
                if id is None or last is None or id > last:
                    yield encode(*describe(message), id)

    return StreamingResponse(body(), media_type="text/event-stream", headers=HEADERS)


async def operation_stream(these: Services, operation_id: str) -> StreamingResponse:
    """The operation and what it transfers as they are now, again at each change, and `end` when it is over.
    NotFound(operation)."""

    def read() -> tuple[OperationView, str]:
        with these.read() as session:
            found = operations.get(session, operation_id)
        return found, these.sessions.transfers.view(operation_id).model_dump_json(by_alias=True)

    first = await asyncio.to_thread(read)

    async def body() -> AsyncIterator[str]:
        with these.journal.subscribe(lambda message: message.operation_id == operation_id) as live:
            (view, transfer), sent, transferred = first, "", ""
            while True:
                text = view.model_dump_json()
                if text != sent:
                    yield encode("operation", text)
                    sent = text
                if transfer != transferred:
                    yield encode("transfer", transfer)
                    transferred = transfer
                if view.state != "running":
                    yield encode("end", json.dumps({"state": view.state}))
                    return
                message = await live.get(KEEPALIVE_SECONDS)
                if live.closed:
                    return
                if message is None:
                    yield ": still here\n\n"
                else:
                    await asyncio.sleep(SETTLE_SECONDS)
                view, transfer = await asyncio.to_thread(read)

    return StreamingResponse(body(), media_type="text/event-stream", headers=HEADERS)


def job_stream(these: Services, job_id: str) -> StreamingResponse:
    """The job as it is now, again at each change, and `end` when it is over. NotFound(job)."""
    these.jobs.get(job_id)

    async def body() -> AsyncIterator[str]:
        def wants(message: Record | Change) -> bool:
            return isinstance(message, Change) and (message.what, message.id) == ("job", job_id)

        with these.journal.subscribe(wants) as live:
            view, sent = these.jobs.get(job_id), ""
            while True:
                text = view.model_dump_json()
                if text != sent:
                    yield encode("job", text)
                    sent = text
                if view.finished_at is not None:
                    yield encode("end", json.dumps({"state": view.state}))
                    return
                if await live.get(KEEPALIVE_SECONDS) is None and not live.closed:
                    yield ": still here\n\n"
                if live.closed:
                    return
                view = these.jobs.get(job_id)

    return StreamingResponse(body(), media_type="text/event-stream", headers=HEADERS)


def describe(message: Message) -> tuple[str, str]:
    """Event name and JSON of a journal message, for the stream of everything."""
    if isinstance(message, Lagged):
        return "lagged", json.dumps({"missed": message.missed})
    if isinstance(message, Change):
        return "change", json.dumps(
            {
                "what": message.what,
                "id": message.id,
                "operation_id": message.operation_id,
                "host_id": message.host_id,
            }
        )
    entry = {
        "id": message.id,
        "at": message.at.isoformat(),
        "plane": message.plane,
        "kind": message.kind,
        "host_id": message.host_id,
        "mac": message.mac,
        "operation_id": message.operation_id,
        "task_id": message.task_id,
        "sentence": message.sentence,
        "data": message.data,
    }
    return "journal", json.dumps(entry, ensure_ascii=False)
