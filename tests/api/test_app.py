"""What is the same for every answer."""

from __future__ import annotations

import httpx
import pytest


@pytest.mark.parametrize("path", ["/boot/grub/52:54:00:00:00:09", "/grub/grub.cfg", "/boot/files/absent"])
async def test_loaders_are_answered_in_the_only_spelling_grub_knows(
    client: httpx.AsyncClient, path: str
) -> None:
    names = [name for name, _value in (await client.get(path)).headers.raw]
    assert b"Content-Length" in names
