"""The command line as a client of the REST API: address, token, requests, problems as errors."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from pxeboot.errors import AppError, Unauthorized

PROFILE = Path("~/.config/pxeboot/config.toml")


class ServerSaid(AppError):
    """A problem document that the server answered with."""

    title = "The server refused"

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        sentence = problem.get("detail") or problem.get("title") or f"HTTP status {status}"
        for item in problem.get("errors", []):
            where, said = item.get("field") or item.get("host", ""), str(item.get("msg", ""))
            if said and said not in sentence:  # the first mistake is the sentence itself
                sentence += f"\n  {where}: {said}"
        super().__init__(str(sentence), **problem)
        self.problem_code = str(problem.get("code", "error"))
        self.exit_code = {404: 4, 409: 5, 422: 2}.get(status, 1)  # type: ignore[misc]


class Api:
    """One connection to a pxeboot server.

    Address and token come from the arguments, else `PXEBOOT_URL` and `PXEBOOT_TOKEN`, else the profile file
    `~/.config/pxeboot/config.toml` (keys `url`, `token`), else this machine's own server and its `cli.token`.
    """

    def __init__(self, url: str = "", token: str = "", socket: str = "", config: Path | None = None) -> None:
        profile = _profile()
        known = url or os.environ.get("PXEBOOT_URL") or profile.get("url", "")
        secret = token or os.environ.get("PXEBOOT_TOKEN") or profile.get("token", "")
        if not (known and secret):
            local_url, local_token = _local_server(config)
            known, secret = known or local_url, secret or local_token
        self.url, self.token = known.rstrip("/"), secret
        transport = httpx.HTTPTransport(uds=socket) if socket else None
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.token}"} if self.token else {},
            timeout=httpx.Timeout(30.0, connect=5.0),
            transport=transport,
        )

    def call(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        """Make one request; raise ServerSaid for a problem, AppError when nobody answers."""
        try:
            answer = self._http.request(method, f"/api/v1{path}", headers=headers, **more)
        except httpx.HTTPError as error:
            raise AppError(
                f"No pxeboot server answers at {self.url}: {error}. Is `pxeboot serve` running? "
                "Set PXEBOOT_URL or --url if it is elsewhere."
            ) from error
        if answer.is_error:
            raise _problem(answer, bool(self.token))
        return answer

    def get(self, path: str, **params: Any) -> Any:
        """GET and decode JSON; parameters that are None or empty are left out."""
        return self.call("GET", path, params={k: v for k, v in params.items() if v not in (None, "")}).json()

    def pages(self, path: str, **params: Any) -> list[Any]:
        """All items of a list that comes in pages."""
        items: list[Any] = []
        cursor: str | None = None
        while True:
            page = self.get(path, cursor=cursor, limit=500, **params)
            items += page["items"]
            cursor = page.get("next_cursor")
            if not cursor:
                return items

    def download(self, path: str, to: Path, blake3_hex: str) -> None:
        """Write a body to a file and compare its hash. Raises as `call`; AppError when it came damaged."""
        import blake3

        hasher = blake3.blake3()
        try:
            with self._http.stream("GET", f"/api/v1{path}") as answer, to.open("wb") as file:
                if answer.is_error:
                    answer.read()
                    raise _problem(answer, bool(self.token))
                for piece in answer.iter_bytes(1 << 20):
                    hasher.update(piece)
                    file.write(piece)
        except httpx.HTTPError as error:
            raise AppError(f"The download from {self.url} broke off: {error}. Try again.") from error
        except OSError as error:
            raise AppError(f"{to} cannot be written: {error.strerror}.") from error
        if hasher.hexdigest() != blake3_hex:
            raise AppError("The archive came damaged. Try again.")

    def operation_changes(self, operation_id: str, timeout: float) -> Iterator[dict[str, Any]]:
        """Yield the operation each time it changed, until it is finished or `timeout` seconds passed."""
        deadline = time.monotonic() + timeout
        last = ""
        while True:
            operation = self.get(f"/operations/{operation_id}")
            text = json.dumps(operation, sort_keys=True)
            if text != last:
                last = text
                yield operation
            if operation["state"] != "running":
                return
            if time.monotonic() > deadline:
                raise AppError(
                    f"Operation {operation_id} is still running after {timeout:.0f} s; it goes on."
                )
            time.sleep(1.0)


def _problem(answer: httpx.Response, had_token: bool) -> AppError:
    try:
        problem = answer.json()
    except ValueError:
        problem = {"detail": f"The server answered {answer.status_code} {answer.reason_phrase}."}
    if answer.status_code == 401 and not had_token:
        return Unauthorized(
            "The server wants a token: set PXEBOOT_TOKEN or --token (`pxeboot token create NAME` makes one)."
        )
    return ServerSaid(answer.status_code, problem)


def _profile() -> dict[str, str]:
    import tomllib

    file = PROFILE.expanduser()
    if not file.exists():
        return {}
    try:
        return {k: str(v) for k, v in tomllib.loads(file.read_text(encoding="utf-8")).items()}
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise AppError(f"{file}: {error}. Correct or remove it.") from error


def _local_server(config: Path | None) -> tuple[str, str]:
    """Address and token of this machine's own server, as its settings file describes it."""
    from pxeboot import settings as settings_module

    settings = settings_module.load(config)
    host = settings.http.host or settings.network.address or "127.0.0.1"
    port = "" if settings.http.port == 80 else f":{settings.http.port}"
    try:
        token = (settings.server.data_dir / "cli.token").read_text(encoding="ascii").strip()
    except OSError:
        token = ""
    return f"http://{host}{port}", token
