"""The server's side of ``/agent/v1`` for the agent's tests: ARCHITECTURE §4 over a real ChunkStore, on real
HTTP.

It can be stopped and started again on the same port with its state kept, as a daemon with a database is.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from imaging.errors import ChunkInvalid, ChunkMissing, ImagingError, ManifestMissing
from imaging.manifest import Manifest
from imaging.peers.tracker import Tracker
from imaging.store import ChunkStore
from tests.ports import free_port

Json = dict[str, Any]


class Problem(Exception):
    """An RFC 9457 answer."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


class Room:
    """One server with its store; tests set ``task``, tokens and faults, and read what the agent said."""

    def __init__(self, path: Path, address: str = "127.0.0.1", port: int = 0) -> None:
        self.store = ChunkStore(path, reserve=0)
        self.signer = Ed25519PrivateKey.generate()
        self.key = self.signer.public_key().public_bytes_raw()
        self.tokens: dict[str, str] = {}  # token → "good" | "used" | …
        self.credentials: set[str] = set()
        self.task: Json | None = None
        self.host: Json | None = {"id": "1", "name": "pc-01", "state": "approved"}
        self.session: Json | None = None
        self.names: set[str] = set()
        self.checkins: list[Json] = []
        self.registrations: list[Json] = []
        self.progress: list[Json] = []
        self.outcomes: list[Json] = []
        self.versions: list[str] = []
        self.files: dict[str, bytes] = {}  # by the last parts of their URL: files/HASH, drivers/PATH
        self.cut_after = 0  # bytes of a file, after which the connection breaks, once
        self.chunks_served = 0
        self.requests: list[str] = []
        self.then = "reboot"
        self.go_on: Callable[[Json], tuple[bool, str]] = lambda progress: (True, "")
        self.on_chunk: Callable[[bytes, bytes], bytes] = lambda hash, frame: frame
        self.on_put: Callable[[], None] = lambda: None
        self.rescue = bytearray()  # the archive that came
        self.rescued: list[Json] = []  # what was said of it
        self.on_rescue: Callable[[], None] = lambda: None
        self.peers: Json | None = None  # TASK's `peers`
        self.tracker = Tracker()
        self.hellos: list[Json] = []
        self.sent: Callable[[], int | None] = lambda: None  # datagrams of the multicast sender
        self.lock = threading.Lock()
        self._address, self._port = address, port or free_port()
        self._http: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://{self._address}:{self._port}"

    def start(self) -> None:
        room = self

        class Handler(_Handler):
            pass

        Handler.room = room
        self._http = _Http((self._address, self._port), Handler)
        self._port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """As kill -9: the listening socket and all connections are gone."""
        if self._http is not None and self._thread is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http.drop_all()
            self._thread.join()
            self._http = None

    def close(self) -> None:
        self.stop()
        self.store.close()

    def token(self, state: str = "good") -> str:
        token = secrets.token_urlsafe(32)
        self.tokens[token] = state
        return token

    def cmdline(self, *, token: str | None = None, mode: str = "task", lang: str = "en") -> str:
        """The kernel command line that the boot script would carry."""
        return (
            f"quiet pxeboot.url={self.url} pxeboot.token={token or self.token()} "
            f"pxeboot.key={self.key.hex()} pxeboot.mac=52:54:00:00:00:01 "
            f"pxeboot.mode={mode} pxeboot.lang={lang}"
        )

    def order(self, kind: str, **more: Any) -> Json:
        """Make a TASK the next check-in gets."""
        self.task = {
            "id": "7", "kind": kind, "attempt": 1, "disk": {"rule": "only", "value": ""},
            "image": {"name": "debian", "version": None}, "manifest": None, "session": None,
            "peers": self.peers, "force_full": False, "capture": {"whole": ["unknown"]},
            "customise": {"hostname": None}, "then": "reboot", **more,
        }  # fmt: skip
        return self.task

    # -- the calls --

    def checkin(self, body: Json) -> Json:
        state = self.tokens.get(body["token"])
        if state is None:
            raise Problem(401, "token-unknown", "This boot token is not known.")
        if state != "good":
            raise Problem(401, f"token-{state}", f"This boot token is {state}.")
        self.tokens[body["token"]] = "used"
        self.checkins.append(body)
        credential = secrets.token_urlsafe(16)
        self.credentials.add(credential)
        mode = "task" if self.task else "register-full"
        return {
            "credential": credential,
            "host": self.host,
            "mode": mode,
            "task": self.task,
            "language": None,
        }

    def register(self, body: Json) -> Json:
        self.registrations.append(body)
        name = body["name"] or "b204-01"
        if name in self.names:
            raise Problem(409, "name-taken", f"The name {name} is taken.")
        self.names.add(name)
        return {"name": name, "state": "pending", "then": "reboot"}

    def hello(self, who: str, address: str, body: Json) -> Json:
        """A host takes part in the swarm; who it is, its credential says."""
        now = time.monotonic()
        with self.lock:
            self.hellos.append(body)
            advice = self.tracker.hello(
                "room", who, (address, body["port"]), have=body["have"], complete=body["complete"],
                way=body["way"], now=now,
            )  # fmt: skip
            needed = self.tracker.needed(who, now)
        return {
            "neighbours": advice.neighbours, "connections": advice.connections, "others": advice.others,
            "needed": needed, "sent": self.sent(),
        }  # fmt: skip

    def put_chunks(self, data: bytes) -> Json:
        self.on_put()
        at = stored = 0
        while at < len(data):
            hash, length = data[at : at + 32], int.from_bytes(data[at + 32 : at + 36], "big")
            self.store.add_frame(hash, data[at + 36 : at + 36 + length])
            at += 36 + length
            stored += 1
        return {"stored": stored}

    def put_rescue(self, offset: int, data: bytes) -> None:
        self.on_rescue()
        assert offset <= len(self.rescue)
        self.rescue[offset:] = data

    def put_manifest(self, data: bytes) -> Json:
        Manifest.from_bytes(data)
        self.store.commit()
        id = self.store.put_manifest(data, self.signer.sign(data))
        self.versions.append(id)
        return {"image": "debian", "version": len(self.versions), "manifest": id}


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, *arguments: Any) -> None:
        self.open: set[Any] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def drop_all(self) -> None:
        import socket

        for request in self.open:
            try:
                request.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        return  # a connection cut by `drop_all`


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    room: Room

    def log_message(self, format: str, *args: Any) -> None:
        return

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def _answer(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.room.requests.append(f"{method} {self.path}")
        try:
            path, _, query = self.path.removeprefix("/agent/v1/").partition("?")
            if query.startswith("needed="):
                self.room.store.room(int(query.removeprefix("needed=")))
            self._route(method, path.split("/"), body)
        except Problem as problem:
            self._problem(problem)
        except ImagingError as error:
            self._problem(Problem(507 if error.code == "store-full" else 422, error.code, str(error)))

    def _problem(self, problem: Problem) -> None:
        body = {"type": "about:blank", "title": problem.code, "status": problem.status}
        body |= {"detail": problem.detail, "code": problem.code}
        self._send(problem.status, json.dumps(body).encode(), "application/problem+json")

    def _send(self, status: int, body: bytes = b"", kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _who(self) -> str:
        return self.headers.get("Authorization", "")

    def _json(self, body: Json) -> None:
        self._send(200, json.dumps(body).encode())

    def _file(self, name: str) -> None:
        data = self.room.files.get(name)
        if data is None:
            raise Problem(404, "file-not-found", f"There is no {name}.")
        hash = blake3.blake3(data).hexdigest()
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        if self.room.cut_after and not start:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("X-Pxeboot-Blake3", hash)
            self.end_headers()
            self.wfile.write(data[: self.room.cut_after])
            self.room.cut_after = 0
            self.close_connection = True
            return
        self._send(206 if start else 200, data[start:], "application/octet-stream", X_Pxeboot_Blake3=hash)

    def _route(self, method: str, path: list[str], body: bytes) -> None:
        room = self.room
        octets = "application/octet-stream"
        if path == ["checkin"]:
            self._json(room.checkin(json.loads(body)))
            return
        if self.headers.get("Authorization", "").removeprefix("Bearer ") not in room.credentials:
            raise Problem(401, "credential-unknown", "This credential is not known.")
        match (method, path):
            case ("GET", ["registration"]):
                groups, images = ["B204", "B205"], ["debian", "windows"]
                self._json({"suggested_name": "b204-01", "groups": groups, "images": images})
            case ("POST", ["registration"]):
                self._json(room.register(json.loads(body)))
            case ("POST", ["tasks", _, "progress"]):
                progress = json.loads(body)
                room.progress.append(progress)
                go_on, reason = room.go_on(progress)
                self._json({"continue": go_on, "reason": reason})
            case ("POST", ["tasks", _, "outcome"]):
                room.outcomes.append(json.loads(body))
                self._json({"then": room.then})
            case ("POST", ["tasks", _, "missing"]):
                hashes = [body[at : at + 32] for at in range(0, len(body), 32)]
                assert len(hashes) <= 8192
                self._send(200, bytes(room.store.missing(hashes)), octets)
            case ("PUT", ["tasks", _, "chunks"]):
                self._json(room.put_chunks(body))
            case ("PUT", ["tasks", _, "rescue"]):
                query = parse_qs(self.path.partition("?")[2])
                if "needed" not in query:
                    room.put_rescue(int(query["offset"][0]), body)
                self._json({})
            case ("POST", ["tasks", _, "rescue"]):
                room.rescued.append(json.loads(body))
                assert blake3.blake3(room.rescue).hexdigest() == room.rescued[-1]["blake3"]
                self._json({"id": "7"})
            case ("POST", ["tasks", _, "manifest"]):
                self._json(room.put_manifest(body))
            case ("GET", ["manifests", id]):
                try:
                    data, signature = room.store.manifest(id)
                except ManifestMissing as error:
                    raise Problem(404, error.code, str(error)) from None
                self._send(200, data, octets, X_Pxeboot_Signature=signature.hex())
            case ("GET", ["chunks", hash]):
                try:
                    frame = room.on_chunk(bytes.fromhex(hash), room.store.frame(bytes.fromhex(hash)))
                except ChunkMissing as error:
                    raise Problem(404, "chunk-missing", str(error)) from None
                except ChunkInvalid as error:
                    raise Problem(410, "chunk-damaged", str(error)) from None
                room.chunks_served += 1
                self._send(200, frame, octets)
            case ("POST", ["tasks", _, "peers"]):
                self._json(room.hello(self._who(), self.client_address[0], json.loads(body)))
            case ("POST", ["tasks", _, "chunk"]):
                hashes = [body[at : at + 32] for at in range(0, len(body), 32)]
                with room.lock:
                    place = room.tracker.grant(self._who(), hashes, time.monotonic())
                if place is None:
                    self._send(204)
                else:
                    frame = room.on_chunk(hashes[place], room.store.frame(hashes[place]))
                    room.chunks_served += 1
                    self._send(200, frame, octets, X_Pxeboot_Place=str(place))
            case ("GET", ["tasks", _, "files" | "drivers" as kind, *rest]):
                self._file(f"{kind}/{unquote('/'.join(rest))}")
            case ("GET", ["tasks", _, "session"]):
                if room.session is None:
                    self._send(204)
                else:
                    self._json(room.session)
            case _:
                raise Problem(404, "not-found", f"There is no {method} {self.path}.")
