"""A signed-in administrator in a real Chromium, in a namespace of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Page

from pxeboot.adapters.container import Services
from pxeboot.lab import netns
from pxeboot.services import auth
from tests.e2e.browser import Browser
from tests.webui.conftest import PASSWORD

URL = "http://127.0.0.1:8080"


def _listen() -> socket.socket:
    made = socket.create_server(("127.0.0.1", 8080))
    made.setblocking(False)
    return made


@pytest.fixture
def page(app: FastAPI, services: Services, tmp_path: Path) -> Iterator[Page]:
    """A signed-in administrator's page; server and browser share a namespace that has only loopback."""
    namespace = f"webui{os.getpid()}"
    netns.create(namespace)
    try:
        subprocess.run(["ip", "-n", namespace, "link", "set", "lo", "up"], check=True, timeout=60)
        listener = netns.call(namespace, _listen)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 60
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.02)
        with services.write() as session:
            auth.create_user(session, name="ada", password=PASSWORD, role="admin")
        with Browser(namespace, tmp_path) as browser:
            browser.page.goto(URL)
            browser.page.get_by_label("Name").fill("ada")
            browser.page.get_by_label("Password").fill(PASSWORD)
            browser.page.get_by_role("button", name="Sign in").click()
            yield browser.page
        services.journal.close_subscriptions()  # live pages hold the server otherwise
        server.should_exit = True
        thread.join(60)
    finally:
        netns.remove(namespace)
