"""Client of the task plane ``/agent/v1`` (ARCHITECTURE §4): one keep-alive connection, patient with a
restarting server.

The server may be killed and started again in the middle of a deploy; the credential survives that, so a call
that finds nobody, or somebody not ready yet (429, 502, 503, 504), is tried again with exponential back-off
and jitter until ``patience`` seconds have passed. Any other answer that is not 2xx is an ``AgentError`` with
the problem's code.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from imaging.agent.errors import AgentError

PATIENCE = 330.0  # seconds; a server that is restarted by hand is back well before that
TIMEOUT = 30.0  # seconds for one connect, send or read
_FIRST_WAIT, _LONGEST_WAIT = 0.25, 10.0
_TRY_AGAIN = frozenset({429, 502, 503, 504})
_PIECE = 256 << 10
_MAX_ANSWER = 512 << 20  # a manifest of a 4 TB disk stays below 300 MB

_OCTETS = "application/octet-stream"

Json = dict[str, Any]


class Answer:
    """One answer of the server: status, headers (lower-case names) and the whole body."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes, tries: int) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.tries = tries

    def json(self) -> Json:
        """The body as a JSON object; raises ``AgentError`` ``server-answer``."""
        try:
            value = json.loads(self.body)
        except ValueError as error:
            raise AgentError("server-answer", f"The server's answer is not JSON: {error}.") from error
        if not isinstance(value, dict):
            raise AgentError("server-answer", "The server's answer is not a JSON object.")
        return value


class Server:
    """Calls of one agent. Not thread-safe: a thread takes its own by ``another()`` (same credential and
    patience).
    """

    def __init__(self, url: str, *, patience: float = PATIENCE, timeout: float = TIMEOUT) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise AgentError("boot-parameters", f"Not a server's URL: {url!r}.")
        self.url = url
        self.patience = patience
        self.timeout = timeout
        self.credential = ""
        self.stop = threading.Event()
        self.trouble: Callable[[str], None] = lambda sentence: None
        self._https = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port or (443 if self._https else 80)
        self._connection: http.client.HTTPConnection | None = None

    def another(self, *, patience: float | None = None, timeout: float | None = None) -> Server:
        """A client with a connection of its own, for another thread; shares the stop event."""
        other = Server(
            self.url,
            patience=self.patience if patience is None else patience,
            timeout=timeout or self.timeout,
        )
        other.credential, other.stop, other.trouble = self.credential, self.stop, self.trouble
        return other

    def close(self) -> None:
        """Drop the connection; the next call makes a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- transport
    # ---------------------------------------------------------------------------------------------

    def call(
        self, method: str, path: str, body: bytes | None = None, kind: str = "application/json"
    ) -> Answer:
        """One request, tried again while the server is away; returns a 2xx answer.

        Raises ``AgentError``: the problem's code and sentence, ``server-unreachable`` after ``patience``
        seconds, or ``stopped`` when ``stop`` is set while waiting.
        """
        deadline = time.monotonic() + self.patience
        wait, tries = _FIRST_WAIT, 0
        while True:
            tries += 1
            try:
                answer = self._once(method, path, body, kind)
                if 200 <= answer.status < 300:
                    answer.tries = tries
                    return answer
                problem = _problem(method, path, answer)
                problem.tries = tries
                if answer.status not in _TRY_AGAIN:
                    raise problem
                sentence, hold = problem.sentence, _retry_after(answer)
            except (OSError, http.client.HTTPException) as error:
                # A half-used connection must not be used again: its next answer may belong to this request.
                self.close()
                sentence, hold = f"{self._host}:{self._port}: {error or type(error).__name__}", 0.0
            left = deadline - time.monotonic()
            if left <= 0:
                raise AgentError(
                    "server-unreachable",
                    f"The server did not answer for {self.patience:.0f} s ({method} {path}: {sentence}).",
                )
            if tries == 1:
                self.trouble(sentence)
            pause = min(max(wait * random.uniform(0.5, 1.5), hold), left)
            if self.stop.wait(pause):
                raise AgentError("stopped", "The call was given up because the agent is stopping.")
            wait = min(wait * 2, _LONGEST_WAIT)

    def _once(self, method: str, path: str, body: bytes | None, kind: str) -> Answer:
        connection = self._connection
        if connection is None:
            maker = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
            connection = maker(self._host, self._port, timeout=self.timeout)
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # The timeout begins anew when all has been given to the kernel: what lies there must be little.
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _PIECE)
            self._connection = connection
        headers = {"Accept": "application/json, application/octet-stream"}
        if body is not None:
            headers["Content-Type"] = kind
        if self.credential:
            headers["Authorization"] = f"Bearer {self.credential}"
        if body is None or len(body) <= _PIECE:
            connection.request(method, path, body, headers)
        else:
            # Piece by piece: the timeout of one sendall is for all that it is given, and a server that holds
            # uploads back may well take minutes for what it takes all the time.
            headers["Content-Length"] = str(len(body))
            connection.request(method, path, _pieces(body), headers)
        response = connection.getresponse()
        data = response.read(_MAX_ANSWER + 1)
        if len(data) > _MAX_ANSWER:
            self.close()
            raise AgentError("server-answer", f"The server's answer to {method} {path} is too long.")
        if response.will_close:
            self.close()
        return Answer(
            response.status, {name.lower(): value for name, value in response.getheaders()}, data, 1
        )

    def pieces(self, path: str, start: int, headers: dict[str, str]) -> Iterator[bytes]:
        """One GET from byte ``start`` on, not repeated; fills ``headers`` (lower-case names)."""
        maker = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
        connection = maker(self._host, self._port, timeout=self.timeout)
        try:
            asked = {"Authorization": f"Bearer {self.credential}"}
            if start:
                asked["Range"] = f"bytes={start}-"
            connection.request("GET", path, None, asked)
            response = connection.getresponse()
            headers.update((name.lower(), value) for name, value in response.getheaders())
            if response.status == 416 and start:  # it broke off just at the end
                return
            if response.status != (206 if start else 200):
                body = response.read(1 << 16)
                raise _problem("GET", path, Answer(response.status, dict(headers), body, 1))
            while data := response.read(_PIECE):
                yield data
        finally:
            connection.close()

    def stream(self, path: str) -> Stream:
        """The body of a GET in pieces, gone on with where it broke off; its headers are in ``headers``.

        Iterating raises ``AgentError`` as ``call`` does.
        """
        return Stream(self.another(), path)

    def _post(self, path: str, body: Json) -> Json:
        return self.call("POST", path, json.dumps(body).encode()).json()

    # -- calls
    # -------------------------------------------------------------------------------------------------

    def checkin(self, token: str, mac: str, agent: str, inventory: Json) -> Json:
        """Exchange the one-time token for a credential (kept for all later calls); returns the whole
        answer.
        """
        answer = self._post(
            "/agent/v1/checkin", {"token": token, "mac": mac, "agent": agent, "inventory": inventory}
        )
        credential = answer.get("credential")
        if not isinstance(credential, str) or not credential:
            raise AgentError("server-answer", "The server's answer to the check-in has no credential.")
        self.credential = credential
        return answer

    def registration(self) -> Json:
        """``{"suggested_name", "groups", "images"}``."""
        return self.call("GET", "/agent/v1/registration").json()

    def register(self, name: str | None, group: str | None, image: str | None) -> Json:
        """Ask to be registered; ``{"name", "state", "then"}``."""
        return self._post("/agent/v1/registration", {"name": name, "group": group, "image": image})

    def progress(self, task: str, body: Json) -> Json:
        """``{"continue", "reason"}``."""
        return self._post(f"/agent/v1/tasks/{task}/progress", body)

    def outcome(self, task: str, body: Json) -> Json:
        """``{"then"}``. A 409 to a *repeated* call means that the first one arrived and its answer was
        lost.
        """
        try:
            return self._post(f"/agent/v1/tasks/{task}/outcome", body)
        except AgentError as error:
            if error.status == 409 and error.tries > 1:
                return {}
            raise

    def missing(self, task: str, hashes: list[bytes]) -> list[bool]:
        """For each of at most 8192 chunk hashes: does the store lack it?"""
        path = f"/agent/v1/tasks/{task}/missing"
        body = self.call("POST", path, b"".join(hashes), "application/octet-stream").body
        if len(body) != len(hashes):
            raise AgentError(
                "server-answer", f"Asked about {len(hashes)} chunks, the server answered {len(body)}."
            )
        return [byte == 1 for byte in body]

    def room(self, task: str, needed: int) -> None:
        """Ask whether ``needed`` bytes of new chunks have room; raises AgentError ``store-full``."""
        path = f"/agent/v1/tasks/{task}/missing?needed={needed}"
        self.call("POST", path, b"", "application/octet-stream")

    def put_chunks(self, task: str, records: bytes) -> int:
        """Upload records ``hash[32] length[u32 BE] zstd-frame``; the number the server stored."""
        answer = self.call(
            "PUT", f"/agent/v1/tasks/{task}/chunks", records, "application/octet-stream"
        ).json()
        return int(answer.get("stored", 0))

    def put_manifest(self, task: str, manifest: bytes) -> Json:
        """Finish a capture; ``{"image", "version", "manifest"}``."""
        return self.call(
            "POST", f"/agent/v1/tasks/{task}/manifest", manifest, "application/octet-stream"
        ).json()

    def manifest(self, id: str) -> tuple[bytes, bytes]:
        """A manifest's bytes and the server's signature over them, not yet checked."""
        answer = self.call("GET", f"/agent/v1/manifests/{id}")
        try:
            signature = bytes.fromhex(answer.headers.get("x-pxeboot-signature", ""))
        except ValueError:
            signature = b""
        return answer.body, signature

    def chunk(self, hash: bytes) -> bytes:
        """A chunk's stored zstd frame, not yet checked."""
        return self.call("GET", f"/agent/v1/chunks/{hash.hex()}").body

    def shell_open(self, task: str, port: int, key: str) -> None:
        """Tell that the debug shell is open: its port and its host key as one line of text."""
        self._post(f"/agent/v1/tasks/{task}/shell", {"port": port, "host_key": key})

    def rescue_room(self, task: str, needed: int) -> None:
        """Ask whether ``needed`` bytes have room; raises AgentError ``rescue-full``."""
        self.call("PUT", f"/agent/v1/tasks/{task}/rescue?offset=0&needed={needed}", b"", _OCTETS)

    def put_rescue(self, task: str, offset: int, data: bytes) -> None:
        """A piece of the archive at its place; sent again, it replaces itself."""
        self.call("PUT", f"/agent/v1/tasks/{task}/rescue?offset={offset}", data, _OCTETS)

    def finish_rescue(self, task: str, facts: Json) -> Json:
        """The archive is whole: ``{"size", "blake3", "files", …}`` → ``{"id"}``."""
        return self._post(f"/agent/v1/tasks/{task}/rescue", facts)

    def grant(self, task: str, hashes: list[bytes]) -> tuple[int, bytes] | None:
        """Any one of these chunks that the server has given to no neighbour of ours lately: its place in
        ``hashes`` and its frame, not yet checked. None: all of them are with neighbours."""
        answer = self.call("POST", f"/agent/v1/tasks/{task}/chunk", b"".join(hashes), _OCTETS)
        if answer.status == 204:
            return None
        place = answer.headers.get("x-pxeboot-place", "")
        if not place.isdigit() or not int(place) < len(hashes):
            raise AgentError("server-answer", "The server does not say which chunk it gives.")
        return int(place), answer.body

    def peers(self, task: str, body: Json) -> Json:
        """``{"neighbours", "connections", "others", "needed", "sent"}`` (docs/peers.md)."""
        return self._post(f"/agent/v1/tasks/{task}/peers", body)

    def session(self, task: str) -> Json | None:
        """The multicast session of the task, ``None`` when there is none (any more)."""
        answer = self.call("GET", f"/agent/v1/tasks/{task}/session")
        return None if answer.status == 204 or not answer.body else answer.json()


class Stream:
    """One download. After a break it asks for the rest (RFC 9110 §14.2), for the patience of its server."""

    def __init__(self, server: Server, path: str) -> None:
        self.headers: dict[str, str] = {}
        self._server, self._path = server, path
        self._done = 0

    def __iter__(self) -> Iterator[bytes]:
        server, deadline, wait = self._server, 0.0, _FIRST_WAIT
        while True:
            try:
                for piece in server.pieces(self._path, self._done, self.headers):
                    self._done += len(piece)
                    deadline, wait = 0.0, _FIRST_WAIT
                    yield piece
                server.close()
                return
            except (OSError, http.client.HTTPException) as error:
                server.close()
                reason = f"{error or type(error).__name__}"
            except AgentError as error:
                server.close()
                if error.status not in _TRY_AGAIN:
                    raise
                reason = error.sentence
            now = time.monotonic()
            deadline = deadline or now + server.patience
            if now >= deadline:
                raise AgentError(
                    "server-unreachable",
                    f"The server did not answer for {server.patience:.0f} s (GET {self._path}: {reason}).",
                )
            if server.stop.wait(min(wait * random.uniform(0.5, 1.5), deadline - now)):
                raise AgentError("stopped", "The call was given up because the agent is stopping.")
            wait = min(wait * 2, _LONGEST_WAIT)


def _pieces(body: bytes) -> Iterator[memoryview]:
    view = memoryview(body)
    return (view[at : at + _PIECE] for at in range(0, len(view), _PIECE))


def _retry_after(answer: Answer) -> float:
    value = answer.headers.get("retry-after", "")
    return min(float(value), 30.0) if value.isdigit() else 0.0


def _problem(method: str, path: str, answer: Answer) -> AgentError:
    """RFC 9457 problem → ``AgentError``; anything else gets a sentence of our own."""
    code, sentence = f"http-{answer.status}", ""
    try:
        problem = json.loads(answer.body)
        if isinstance(problem, dict):
            code = str(problem.get("code") or code)
            sentence = str(problem.get("detail") or problem.get("title") or "")
    except ValueError:
        pass
    return AgentError(
        code, sentence or f"The server answered {answer.status} to {method} {path}.", answer.status
    )
