"""HTTP as UEFI firmware speaks it: HEAD, then GET on the same connection, and going on after a break.

After EDK2, NetworkPkg/HttpBootDxe/HttpBootClient.c; written with a bare socket against the real server.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn

from tests.api.conftest import Served

CONTENT = os.urandom(3 << 20)


class Firmware:
    """One TCP connection that asks and reads exactly what the header promises."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 60)
        self._stream = self._socket.makefile("rb")
        self._host = f"127.0.0.1:{port}"

    def ask(self, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {self._host}",
            "Accept: */*",
            "User-Agent: UefiHttpBoot/1.0",
        ]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        status = self._stream.readline().decode()
        assert status.startswith("HTTP/1.1 ")
        answered: dict[str, str] = {}
        while line := self._stream.readline().decode().rstrip("\r\n"):
            name, _, value = line.partition(":")
            answered[name.lower()] = value.strip()
        assert "transfer-encoding" not in answered
        assert answered.get("connection", "keep-alive") != "close"
        size = int(answered["content-length"]) if method != "HEAD" else 0
        return int(status.split()[1]), answered, self._stream.read(size)

    def close(self) -> None:
        self._stream.close()
        self._socket.close()


@pytest.fixture
def firmware(served: Served) -> Iterator[Firmware]:
    served.settings.boot_dir.mkdir()
    (served.settings.boot_dir / "shimx64.efi").write_bytes(CONTENT)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(16)
    server = uvicorn.Server(uvicorn.Config(served.app, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    made = Firmware(listener.getsockname()[1])
    yield made
    made.close()
    server.should_exit = True
    thread.join(60)


def test_a_whole_boot_on_one_connection(firmware: Firmware) -> None:
    status, head, _ = firmware.ask("HEAD", "/boot/files/shimx64.efi")
    assert (status, head["content-length"]) == (200, str(len(CONTENT)))
    assert head["content-type"] == "application/efi"
    status, whole, body = firmware.ask("GET", "/boot/files/shimx64.efi")
    assert (status, body) == (200, CONTENT)
    assert whole["etag"] == head["etag"]
    # shim asks for its companions beside itself, with two slashes; an absence has a body, and no redirect.
    status, _, body = firmware.ask("GET", "/boot/files//revocations.efi")
    assert status == 404
    assert body
    status, _, body = firmware.ask("GET", "//boot//files//shimx64.efi")
    assert (status, body) == (200, CONTENT)
    status, _, body = firmware.ask("GET", "/grub/x86_64-efi/command.lst")
    assert (status, bool(body)) == (404, True)
    status, _, body = firmware.ask("GET", "/grub/grub.cfg")
    assert (status, b"configfile" in body) == (200, True)


def test_going_on_after_a_break(served: Served, firmware: Firmware) -> None:
    _, first, body = firmware.ask("GET", "/boot/files/shimx64.efi", Range="bytes=0-999999")
    assert body == CONTENT[:1000000]
    again = {"Range": "bytes=1000000-", "If_Match": first["etag"]}
    status, _, rest = firmware.ask("GET", "/boot/files/shimx64.efi", **again)
    assert (status, rest) == (206, CONTENT[1000000:])
    dated = {"Range": "bytes=1000000-", "If_Unmodified_Since": first["last-modified"]}
    assert firmware.ask("GET", "/boot/files/shimx64.efi", **dated)[0] == 206
    # A newer file: the parts would not fit together, so the firmware must begin again.
    (served.settings.boot_dir / "new").write_bytes(CONTENT[::-1])
    os.replace(served.settings.boot_dir / "new", served.settings.boot_dir / "shimx64.efi")
    status, _, body = firmware.ask("GET", "/boot/files/shimx64.efi", **again)
    assert (status, bool(body)) == (412, True)
    assert firmware.ask("GET", "/boot/files/shimx64.efi")[2] == CONTENT[::-1]


def test_a_script_has_the_length_that_head_promised(firmware: Firmware) -> None:
    path = "/boot/grub/52-54-00-00-00-77"
    _, head, _ = firmware.ask("HEAD", path)
    status, got, body = firmware.ask("GET", path)
    assert (status, head["content-length"], got["content-length"]) == (200, str(len(body)), str(len(body)))
