"""`pxeboot script`, `file`, `secret` and `customise` as an administrator types them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pxeboot.cli.customise import _put, _use
from pxeboot.errors import Invalid
from tests.pxeboot.cli.conftest import Run


def test_a_printer_script_for_a_room(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "printers.sh"
    file.write_text("#!/bin/sh\necho $1\n")
    said = run("script", "add", "printers", str(file), "--system", "linux", "--seconds", "60")
    assert said.status == 0, said.err
    assert run("script", "show", "printers").out == "#!/bin/sh\necho $1\n"
    assert run("script", "add", "printers", str(file)).status == 5
    assert run("script", "add", "printers", str(file), "--on-error", "continue", "--replace").status == 0
    said = run("customise", "set", "--group", "B204", "--script", "printers {{ host.group }} 'deux mots'",
               "variables.room=204", "windows.locale=fr-FR", "linux.ssh_host_keys=false")  # fmt: skip
    assert said.json == {
        "linux": {"ssh_host_keys": False},
        "windows": {"locale": "fr-FR"},
        "scripts": [{"name": "printers", "arguments": ["{{ host.group }}", "deux mots"]}],
        "variables": {"room": "204"},
    }
    shown = run("customise", "show", "--host", "pc1").out
    lines = {tuple(line.split()) for line in shown.splitlines()}
    assert ("windows.locale", "fr-FR", "group") in lines
    assert ("linux.machine_id", "yes", "shipped") in lines
    assert ("linux.ssh_host_keys", "no", "group") in lines
    assert run("script", "rm", "printers").status == 5
    run("customise", "set", "--group", "B204", "--no-scripts", "windows.locale=")
    assert run("customise", "show", "--group", "B204").json == {
        "linux": {"ssh_host_keys": False},
        "variables": {"room": "204"},
    }
    assert run("script", "rm", "printers").out == "printers: removed\n"


def test_files_and_templates(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "motd"
    file.write_text("Poste {{ host.name }}\n")
    assert run("file", "add", "motd", str(file)).status == 2  # says that --to lacks
    assert run("file", "add", "motd", str(file), "--to", "/etc/motd", "--template").status == 0
    file.write_text("Machine {{ host.name }}\n")
    assert run("file", "add", "motd", str(file), "--replace").status == 0
    run("file", "get", "motd", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_text() == "Machine {{ host.name }}\n"
    assert "/etc/motd" in run("file", "list").out
    assert run("customise", "set", "--host", "pc1", "--file", "motd").json == {"files": [{"name": "motd"}]}
    assert run("file", "rm", "motd").status == 5


def test_secrets_are_set_from_a_file_and_listed_by_name(run: Run, tmp_path: Path) -> None:
    blob = tmp_path / "odj"
    blob.write_bytes("QUJD\0".encode("utf-16"))  # as djoin.exe writes it
    assert run("secret", "set", "odj-pc1", "--file", str(blob)).out == "odj-pc1: set\n"
    said = run("secret", "list")
    assert "odj-pc1" in said.out
    assert "QUJD" not in said.out
    run("customise", "set", "--host", "pc1", "windows.join.blob=odj-{{ host.name }}")
    assert "secret odj-pc1" in run("customise", "show", "--host", "pc1").out
    run("secret", "rm", "odj-pc1")
    shown = run("customise", "show", "--host", "pc1").out
    assert "PROBLEM: There is no secret 'odj-pc1'" in shown


def test_mistakes_are_one_line_and_an_exit_status(run: Run, tmp_path: Path) -> None:
    for words, status, says in (
        (("customise", "set", "a=b"), 2, "one of --image, --group and --host"),
        (("customise", "set", "--host", "pc1", "hostname"), 2, "has no value"),
        (("customise", "set", "--host", "pc1", "hostnme=true"), 2, "hostnme"),
        (("customise", "set", "--host", "pc1", "--script", "none"), 2, "There is no script"),
        (("script", "add", "x", str(tmp_path / "none")), 1, "No such file"),
        (("secret", "rm", "none"), 4, "There is no secret"),
    ):
        said = run(*words)
        assert said.status == status, said
        assert says in said.err


def test_words_and_braces() -> None:
    assert _use("one 'two words' {{ vars.room }}-x") == {
        "name": "one",
        "arguments": ["two words", "{{ vars.room }}-x"],
    }
    with pytest.raises(Invalid):
        _use("'unfinished")
    change: dict[str, object] = {}
    for word in ("a.b=true", "a.c=", "variables.x=true", "d=x=y"):
        _put(change, word)
    assert change == {"a": {"b": True, "c": None}, "variables": {"x": "true"}, "d": "x=y"}
