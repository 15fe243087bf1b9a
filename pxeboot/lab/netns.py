"""Doing things inside a network namespace without leaving this process: sockets, calls, HTTP.

A socket belongs for ever to the namespace its creator was in, so it is enough that a short-lived thread
enters the namespace, makes the socket and ends: the rest of the process never leaves its own namespace
(setns(2) moves only the calling thread).
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pxeboot.lab.errors import LabError

P = ParamSpec("P")
T = TypeVar("T")

CLONE_NEWNET, MS_BIND, MNT_DETACH = 0x40000000, 0x1000, 2
NETNS_DIRECTORY = Path("/run/netns")
_libc = ctypes.CDLL(None, use_errno=True)


def path_of(namespace: str) -> Path:
    """Where iproute2 and pyroute2 keep the named namespace's file."""
    return NETNS_DIRECTORY / namespace


def inode_of(namespace: str | None = None, pid: int | str = "self") -> int:
    """The number that identifies a network namespace: of a name, or of a process (main thread); OSError
    if gone.
    """
    return os.stat(path_of(namespace) if namespace else f"/proc/{pid}/ns/net").st_ino


def call(namespace: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run ``function`` in a fresh thread that has entered ``namespace``; its result or exception is ours.

    The thread ends with the call, so nothing else ever runs in the wrong namespace. Raises LabError when the
    namespace does not exist.
    """

    def enter_and_run() -> T:
        try:
            descriptor = os.open(path_of(namespace), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise LabError(f"network namespace {namespace} does not exist") from None
        try:
            if _libc.setns(descriptor, CLONE_NEWNET) != 0:
                raise _error(f"cannot enter network namespace {namespace}")
        finally:
            os.close(descriptor)
        return function(*args, **kwargs)

    return _in_thread(enter_and_run, f"in-{namespace}")


def create(namespace: str) -> None:
    """Make a named network namespace as iproute2 does (ip-netns(8)); LabError when the kernel refuses.

    Our own, because pyroute2 makes it in a forked child that it kills after a time limit: on a loaded machine
    (the kernel takes long to tear old namespaces down) the namespace was then missing, without an error.
    """
    path = path_of(namespace)
    NETNS_DIRECTORY.mkdir(mode=0o755, parents=True, exist_ok=True)

    def make() -> None:
        if _libc.unshare(CLONE_NEWNET) != 0:
            raise _error(f"cannot make network namespace {namespace}")
        source = f"/proc/self/task/{threading.get_native_id()}/ns/net".encode()
        if _libc.mount(source, str(path).encode(), b"none", MS_BIND, None) != 0:
            raise _error(f"cannot name network namespace {namespace}")

    try:
        path.touch(mode=0o444, exist_ok=False)
    except FileExistsError:
        raise LabError(f"network namespace {namespace} exists already") from None
    try:
        _in_thread(make, f"make-{namespace}")
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def remove(namespace: str) -> None:
    """Take the name away; the namespace ends with its last process. FileNotFoundError when there is none."""
    path = path_of(namespace)
    path.stat()
    _libc.umount2(str(path).encode(), MNT_DETACH)
    path.unlink()


def _error(what: str) -> LabError:
    return LabError(f"{what}: {os.strerror(ctypes.get_errno())}")


def _in_thread(function: Callable[[], T], name: str) -> T:
    """The result (or exception) of ``function`` run in a thread of its own, which ends with it."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(function())
        except BaseException as error:  # handed over to the caller, whatever it is
            failure.append(error)

    thread = threading.Thread(target=run, name=name)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def index_of(namespace: str, interface: str) -> int:
    """The interface's index inside ``namespace``; OSError when there is none.

    By the ioctl, not by a netlink dump: a dump that other changes interrupt may come back without it.
    """
    return call(namespace, socket.if_nametoindex, interface)


def socket_in(namespace: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A new socket that belongs to ``namespace``, whoever uses it."""
    return call(namespace, socket.socket, family, kind, protocol)


def connect_in(namespace: str, address: tuple[str, int], timeout: float) -> socket.socket:
    """A TCP connection made from inside ``namespace``; OSError when it fails, TimeoutError after
    ``timeout`` seconds.
    """
    sock = socket_in(namespace, socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


class _Connection(http.client.HTTPConnection):
    """An HTTP/1.1 connection whose socket is made in a namespace."""

    def __init__(self, namespace: str, host: str, port: int, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout)
        self._namespace, self._limit = namespace, timeout

    def connect(self) -> None:
        self.sock = connect_in(self._namespace, (self.host, self.port), self._limit)


@dataclass(frozen=True)
class Response:
    """An HTTP answer, read to its end; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON; ValueError when it is none."""
        return json.loads(self.body)


@dataclass
class HttpClient:
    """A person's or a script's HTTP client that sits in a namespace of the room (one connection per request).

    ``headers`` go with every request, e.g. ``{"Authorization": "Bearer …"}``.
    """

    namespace: str
    host: str
    port: int = 80
    timeout: float = 30.0
    headers: dict[str, str] = field(default_factory=dict)

    def request(
        self,
        method: str,
        path: str,
        *,
        json_body: Any = None,
        body: bytes | None = None,
        headers: Mapping[str, str] = {},
    ) -> Response:
        """One request, one answer; OSError or http.client.HTTPException when there is none."""
        sent = {**self.headers, **headers}
        if json_body is not None:
            body = json.dumps(json_body).encode()
            sent["Content-Type"] = "application/json"
        connection = _Connection(self.namespace, self.host, self.port, self.timeout)
        try:
            connection.request(method, path, body=body, headers={**sent, "Connection": "close"})
            answer = connection.getresponse()
            return Response(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **more: Any) -> Response:
        return self.request("GET", path, **more)

    def post(self, path: str, json_body: Any = None, **more: Any) -> Response:
        return self.request("POST", path, json_body=json_body, **more)

    def lines(self, path: str, headers: Mapping[str, str] = {}) -> Iterator[str]:
        """Lines of an answer as they come (server-sent events); ends with the stream, TimeoutError on
        silence.
        """
        connection = _Connection(self.namespace, self.host, self.port, self.timeout)
        try:
            connection.request("GET", path, headers={**self.headers, **headers})
            answer = connection.getresponse()
            if answer.status != 200:
                raise LabError(
                    f"GET {path} was answered {answer.status}: {answer.read(500).decode('utf-8', 'replace')}"
                )
            while line := answer.readline():
                yield line.decode("utf-8", "replace").rstrip("\r\n")
        finally:
            connection.close()
