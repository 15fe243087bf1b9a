"""Templates: one environment, the reader's language, filters that say times, sizes and states."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote
from zoneinfo import ZoneInfo

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from jinja2_fragments import render_block
from markupsafe import Markup, escape

from pxeboot import i18n
from webui import transfer
from webui.outcomes import outcome_lines, written_text
from webui.titles import title_text
from webui.words import FILTERS, N_, size_text, translated

FLASH_COOKIE = "pxeboot_flash"


STATES = {
    "pending": N_("pending"),
    "approved": N_("approved"),
    "blocked": N_("blocked"),
    "scheduled": N_("scheduled"),
    "queued": N_("waits for its machine"),
    "booting": N_("booting"),
    "waiting": N_("waits for another job"),
    "running": N_("running"),
    "verifying": N_("verifying"),
    "done": N_("done"),
    "partly": N_("partly failed"),
    "failed": N_("failed"),
    "cancelled": N_("cancelled"),
}
STAGES = {
    "inventory": N_("inventory"),
    "scan": N_("reads its disk"),
    "receive": N_("receives"),
    "write": N_("writes"),
    "verify": N_("reads its disk again"),
    "customise": N_("sets its name"),
    "upload": N_("uploads"),
    "wipe": N_("wipes its disks"),
    "test": N_("is tested"),
    "shell": N_("debug shell is open"),
}
WAYS = {
    "multicast": N_("By multicast."),
    "peers": N_("From neighbours:"),
    "http": N_("From the server:"),
}
ACTIONS = {
    "local": N_("its own disk"),
    "menu": N_("the menu"),
    "agent": N_("its task"),
    "entry": N_("an entry of the menu"),
    "refuse": N_("nothing"),
}


@pass_context
def state_text(context: Context, value: str) -> str:
    """A state as people read it."""
    return translated(context, STATES, value)


@pass_context
def stage_text(context: Context, value: str) -> str:
    """A stage as people read it."""
    return translated(context, STAGES, value)


@pass_context
def way_text(context: Context, value: str) -> str:
    """By which way chunks come, as people read it, before the reason."""
    return translated(context, WAYS, value)


@pass_context
def action_text(context: Context, value: str) -> str:
    """What a machine would boot, as people read it."""
    return translated(context, ACTIONS, value)


@pass_context
def when(context: Context, value: datetime | None, zone: str = "") -> Markup | str:
    """A time of day with its date, in the site's zone (or another), exact on hover; nothing for None."""
    if value is None:
        return ""
    local = value.astimezone(ZoneInfo(zone or context["zone"]))
    exact = escape(value.isoformat(timespec="seconds"))
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(exact, f"{local:%Y-%m-%d %H:%M:%S}")


environment = Environment(
    loader=FileSystemLoader(Path(__file__).resolve().parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    extensions=["jinja2.ext.i18n"],
    trim_blocks=True,
    lstrip_blocks=True,
)
environment.filters.update(
    state_text=state_text,
    stage_text=stage_text,
    way_text=way_text,
    action_text=action_text,
    when=when,
    size=size_text,
    outcome_lines=outcome_lines,
    written_text=written_text,
    title_text=title_text,
)
environment.filters.update(FILTERS)
environment.filters.update(transfer.FILTERS)
# Global, because a block that is rendered alone does not run its template's imports.
_macros = environment.get_template("macros.html").module
environment.globals.update({name: getattr(_macros, name) for name in ("state", "bar", "empty")})


def _context(request: Request, values: dict[str, Any]) -> dict[str, Any]:
    who, csrf = getattr(request.state, "who", None), getattr(request.state, "csrf", "")
    services = request.app.state.services
    language = i18n.choose(
        request.headers.get("accept-language", ""),
        who.language if who else "",
        services.settings.server.language,
    )
    translations = i18n.translations(language)

    def gettext(text: str, **named: Any) -> str:
        translated = translations.gettext(text)
        return Markup(translated) % named if named else translated

    def csrf_field() -> Markup:
        return Markup('<input type="hidden" name="csrf" value="{}">').format(csrf)

    return {
        "_": gettext,
        "gettext": gettext,
        "language": language,
        "zone": services.settings.server.zone,
        "who": who,
        "path": request.url.path,
        "csrf_field": csrf_field,
        "flash": _flash(request),
        **values,
    }


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Render a whole page."""
    text = environment.get_template(template).render(_context(request, values))
    answer = HTMLResponse(text, status_code=status, headers={"Cache-Control": "no-store"})
    if FLASH_COOKIE in request.cookies:
        answer.delete_cookie(FLASH_COOKIE)
    return answer


def live_block(request: Request, template: str, **values: Any) -> str:
    """Render the block `live` of a page alone, for the stream that replaces it."""
    return render_block(environment, template, "live", **_context(request, values))


def translate(request: Request, text: str) -> str:
    """A text in the reader's language."""
    return str(_context(request, {})["_"](text))


def redirect(path: str, flash: str = "", level: str = "done") -> Response:
    """See other (303), with a sentence that the next page shows once."""
    answer = RedirectResponse(path, status_code=303)
    if flash:
        value = quote(json.dumps({"level": level, "text": flash[:800]}))
        answer.set_cookie(FLASH_COOKIE, value, max_age=60, httponly=True, samesite="lax")
    return answer


def _flash(request: Request) -> dict[str, str] | None:
    try:
        value = json.loads(unquote(request.cookies.get(FLASH_COOKIE, "")))
        level = "error" if value["level"] == "error" else "done"
        return {"level": level, "text": str(value["text"])}
    except (ValueError, KeyError, TypeError):
        return None
