"""Live blocks: the HTML of a page's middle, sent again whenever what it shows has changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from fastapi.responses import StreamingResponse

from api.v1.live import HEADERS, KEEPALIVE_SECONDS, SETTLE_SECONDS, encode
from pxeboot.adapters.container import Services
from pxeboot.events import Change, Record

SHARE = 9  # a page is drawn for a tenth of the time at most: a room of hundreds changes all the time …
MOST_SECONDS = 2.0  # … but no later than this


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
                begun = time.monotonic()
                html, last = await asyncio.to_thread(draw)
                took = time.monotonic() - begun
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
                await asyncio.sleep(max(SETTLE_SECONDS, min(MOST_SECONDS, SHARE * took)))

    return StreamingResponse(body(), media_type="text/event-stream", headers=HEADERS)
