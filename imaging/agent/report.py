"""How a task ends: every failure becomes a code and one sentence, and the server's answer says what comes
then.
"""

from __future__ import annotations

import errno
import traceback
from typing import Any, NamedTuple

from imaging.agent.console import Console
from imaging.agent.errors import AgentError
from imaging.agent.progress import Progress
from imaging.agent.server import Server
from imaging.errors import ImagingError


class Result(NamedTuple):
    """What a task found out: ``manifest`` (hex) was captured, or is now on the disk."""

    manifest: str | None = None


def explain(error: BaseException) -> tuple[str, str]:
    """(code, one sentence) for any exception."""
    if isinstance(error, AgentError):
        return error.code, error.sentence
    if isinstance(error, ImagingError):
        return error.code, str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "The agent was interrupted at the machine."
    if isinstance(error, MemoryError):
        return "no-memory", "The machine has too little memory for this task."
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        code = "no-space" if error.errno == errno.ENOSPC else "io-error"
        return code, f"{error.strerror or type(error).__name__}{where}."
    text = " ".join(str(error).split())
    return (
        "agent-error",
        f"The agent met an unexpected error: {type(error).__name__}: {text or 'no details'}.",
    )


def print_failure(console: Console, error: BaseException) -> None:
    """The sentence to the consoles; the traceback too when the error is not one we know."""
    code, sentence = explain(error)
    trace = "".join(traceback.format_exception(error))
    if code in ("agent-error", "io-error"):
        console.say(trace.rstrip())
    else:
        console.log(trace)
    console.say(f"agent: failed code={code} reason={sentence}")
    console.failed = True


def outcome(result: Result | None, error: BaseException | None, progress: Progress) -> dict[str, Any]:
    """The body of the outcome call."""
    progress.leave()
    code, sentence = explain(error) if error is not None else ("", "")
    return {
        "ok": error is None,
        "reason": sentence[:2000],
        "code": code,
        "verified": progress.verified,
        "manifest": result.manifest if result else None,
        "bytes_multicast": progress.bytes_multicast,
        "bytes_peers": progress.bytes_peers,
        "bytes_http": progress.bytes_http,
        "way": progress.way,
        "way_reason": progress.way_reason[:500],
        "seconds": {stage: round(seconds, 3) for stage, seconds in progress.seconds.items()},
        "chunks": dict(progress.chunks),
        **progress.notes,
        **({"afterwards": progress.afterwards} if progress.afterwards else {}),
    }


def deliver(server: Server, console: Console, task: str, body: dict[str, Any], default_then: str) -> str:
    """Send the outcome; returns ``reboot`` or ``poweroff``.

    A server that no longer wants this outcome (the task was cancelled, or a newer boot took it over: 4xx)
    counts as delivered. Raises ``AgentError`` when the server cannot be reached.
    """
    server.stop.clear()
    try:
        answer = server.outcome(task, body)
    except AgentError as error:
        if not 400 <= error.status < 500:
            raise
        console.say(f"agent: outcome refused code={error.code} reason={error.sentence}")
        answer = {}
    console.say(
        f"agent: outcome ok={str(body['ok']).lower()} verified={str(body['verified']).lower()} "
        f"code={body['code'] or '-'} "
        f"multicast={body['bytes_multicast']} peers={body['bytes_peers']} http={body['bytes_http']} "
        + " ".join(f"{stage}={seconds}" for stage, seconds in body["seconds"].items())
    )
    then = answer.get("then", default_then)
    return then if then in ("reboot", "poweroff") else "reboot"
