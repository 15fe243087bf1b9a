"""Boot rules of hosts and groups: checked when they are set, and laid over one another to be shown."""

from __future__ import annotations

from collections.abc import Mapping

from sqlmodel import Session

from pxeboot.boot.rules import BootRules, RuleError
from pxeboot.db.models import Group, Host
from pxeboot.errors import Invalid, NotFound
from pxeboot.services import lookup
from pxeboot.services.views import RuleView
from pxeboot.settings import Settings

KEYS = ("default", "local_boot", "menu", "menu_seconds")
BUILT_IN = BootRules(default="local", local_boot="auto", menu="never", menu_seconds=20)


def site_rules(settings: Settings) -> BootRules:
    """What the settings file says, and where it says nothing what we ship."""
    said = {key: getattr(settings.boot, key, None) for key in KEYS}
    return BootRules.parse(said).over(BUILT_IN)


def own_rules(row: Host | Group | None) -> BootRules:
    """What a host or group says itself. Rules that this release no longer knows say nothing."""
    try:
        return BootRules.parse(row.boot) if row is not None else BootRules()
    except RuleError:
        return BootRules()


def effective(session: Session, row: Host | Group, settings: Settings) -> dict[str, RuleView]:
    """The rules that hold for a host, or for a group's hosts that say nothing: value and origin by key."""
    levels: list[tuple[str, BootRules]] = [("site", site_rules(settings))]
    if isinstance(row, Host):
        group = session.get(Group, row.group_id) if row.group_id else None
        levels = [("host", own_rules(row)), ("group", own_rules(group)), *levels]
    else:
        levels = [("group", own_rules(row)), *levels]
    said = [(origin, rules.to_dict()) for origin, rules in levels]
    found = {
        key: next(
            RuleView.model_validate({"value": rules[key], "origin": origin})
            for origin, rules in said
            if key in rules
        )
        for key in KEYS
    }
    spoken = settings.boot.menu or any("menu" in rules for origin, rules in said if origin != "site")
    if found["default"].value == "menu" and not spoken:
        found["menu"] = RuleView(value="always", origin=found["default"].origin)
    return found


def change(session: Session, row: Host | Group, wanted: Mapping[str, object] | None) -> str:
    """Set the rules that are given; None or "" inherits, no mapping at all inherits everything.

    Returns what was changed, for the journal; "" for nothing. Invalid with the field and the remedy.
    """
    merged = {} if wanted is None else {**row.boot, **wanted}
    try:
        rules = BootRules.parse(merged)
    except RuleError as error:
        raise refused(error, "boot.") from error
    if wanted and wanted.get("default"):
        _check_default(session, row, rules.default)
    before, row.boot = row.boot, rules.to_dict()
    changed = [key for key in KEYS if before.get(key) != row.boot.get(key)]
    return ", ".join(f"boot {key} {row.boot.get(key, 'inherited')}" for key in changed)


def refused(error: RuleError, prefix: str = "") -> Invalid:
    """A rule's mistake as an error of the API: sentence and field."""
    return Invalid(str(error), field=f"{prefix}{error.key}")


def _check_default(session: Session, row: Host | Group, default: str) -> None:
    kind, _, name = default.partition(":")
    if kind != "entry":
        return
    group_id = row.group_id if isinstance(row, Host) else row.id
    try:
        entry = lookup.entry(session, name)
    except NotFound as error:
        raise Invalid(error.sentence, field="boot.default") from error
    if entry.name != name:  # found by its number
        raise Invalid(f"The entry is named {entry.name}; write entry:{entry.name}.", field="boot.default")
    if entry.group_id not in (None, group_id):
        raise Invalid(
            f"The boot entry {entry.name} is in another group's menu, so it cannot be the default here.",
            field="boot.default",
        )
