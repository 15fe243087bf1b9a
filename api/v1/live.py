"""Server-sent events: things people follow while they happen (WHATWG HTML §9.2)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

from fastapi.responses import StreamingResponse

from pxeboot.adapters.container import Services
from pxeboot.events import Change, Lagged, Message, Record
from pxeboot.services import operations
from pxeboot.services.views import OperationView

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
KEEPALIVE_SECONDS = 15.0
SETTLE_SECONDS = 0.25  # let a burst of changes become one message


def encode(event: str, data: str, id: int | None = None) -> str:
    """One message of the event stream; `data` may have several lines."""
    lines = [f"id: {id}"] if id is not None else []
    lines.append(f"event: {event}")
    lines += [f"data: {line}" for line in data.split("\n")]
    return "\n".join(lines) + "\n\n"


async def changes(these: Services, wants: Callable[[Record | Change], bool]) -> AsyncIterator[Message | None]:
    """What the journal publishes; None is a pause (send a comment). Ends when the daemon stops."""
    with these.journal.subscribe(wants) as live:
        while not live.closed:
            yield await live.get(KEEPALIVE_SECONDS)


async def operation_stream(these: Services, operation_id: str) -> StreamingResponse:
    """The operation as it is now, again at each change, and `end` when it is over. NotFound(operation)."""

    def read() -> OperationView:
        with these.read() as session:
            return operations.get(session, operation_id)

    first = await asyncio.to_thread(read)

    async def body() -> AsyncIterator[str]:
        with these.journal.subscribe(lambda message: message.operation_id == operation_id) as live:
            view, sent = first, ""
            while True:
                text = view.model_dump_json()
                if text != sent:
                    yield encode("operation", text)
                    sent = text
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
                view = await asyncio.to_thread(read)

    return StreamingResponse(body(), media_type="text/event-stream", headers=HEADERS)


def describe(message: Message) -> tuple[str, str]:
    """Event name and JSON of a journal message, for the stream of everything."""
    if isinstance(message, Lagged):
        return "lagged", json.dumps({"missed": message.missed})
    if isinstance(message, Change):
        return "change", json.dumps(
            {"what": message.what, "id": message.id, "operation_id": message.operation_id}
        )
    entry = {
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
