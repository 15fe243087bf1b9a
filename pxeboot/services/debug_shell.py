"""The debug shell of a machine: who may sign in, and where its agent says that it is open."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlmodel import Session

from imaging.other_options import MAX_KEYS
from imaging.sshkeys import KeyInvalid, checked_key, fingerprint
from pxeboot.db.models import TaskKind
from pxeboot.errors import Conflict, Invalid
from pxeboot.services import tasks
from pxeboot.settings import Settings


def with_site_keys(options: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """A request's options with the keys of the settings before its own. Invalid when there is none at all."""
    asked = [str(key) for key in options.get("keys") or []]
    keys = list(dict.fromkeys([*settings.shell.authorized_keys, *asked]))
    if not keys:
        raise Invalid(
            "Nobody could sign in: give a public SSH key (shell.keys), or set shell.authorized_keys.",
            field="shell.keys",
        )
    if len(keys) > MAX_KEYS:
        raise Invalid(f"A debug shell takes {MAX_KEYS} keys at most, not {len(keys)}.", field="shell.keys")
    return {**options, "keys": keys}


def opened(
    session: Session, task_id: str, *, attempt: int, address: str, port: int, host_key: str, now: datetime
) -> dict[str, Any]:
    """Keep where the shell is reached: `address` is where its agent calls from, so nobody is led elsewhere.

    Invalid for a text that is no key, Conflict for a task that is no debug shell.
    """
    task = tasks.row(session, task_id)
    if task.kind != TaskKind.SHELL:
        raise Conflict(f"A {task.kind.value} task opens no debug shell.")
    try:
        key = checked_key(host_key)
        print_ = fingerprint(key)
    except KeyInvalid as error:
        raise Invalid(f"This is no host key: {error}.", field="host_key") from None
    if not 1 <= port <= 65535:
        raise Invalid(f"{port} is no TCP port.", field="port")
    where = {
        "address": address, "port": port, "host_key": key, "fingerprint": print_, "attempt": attempt,
        "opened_at": now.isoformat(timespec="seconds"),
    }  # fmt: skip
    task.result = {**task.result, "shell": where}
    session.add(task)
    session.flush()
    tasks.heard(session, task_id, attempt=attempt, now=now)
    tasks.tell(session, task, "task.shell-open", f"A debug shell is open at {address}, host key {print_}.")
    return where


def known_hosts(where: Mapping[str, Any]) -> str:
    """The line of a known_hosts file that makes ssh accept this machine and no other (sshd(8))."""
    port = int(where["port"])
    name = str(where["address"]) if port == 22 else f"[{where['address']}]:{port}"
    return f"{name} {where['host_key']}"
