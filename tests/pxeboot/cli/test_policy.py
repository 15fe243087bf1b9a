"""`pxeboot host set`, `group set` and `menu` as an administrator types them."""

from __future__ import annotations

from pathlib import Path

from tests.pxeboot.cli.conftest import Run


def test_a_hosts_rules_reservation_and_options_are_set_and_shown(run: Run) -> None:
    run("group", "set", "B204", "--boot-default", "linux", "--option", "domain-name=lab.example")
    said = run(
        "host", "set", "pc1", "--boot-default", "windows", "--local-boot", "sanboot", "--menu", "always",
        "--menu-seconds", "10", "--address", "10.20.0.31", "--option", "ntp-servers=10.0.0.1,10.0.0.2",
    )  # fmt: skip
    assert said.status == 0, said.err
    rows = {tuple(line.split()) for line in said.out.splitlines()}
    assert ("default", "windows", "host") in rows
    assert ("menu_seconds", "10", "host") in rows
    assert ("address", "10.20.0.31", "host") in rows
    assert "10.0.0.1, 10.0.0.2" in said.out
    host = run(
        "--json", "host", "set", "pc1", "--boot-default", "", "--menu-seconds", "", "--option", "42="
    ).json
    assert host["boot"] == {"local_boot": "sanboot", "menu": "always"}
    assert host["effective_boot"]["default"] == {"value": "linux", "origin": "group"}
    assert host["dhcp_options"] == {}
    group = run("--json", "group", "show", "B204").json
    assert (group["boot"], group["dhcp_options"]) == ({"default": "linux"}, {"domain-name": "lab.example"})


def test_mistakes_are_one_line_and_an_exit_status(run: Run) -> None:
    run("host", "set", "pc1", "--address", "10.20.0.31")
    for words, status, says in (
        (("host", "set", "pc9", "--menu", "never"), 4, "Did you mean pc"),
        (("host", "set", "pc2", "--address", "10.20.0.31"), 5, "reserved for pc1 already"),
        (("host", "set", "pc2", "--boot-default", "wndows"), 2, "local, windows, linux, menu"),
        (("host", "set", "pc2", "--menu-seconds", "soon"), 2, "--menu-seconds soon"),
        (("host", "set", "pc2", "--option", "ntp-servers"), 2, "write it like ntp-servers=10.0.0.1"),
        (("host", "set", "pc2", "--option", "zzz=1"), 2, "use its number"),
        (("group", "set", "B204", "--menu", "perhaps"), 2, "'never'"),
        (("menu", "remove", "nothing"), 4, "There is no boot entry"),
    ):
        said = run(*words)
        assert (said.status, said.out) == (status, ""), said
        assert says in said.err
        assert said.err.count("\n") == 1, "one line"


def test_entries_are_added_changed_protected_and_removed(run: Run) -> None:
    added = run(
        "menu", "add", "rescue", "Rescue system", "--kind", "linux", "--param", "kernel=rescue/vmlinuz",
        "--param", "arguments=quiet root=/dev/sda1", "--group", "B204", "--key", "s",
    )  # fmt: skip
    assert added.status == 0, added.err
    assert "quiet root=/dev/sda1" in added.out
    run("menu", "add", "memtest", "Memory test", "--kind", "memtest", "--position", "1", "--off")
    lines = run("menu", "list").out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["memtest", "rescue"]
    assert lines[1].split()[-1] == "off"
    menu = run("menu", "preview", "--group", "B204")
    assert "Rescue system" in menu.out
    assert "Idle machines do not show it" in menu.out
    changed = run(
        "--json", "menu", "change", "rescue", "--param", "initrd=rescue/initrd.img", "--param", "arguments=",
        "--group", "", "--key", "",
    ).json  # fmt: skip
    assert changed["params"] == {"kernel": "rescue/vmlinuz", "initrd": "rescue/initrd.img"}
    assert (changed["group"], changed["key"]) == (None, "")
    assert run("menu", "password", "rescue", typed="Geheim-1234\n").status == 0
    assert run("--json", "menu", "show", "rescue").json["protected"] is True
    assert run("menu", "password", "rescue", typed="court\n").status == 2
    run("menu", "password", "rescue", "--clear")
    assert run("--json", "menu", "show", "rescue").json["protected"] is False
    shell = ("menu", "add", "shell", "Loader's command line", "--kind", "shell")
    assert run(*shell).status == 2
    assert run(*shell, "--password", typed="Geheim-1234\n").status == 0
    assert run("menu", "remove", "rescue", "memtest", "shell").status == 0
    assert run("--json", "menu", "list").json == []


def test_a_room_is_imported_after_a_dry_run_and_exported(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "room.csv"
    file.write_text("name,macs,group,address\npc1,,,10.20.0.31\nB204-09,52:54:00:00:00:09,B204,10.20.0.39\n")
    planned = run("host", "import", str(file), "--dry-run")
    assert "Would be 1 new, 1 changed, 0 the same." in planned.out
    assert run("host", "show", "B204-09").status == 4
    assert "Done: 1 new" in run("host", "import", str(file)).out
    listed = run("host", "export", "--group", "B204").out.splitlines()
    assert listed[1] == "B204-09,52:54:00:00:00:09,B204,approved,10.20.0.39,,"
    assert len(listed) == 4
    out = tmp_path / "out.csv"
    run("host", "export", "--file", str(out))
    assert "0 new, 0 changed, 3 the same" in run("host", "import", str(out)).out
    file.write_text("name,macs\nx,52:54\ny,52:55\n")
    wrong = run("host", "import", str(file))
    assert wrong.status == 2
    assert "nothing was changed" in wrong.err
    assert "line 2: '52:54' is not a MAC address" in wrong.err
    assert "line 3:" in wrong.err
    assert run("host", "import", str(tmp_path / "none.csv")).status == 1
