"""Live blocks: the HTML of a page's middle, sent again whenever what it shows has changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from fastapi.responses import StreamingResponse

from api.v1.live import HEADERS, KEEPALIVE_SECONDS, SETTLE_SECONDS, encode
from pxeboot.adapters.container import Services
from pxeboot.events import Change, Record


def live(
    these: Services,
    wants: Callable[[Record | Change], bool],
    draw: Callable[[], tuple[str, bool]],
) -> StreamingResponse:
    """Stream `html` events; `draw` runs in a thread and returns (HTML, whether it is the last)."""

    async def body() -> AsyncIterator[str]:
        with these.journal.subscribe(wants) as subscription:
            sent = ""
            while True:
                html, last = await asyncio.to_thread(draw)
                if html != sent:
                    yield encode("html", html)
                    sent = html
                if last:
                    yield encode("end", "{}")
                    return
                message = await subscription.get(KEEPALIVE_SECONDS)
                if subscription.closed:
                    return
                if message is None:
                    yield ": still here\n\n"
                await asyncio.sleep(SETTLE_SECONDS)

    return StreamingResponse(body(), media_type="text/event-stream", headers=HEADERS)
