"""What the section "Boot" of a host's or group's page needs: rules with their origin, and the form."""

from __future__ import annotations

from typing import Any

from sqlmodel import Session

from pxeboot.adapters.container import Services
from pxeboot.services import boot_entries, boot_rules, lookup
from pxeboot.services.dhcp_settings import option_text
from pxeboot.services.present import entry_views
from pxeboot.services.views import GroupView, HostView


def policy_values(
    session: Session, these: Services, thing: HostView | GroupView, form: dict[str, str] | None = None
) -> dict[str, Any]:
    """`rules`, `entries` that may be the default, and `form` as sent (None: as it is kept)."""
    is_host = isinstance(thing, HostView)
    row = lookup.host(session, thing.name) if is_host else lookup.group(session, thing.name)
    group = thing.group if isinstance(thing, HostView) else thing.name
    room = lookup.group(session, group) if group else None
    return {
        "rules": boot_rules.effective(session, row, these.settings),
        "entries": entry_views(session, boot_entries.seen_by(session, room.id if room else None)),
        "form": form or _kept(thing),
    }


def _kept(thing: HostView | GroupView) -> dict[str, str]:
    lines = [f"{name} = {option_text(value)}" for name, value in thing.dhcp_options.items()]
    form = {key: str(thing.boot.get(key, "")) for key in boot_rules.KEYS}
    form["dhcp_options"] = "\n".join(lines)
    if isinstance(thing, HostView):
        form["reserved_address"] = thing.reserved_address
    return form
