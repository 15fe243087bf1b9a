"""Registration at the machine: quick asks nothing, full asks for name, group and image."""

from __future__ import annotations

import re
import time
from typing import Any

from imaging.agent.console import AnswerTimeout, Console
from imaging.agent.errors import AgentError
from imaging.agent.i18n import gettext as _
from imaging.agent.server import Server

TIME_LIMIT = 300.0  # seconds for all questions together; then the machine boots its disk
# RFC 1123 §2.1 host name of one label; Windows (NetBIOS) allows 15 characters, the server decides on more.
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def register(server: Server, console: Console, mode: str, time_limit: float = TIME_LIMIT) -> dict[str, Any]:
    """Register this machine (``register-quick`` or ``register-full``); returns the server's answer.

    Raises ``AgentError``: the server's refusal, or ``registration-timeout``.
    """
    if mode == "register-quick":
        return _done(console, server.register(None, None, None))
    offer = server.registration()
    console.say(_("Registration of this machine. Enter takes the value in brackets."))
    deadline = time.monotonic() + time_limit
    try:
        return _done(console, _ask(server, console, offer, deadline))
    except AnswerTimeout:
        raise AgentError(
            "registration-timeout",
            _("Nobody answered the registration within {minutes} minutes.").format(
                minutes=round(time_limit / 60)
            ),
        ) from None


def _ask(server: Server, console: Console, offer: dict[str, Any], deadline: float) -> dict[str, Any]:
    suggested = str(offer.get("suggested_name") or "")
    group = image = ""
    asked = False
    while True:
        name = _ask_name(console, suggested, deadline)
        if not asked:
            group = _pick(console, "Registration: group", list(offer.get("groups") or []), deadline)
            image = _pick(console, "Registration: image", list(offer.get("images") or []), deadline)
            asked = True
        try:
            return server.register(name or None, group or None, image or None)
        except AgentError as error:
            # A name that somebody took meanwhile, or one the site's rules refuse: ask for another one.
            if error.status not in (400, 409, 422):
                raise
            console.say(error.sentence)


def _ask_name(console: Console, suggested: str, deadline: float) -> str:
    while True:
        name = console.ask(_("Registration: name"), suggested, deadline)
        if _NAME.fullmatch(name) or (not name and not suggested):
            return name
        console.say(
            _("A name has 1 to 63 letters, digits and hyphens, and neither begins nor ends with a hyphen.")
        )


def _pick(console: Console, title: str, names: list[str], deadline: float) -> str:
    if not names:
        return ""
    chosen = console.choose(_(title), [_("none"), *names], 0, deadline)
    return names[chosen - 1] if chosen else ""


def _done(console: Console, answer: dict[str, Any]) -> dict[str, Any]:
    name, state = str(answer.get("name", "")), str(answer.get("state", ""))
    if state == "approved":
        console.say(_("Registered as {name}.").format(name=name))
    else:
        console.say(_("Registered as {name}; waiting for approval.").format(name=name))
    console.say(f"agent: registered name={name} state={state}")
    return answer
