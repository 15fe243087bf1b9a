"""Why: what would this host boot now, for which reason, and what did it do last."""

from __future__ import annotations

from datetime import datetime

from sqlmodel import Session

from pxeboot.services.views import EventView, HostView, TaskView, View
from pxeboot.settings import Settings


class Explanation(View):
    """The answer to "why?"."""

    host: HostView | None  # None: nobody registered this MAC
    mac: str
    action: str  # local | menu | agent | refuse
    reason: str  # one sentence
    sentences: list[str]  # the whole story, to be read
    task: TaskView | None  # what it is busy with
    last_task: TaskView | None  # what it finished last
    events: list[EventView]  # its journal, newest first


def explain(
    session: Session, key: str | int, *, settings: Settings, now: datetime, events: int = 20
) -> Explanation:
    """By name, id, MAC or UUID; a MAC that nobody registered is explained too. NotFound(host)."""
    raise NotImplementedError
