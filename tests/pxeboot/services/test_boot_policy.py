"""The facts that a boot decision is made from: rules of host and group, entries, and what `explain` tells."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pxeboot.boot.decide import Client
from pxeboot.db.models import BootEntry
from pxeboot.events import Record
from pxeboot.services import boots, explain, groups, journal, lookup
from pxeboot.services.entry_passwords import sealed
from tests.plane import NOW, Plane, mac

PC = Client(mac(1), "uefi-x64", "grub")


def say(plane: Plane, what: str, name: str, **rules: Any) -> None:
    with plane.write() as session:
        row = lookup.host(session, name) if what == "host" else lookup.group(session, name)
        row.boot = rules
        session.add(row)


def add(plane: Plane, name: str, group: str = "", **more: Any) -> None:
    with plane.write() as session:
        group_id = lookup.group(session, group).id if group else None
        more.setdefault("kind", "memtest")
        session.add(BootEntry(name=name, title=name.title(), group_id=group_id, **more))


def decide(plane: Plane) -> Any:
    with plane.read() as session:
        return boots.preview(session, PC, settings=plane.settings, now=NOW)


def test_the_hosts_word_is_over_its_groups(plane: Plane) -> None:
    plane.room(1)
    say(plane, "group", "B204", default="windows", local_boot="search")
    decision = decide(plane)
    assert (decision.local, "group B204 says default = windows" in decision.reason) == ("windows", True)
    say(plane, "host", "pc1", default="local")
    assert decide(plane).local == "search"


def test_rules_of_another_release_do_not_keep_a_machine_from_booting(plane: Plane) -> None:
    plane.room(1)
    say(plane, "group", "B204", default="dance", colour="red")
    assert (decide(plane).action, decide(plane).local) == ("local", "auto")


def test_a_machine_sees_the_entries_of_everybody_and_of_its_group_in_order(plane: Plane) -> None:
    plane.room(1)
    with plane.write() as session:
        groups.create_group(session, name="B205", name_template="B205-##")
    add(plane, "second", position=20)
    add(plane, "first", "B204", position=10)
    add(plane, "theirs", "B205", position=5)
    add(plane, "off", enabled=False)
    add(plane, "secret", position=30, password_hash=sealed("open-sesame"))
    say(plane, "group", "B204", menu="always")
    entries = decide(plane).entries
    assert [entry.name for entry in entries] == ["first", "second", "secret"]
    assert [entry.protected for entry in entries] == [False, False, True]
    assert entries[2].grub_password.startswith("grub.pbkdf2.sha512.")
    with plane.read() as session:
        stranger = boots.subject(session, mac(9))
    assert [entry.name for entry in stranger.entries] == ["second", "secret"]


def test_explain_tells_rules_menu_and_the_last_of_each_plane(plane: Plane) -> None:
    plane.room(1)
    add(plane, "memtest")
    say(plane, "group", "B204", menu="always", default="linux", menu_seconds=5)
    with plane.write() as session:
        journal.store(
            session,
            [
                Record("dhcp", "dhcp.offered", "It was offered 10.20.0.101.", NOW, mac=mac(1)),
                Record("dhcp", "dhcp.acknowledged", "It was given 10.20.0.101.", NOW, mac=mac(1)),
                Record("tftp", "tftp.sent", "shimx64.efi was sent.", NOW, mac=mac(1)),
            ],
        )
    with plane.read() as session:
        answer = explain.explain(session, "pc1", settings=plane.settings, now=NOW)
    text = "\n".join(answer.sentences)
    assert answer.action == "menu"
    assert "The menu takes linux after 5 s; extra entries: memtest." in text
    assert "default = linux (group B204)" in text
    assert "local_boot = auto (built in)" in text
    assert "Last of dhcp: 2026-11-23 12:00:00 UTC It was given 10.20.0.101." in text
    assert "Last of tftp" in text
    assert [event.plane for event in answer.last_by_plane] == ["dhcp", "tftp"]


def test_the_agent_is_told_what_the_loader_was_told(plane: Plane) -> None:
    """Blocked between its boot script and its check-in: the same decision says no."""
    plane.room(1)
    plane.start(kind="inventory", group="B204")
    token = plane.boot(1).token
    with plane.write() as session:
        row = lookup.host(session, "pc1")
        row.state = type(row.state).BLOCKED
        session.add(row)
    assert plane.checkin(1, token, NOW + timedelta(seconds=20)).task is None
