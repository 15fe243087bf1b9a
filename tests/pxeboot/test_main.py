"""The daemon as people run it: a process on loopback, started, asked, stopped, killed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.ports import free_port

# A start takes about 2 s of one core; tests share the machine with others.
START_SECONDS = 100.0


class Daemon:
    """`pxeboot serve` in a process of its own."""

    def __init__(self, data_dir: Path, port: int | None = None, **environment: str) -> None:
        self.data_dir, self.port = data_dir, port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from pxeboot import main, settings; raise SystemExit(main.serve(settings.load()))",
            ],
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "PXEBOOT_SERVER__DATA_DIR": str(data_dir),
                "PXEBOOT_HTTP__PORT": str(self.port),
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until_ready(self) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            assert self.process.poll() is None, self.process.communicate()
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError("the daemon did not become ready")

    def token(self) -> str:
        return (self.data_dir / "cli.token").read_text().strip()

    def stop(self) -> float:
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        return time.monotonic() - begun


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def daemon(data_dir: Path) -> Iterator[Daemon]:
    made = Daemon(data_dir)
    try:
        made.wait_until_ready()
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
        made.process.communicate()


def test_first_start_then_a_clean_stop_with_open_streams(daemon: Daemon) -> None:
    headers = {"Authorization": f"Bearer {daemon.token()}"}
    assert stat.S_IMODE((daemon.data_dir / "cli.token").stat().st_mode) == 0o600
    client = httpx.Client(base_url=daemon.url, headers=headers, timeout=60)
    with (
        client.stream("GET", "/api/v1/events/stream") as stream,
        socket.create_connection(("127.0.0.1", daemon.port)) as half,
    ):
        assert stream.status_code == 200, stream.read()
        # An agent that stopped in the middle of an upload.
        half.sendall(b"PUT /agent/v1/tasks/x/chunks HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        seconds = daemon.stop()
    assert daemon.process.returncode == 0
    assert seconds < 20  # then systemd would kill it (TimeoutStopSec); 3 s on a machine of its own
    output, log = daemon.process.communicate()
    password = (daemon.data_dir / "first-password").read_text().strip()
    assert f"password {password}" in output
    assert "Traceback" not in log


def test_what_was_known_before_a_kill_is_known_after(daemon: Daemon) -> None:
    headers = {"Authorization": f"Bearer {daemon.token()}"}
    made = httpx.post(f"{daemon.url}/api/v1/groups", json={"name": "B204"}, headers=headers, timeout=60)
    assert made.status_code == 201, made.text
    daemon.process.kill()
    daemon.process.wait(60)
    again = Daemon(daemon.data_dir, daemon.port)
    try:
        again.wait_until_ready()
        groups = httpx.get(f"{daemon.url}/api/v1/groups", headers=headers, timeout=60).json()
        assert [group["name"] for group in groups["items"]] == ["B204"]
        again.stop()
        output, _log = again.process.communicate()
        assert "password" not in output  # only the first start tells it
    finally:
        if again.process.poll() is None:
            again.process.kill()
        again.process.communicate()


def test_a_taken_port_is_one_sentence(data_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        daemon = Daemon(data_dir, port)
        _output, log = daemon.process.communicate(timeout=START_SECONDS)
    assert daemon.process.returncode == 1
    last = log.strip().splitlines()[-1]
    assert last.startswith(f"pxeboot: HTTP cannot listen on 127.0.0.1:{port}: Address already in use.")
    assert "Traceback" not in log


def test_an_interface_that_is_not_there_is_one_sentence(data_dir: Path) -> None:
    daemon = Daemon(data_dir, PXEBOOT_NETWORK__INTERFACE="nosuch0")
    _output, log = daemon.process.communicate(timeout=START_SECONDS)
    assert daemon.process.returncode == 2
    assert "network.interface = 'nosuch0' is no interface of this machine; look names up with" in log
