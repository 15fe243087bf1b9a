"""What the boot menu of a group's machines will look like, as text: the decision and lines loaders get."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from sqlmodel import Session

from pxeboot.boot.decide import BootDecision, Client, HostFacts, decide
from pxeboot.boot.quoting import one_line
from pxeboot.boot.rules import BootRules
from pxeboot.boot.scripts import MenuItem, menu_items
from pxeboot.boot.texts import menu_texts
from pxeboot.i18n import translations
from pxeboot.services import boot_entries, boot_rules, boots, lookup
from pxeboot.services.views import View
from pxeboot.settings import Settings


class MenuPreview(View):
    """A menu as text, and whether idle machines show it."""

    text: str
    shown: bool
    reason: str  # the decision's sentence about such a machine


def menu_preview(
    session: Session, group: str | None, firmware: Literal["bios", "uefi"], settings: Settings
) -> MenuPreview:
    """The menu of an approved machine of this group (None: of none) without a task. NotFound(group)."""
    row = lookup.group(session, group) if group else None
    entries = boot_entries.menu_entries(session, row.id if row else None)
    facts = HostFacts("such a machine", "approved", group or "", group_rules=boot_rules.own_rules(row))
    client = Client("", "bios" if firmware == "bios" else "uefi-x64")
    policy, now = boots.policy(settings, entries), datetime.now(UTC)
    really = decide(facts, None, None, client, now, policy)
    shown = replace(facts, rules=BootRules(menu="always"))
    menu = decide(shown, None, None, client, now, policy)
    language = settings.server.language
    text = "\n".join(_lines(menu, language))
    return MenuPreview(text=text, shown=really.action == "menu", reason=really.reason)


def _lines(menu: BootDecision, language: str) -> Iterator[str]:
    _ = translations(language).gettext
    texts = menu_texts(_)
    password = one_line(_("password"))
    items = menu_items(menu, texts)
    default = next((item for item in items if item.id == _item_id(menu.default)), items[0])
    listed = [(item, one_line(item.text)) for item in items if item.text]
    hidden = [
        (item, f"{one_line(_('not listed'))}: {one_line(item.entry.title)}")
        for item in items
        if not item.text and item.entry is not None
    ]
    width = max(len(text) for _item, text in (*listed, *hidden))
    yield one_line(texts.title_known)
    yield ""
    for item, text in listed:
        yield ("> " if item is default else "  ") + _line(item, f"{text:<{width}}", password)
    yield ""
    if menu.menu_seconds:
        yield one_line(_("after %(n)s seconds: %(what)s") % {"n": menu.menu_seconds, "what": default.text})
    else:
        yield one_line(_("waits until somebody chooses"))
    for item, text in hidden:
        yield "  " + _line(item, f"{text:<{width}}", password)


def _item_id(default: str) -> str:
    return default if default in ("local", "windows", "linux") else f"entry-{default}"


def _line(item: MenuItem, text: str, password: str) -> str:
    key = f"[{item.key}]" if item.key else ""
    protected = password if item.entry is not None and item.entry.protected else ""
    return f"{text}  {key:<3} {protected}".rstrip()
