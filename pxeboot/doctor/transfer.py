"""Fetches a boot file from our own address by TFTP and asks for it by HTTP, as a machine that boots would."""

from __future__ import annotations

import hashlib
import http.client
import select
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pxeboot.doctor.finding import N_, Finding
from tftp import packet as tftp

TFTP, HTTP = "tftp", "http"

_IP_RECVERR: Final = 11  # ip(7): an unconnected socket hears of closed ports, too
BLKSIZE: Final = 1432
TIMEOUT: Final = 1.0
TRIES: Final = 3
LIMIT_SECONDS: Final = 8.0

End = Literal["whole", "timeout", "refused", "error", "stalled", "stranger", "unreachable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """How a TFTP read ended.

    `end`: `whole`; `timeout` no first answer; `refused` nobody listens; `error` the server said no;
    `stalled` it began and then fell silent; `stranger` the answer came from another address.
    """

    end: End
    size: int = 0
    sha256: str = ""
    source: str = ""
    detail: str = ""
    seconds: float = 0.0


def fetch(address: str, port: int, name: str, *, own: str = "") -> Fetched:
    """Read a file to its end. `own`: the address to ask from. At most LIMIT_SECONDS; never raises OSError."""
    began = time.monotonic()
    digest, size, expected, peer = hashlib.sha256(), 0, 1, 0
    blksize = tftp.DEFAULT_BLKSIZE
    sent = tftp.ReadRequest(name, options=(("blksize", str(BLKSIZE)), ("tsize", "0"))).to_bytes()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            line.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            line.bind((own, 0))
            tries = 0
            while time.monotonic() - began < LIMIT_SECONDS:
                line.sendto(sent, (address, peer or port))
                if not select.select([line], [], [], TIMEOUT)[0]:
                    tries += 1
                    if tries >= TRIES:
                        break
                    continue
                data, source = line.recvfrom(65536)
                if source[0] != address:
                    return Fetched(end="stranger", source=source[0])
                tries, peer = 0, peer or source[1]
                said = tftp.parse(data)
                if isinstance(said, tftp.Error):
                    return Fetched(end="error", detail=f"{said.code} {said.message}".strip())
                if isinstance(said, tftp.OptionAck):
                    blksize = int(dict(said.options).get("blksize", blksize))
                    sent = tftp.Ack(0).to_bytes()
                elif isinstance(said, tftp.Data) and said.block == expected & 0xFFFF:
                    digest.update(said.payload)
                    size, expected = size + len(said.payload), expected + 1
                    sent = tftp.Ack(said.block).to_bytes()
                    if len(said.payload) < blksize:
                        line.sendto(sent, (address, peer))
                        seconds = time.monotonic() - began
                        return Fetched(end="whole", size=size, sha256=digest.hexdigest(), seconds=seconds)
    except ConnectionRefusedError:
        return Fetched(end="refused" if not peer else "stalled", size=size)
    except (tftp.PacketError, ValueError) as error:
        return Fetched(end="error", detail=str(error))
    except OSError as error:
        return Fetched(end="unreachable", detail=error.strerror or str(error))
    return Fetched(end="stalled" if peer else "timeout", size=size)


def judge_tftp(address: str, port: int, name: str, got: Fetched, size: int, sha256: str) -> Finding:
    """What the outcome means; `size` and `sha256` are those of the file on disk."""
    facts: dict[str, Any] = {
        "address": address,
        "port": port,
        "name": name,
        "size": got.size,
        "expected": size,
        "source": got.source,
        "detail": got.detail,
        "seconds": round(got.seconds, 3),
    }

    def say(level: Any, sentence: str, remedy: str = "") -> Finding:
        return Finding(TFTP, level, f"{address}:{port}", sentence, remedy, facts)

    firewall = N_("A firewall on this machine? `pxeboot doctor --only firewall` names the rule.")
    match got.end:
        case "whole" if (got.size, got.sha256) == (size, sha256):
            return say(
                "ok",
                N_("%(name)s was read whole by TFTP from %(address)s, from this machine (%(size)s bytes)."),
            )
        case "whole":
            return say(
                "error",
                N_("TFTP gave %(size)s bytes of %(name)s, but the file on disk has %(expected)s or differs."),
                N_("Another TFTP server answers here, or the daemon has another data_dir: see `ports`."),
            )
        case "refused":
            return say(
                "error",
                N_("Nobody listens for TFTP on %(address)s port %(port)s (connection refused)."),
                N_("Start pxeboot there; if it runs, compare tftp.enabled, tftp.port and network.address."),
            )
        case "timeout":
            return say(
                "error",
                N_("TFTP requests to %(address)s port %(port)s get no answer (time-out): they are dropped."),
                firewall,
            )
        case "stalled":
            return say(
                "error",
                N_(
                    "TFTP on %(address)s answered and then fell silent after %(size)s bytes of %(name)s: "
                    "answers come from a new port, and something drops what is sent to it."
                ),
                firewall,
            )
        case "stranger":
            return say(
                "error",
                N_("A TFTP answer came from %(source)s instead of %(address)s: firmware throws it away."),
                N_("Let TFTP listen on one address (network.address); another server may hold the port."),
            )
        case "error":
            return say(
                "error",
                N_("TFTP on %(address)s refused %(name)s: %(detail)s."),
                N_("Is the file there and readable? `pxeboot doctor --only boot-files`."),
            )
    return say(
        "error",
        N_("TFTP on %(address)s cannot be reached from this machine: %(detail)s."),
        N_("Look at the interface: `pxeboot doctor --only interface`."),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An HTTP answer to HEAD. `problem`: why there is none. Header names as they were spelled."""

    problem: Literal["", "refused", "timeout", "broken"] = ""
    detail: str = ""
    status: int = 0
    version: int = 0
    headers: Mapping[str, str] = ()  # type: ignore[assignment]


def head(address: str, port: int, path: str, timeout: float = 4.0) -> Answered:
    """HEAD, as UEFI HTTP Boot begins. Never raises OSError."""
    connection = http.client.HTTPConnection(address, port, timeout=timeout)
    try:
        connection.request("HEAD", path)
        answer = connection.getresponse()
        return Answered(status=answer.status, version=answer.version, headers=dict(answer.getheaders()))
    except ConnectionRefusedError:
        return Answered(problem="refused")
    except TimeoutError:
        return Answered(problem="timeout")
    except (OSError, http.client.HTTPException) as error:
        return Answered(problem="broken", detail=str(error) or type(error).__name__)
    finally:
        connection.close()


def judge_http(address: str, port: int, path: str, got: Answered, size: int) -> list[Finding]:
    """Whether firmware, shim and GRUB can live with the answer (docs/booting.md)."""
    url = f"http://{address}{'' if port == 80 else f':{port}'}{path}"
    headers = {name.lower(): value for name, value in dict(got.headers).items()}
    facts: dict[str, Any] = {
        "address": address,
        "port": port,
        "url": url,
        "status": got.status,
        "detail": got.detail,
        "length": headers.get("content-length", ""),
        "size": size,
        "server": headers.get("server", ""),
    }

    def say(level: Any, sentence: str, remedy: str = "") -> Finding:
        return Finding(HTTP, level, f"{address}:{port}", sentence, remedy, facts)

    stranger = N_("Is it pxeboot that answers there, without a proxy between? `pxeboot doctor --only ports`.")
    if got.problem == "refused":
        return [
            say(
                "error",
                N_("Nobody listens for HTTP on %(address)s port %(port)s (connection refused)."),
                N_("Start pxeboot there; if it runs, compare http.host and http.port."),
            )
        ]
    if got.problem == "timeout":
        return [
            say(
                "error",
                N_("HTTP on %(address)s port %(port)s does not answer (time-out): something drops it."),
                N_("A firewall on this machine? `pxeboot doctor --only firewall` names the rule."),
            )
        ]
    if got.problem:
        return [
            say("error", N_("What answers on %(address)s port %(port)s is not HTTP: %(detail)s."), stranger)
        ]
    if 300 <= got.status < 400:
        return [
            say(
                "error",
                N_("%(url)s is redirected (%(status)s): firmware does not follow redirects."),
                N_("Serve boot files without redirects to HTTPS or other names."),
            )
        ]
    if got.status != 200:
        return [say("error", N_("%(url)s is answered with status %(status)s."), stranger)]
    found = []
    if facts["length"] != str(size):
        found.append(
            say(
                "error",
                N_("%(url)s says Content-Length %(length)s, but the file has %(size)s bytes."),
                stranger,
            )
        )
    elif "Content-Length" not in got.headers:
        found.append(
            say(
                "warning",
                N_("Content-Length is spelled otherwise at %(url)s: GRUB waits half a minute per file."),
                N_("A proxy rewrites headers: let machines talk to pxeboot directly."),
            )
        )
    if got.version < 11:
        found.append(
            say("error", N_("%(url)s is answered in HTTP/1.0: UEFI HTTP Boot wants HTTP/1.1."), stranger)
        )
    etag = headers.get("etag", "")
    if not etag or etag.startswith("W/"):
        found.append(
            say("warning", N_("%(url)s has no strong ETag: interrupted loads begin anew."), stranger)
        )
    return found or [say("ok", N_("%(url)s is answered as firmware wants it (%(size)s bytes)."))]
