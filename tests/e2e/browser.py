"""A real Chromium on the technician's desk: it runs inside a namespace and sees nothing else."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from playwright.sync_api import Page, expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
LIMIT = 60_000  # ms; Playwright's own 5 s for what is expected are few on a busy machine
FLAGS = [
    "--no-sandbox",  # root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]


class Browser:
    """A context manager: `page` is a fresh page of a headless Chromium in `namespace`."""

    def __init__(self, namespace: str, scratch: Path) -> None:
        wrapper = scratch / "chromium"
        wrapper.write_text(f'#!/bin/sh\nexec ip netns exec {namespace} {CHROMIUM} "$@"\n')
        wrapper.chmod(0o755)
        self._wrapper = wrapper
        self.page: Page

    def __enter__(self) -> Browser:
        self._playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(executable_path=self._wrapper, args=FLAGS)
        self.page = self._browser.new_page(locale="en-GB", viewport={"width": 1280, "height": 900})
        self.page.set_default_timeout(LIMIT)
        expect.set_options(timeout=LIMIT)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._browser.close()
        self._playwright.stop()
