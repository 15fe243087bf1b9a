"""The real daemon in the room: `pxeboot serve` in the server's namespace, with settings and data of its
own.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

from pxeboot.lab import netns, processes
from pxeboot.lab.errors import LabError
from pxeboot.lab.room import Room

Value = str | int | float | bool | list[str]
READY_LIMIT = 120.0


def to_toml(tables: Mapping[str, Mapping[str, Value]]) -> str:
    """Settings as TOML; JSON's strings, numbers, booleans and lists of strings are TOML's too."""
    lines = []
    for table, values in tables.items():
        lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""]
    return "\n".join(lines)


class Server:
    """The daemon of a room. ``settings`` (tables of the settings file) are laid over the room's own.

    ``boot_files``: a directory with the boot environment (`pxeboot bootenv build`), linked into the data
    directory. Everything it keeps is below ``room.directory/server``; its log is
    ``room.directory/server.log``.
    """

    def __init__(
        self,
        room: Room,
        boot_files: Path | None = None,
        settings: Mapping[str, Mapping[str, Value]] | None = None,
    ) -> None:
        self.room = room
        self.data_dir = room.directory / "server"
        self.log_path = room.directory / "server.log"
        self.config = room.directory / "pxeboot.toml"
        self._process: subprocess.Popen[bytes] | None = None
        (self.data_dir / "boot").mkdir(parents=True, exist_ok=True)
        if boot_files is not None:
            for path in boot_files.iterdir():
                _link(path.resolve(), self.data_dir / "boot" / path.name)
        tables: dict[str, dict[str, Value]] = {
            "server": {"data_dir": str(self.data_dir)},
            "network": {"interface": "eth0", "address": room.server_address},
            "dhcp": {
                "subnet": str(room.subnet),
                "pool_start": str(room.subnet[100]),
                "pool_end": str(room.subnet[-2]),
            },
            # A room's worth of images; the lab must not fail for a reserve that a production server wants.
            "images": {"reserve_mb": 64, "zstd_level": 1},
        }
        for table, values in (settings or {}).items():
            tables.setdefault(table, {}).update(values)
        if tables["dhcp"].get("mode", "full") != "full":
            # Somebody else gives the addresses.
            del tables["dhcp"]["pool_start"], tables["dhcp"]["pool_end"]
        self.config.write_text(to_toml(tables))
        self.port = int(str(tables.get("http", {}).get("port", 80)))
        room.on_close(self._close)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The daemon's process id; LabError when it is not running."""
        if self._process is None or self._process.poll() is not None:
            raise LabError("the server is not running")
        return self._process.pid

    def environment(self) -> dict[str, str]:
        """The environment for `python -m pxeboot …` on this server's data: no setting leaks in from ours."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PXEBOOT_")}
        return {**kept, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "PYTHONUNBUFFERED": "1"}

    def start(self, limit: float = READY_LIMIT) -> float:
        """Start the daemon and wait until it answers; seconds from exec to the first answer.

        Raises LabError with the end of its log when it ends or does not answer within ``limit`` seconds.
        """
        if self.running:
            raise LabError("the server is already running")
        started = time.monotonic()
        command = [sys.executable, "-m", "pxeboot", "serve", "--config", str(self.config)]
        with self.log_path.open("ab") as log:
            self._process = self.room.spawn(
                command,
                namespace=self.room.server,
                stdout=log,
                stderr=log,
                env=self.environment(),
            )
        probe = self.client(timeout=5)
        while True:
            try:
                if probe.get("/readyz").status == 200:
                    return time.monotonic() - started
            except (OSError, HTTPException):
                pass
            if self._process.poll() is not None:
                raise LabError(f"the server ended with status {self._process.returncode}:\n{self.log_tail()}")
            if time.monotonic() - started > limit:
                self.kill()
                raise LabError(f"the server did not answer within {limit:.0f} s:\n{self.log_tail()}")
            time.sleep(0.1)

    def stop(self, grace: float = 20.0) -> float:
        """SIGTERM and wait (SIGKILL after ``grace`` seconds); seconds it took, 0 when it was not running."""
        if self._process is None or self._process.poll() is not None:
            return 0.0
        started = time.monotonic()
        processes.stop(self._process, grace=grace)
        return time.monotonic() - started

    def _close(self) -> None:
        self.stop()

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def log_tail(self, lines: int = 30) -> str:
        """The last lines of the daemon's log."""
        try:
            return "\n".join(self.log_path.read_text("utf-8", "replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""

    def token(self) -> str:
        """The local administrator's API token, made by the daemon at its first start."""
        return (self.data_dir / "cli.token").read_text("ascii").strip()

    def password(self) -> str:
        """The first password of the user `admin`."""
        return (self.data_dir / "first-password").read_text("utf-8").strip()

    def client(
        self, namespace: str | None = None, *, admin: bool = False, timeout: float = 30.0
    ) -> netns.HttpClient:
        """An HTTP client in the server's or another namespace of the room; ``admin``: with the API token."""
        headers = {"Authorization": f"Bearer {self.token()}"} if admin else {}
        return netns.HttpClient(
            namespace or self.room.server,
            self.room.server_address,
            self.port,
            timeout=timeout,
            headers=headers,
        )

    def command(self, *arguments: str, timeout: float = 60.0) -> bytes:
        """Run a `pxeboot` command on the server (its own token and data); its output. LabError when it
        fails.
        """
        environment = {**self.environment(), "PXEBOOT_CONFIG": str(self.config)}
        command = [sys.executable, "-m", "pxeboot", *arguments]
        return processes.run(command, timeout=timeout, namespace=self.room.server, env=environment)


class Forwarder:
    """A door for a browser: 127.0.0.1:``port`` here leads to the room's HTTP server. Loopback only, by
    design.

    ``port`` 0 takes a free one; ``port`` then tells which. LabError when it is taken.
    """

    def __init__(self, namespace: str, target: tuple[str, int], port: int = 0) -> None:
        self._namespace, self._target = namespace, target
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._listener.bind(("127.0.0.1", port))
        except OSError as error:
            self._listener.close()
            raise LabError(f"cannot listen on 127.0.0.1:{port}: {error.strerror}") from None
        self._listener.listen(64)
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, name="forwarder", daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Close the door and every connection through it."""
        _shut(self._listener)
        with self._lock:
            for sock in self._open:
                _shut(sock)

    def __enter__(self) -> Forwarder:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _accept(self) -> None:
        with self._listener:
            while True:
                try:
                    near, _ = self._listener.accept()
                except OSError:
                    return
                threading.Thread(target=self._join, args=(near,), name="forward", daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        try:
            far = netns.connect_in(self._namespace, self._target, timeout=5)
        except (OSError, LabError):
            near.close()  # the browser sees a closed connection, as from a server that is down
            return
        far.settimeout(None)
        with self._lock:
            self._open |= {near, far}
        back = threading.Thread(target=_pump, args=(far, near), name="forward-back", daemon=True)
        back.start()
        _pump(near, far)
        back.join()
        with self._lock:
            self._open -= {near, far}
        near.close()
        far.close()


def _link(source: Path, target: Path) -> None:
    """A hard link, or a copy on another file system: the TFTP server follows no symbolic link out of its
    root.
    """
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Copy until one side ends, then pass the end on."""
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        _shut(source)
        _shut(sink)


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        sock.close()
