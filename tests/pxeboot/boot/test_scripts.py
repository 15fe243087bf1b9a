"""What the loaders are told: golden texts, and values that try to become commands.

After a change that is meant, `UPDATE_GOLDEN=1 pytest tests/pxeboot/boot` rewrites the golden files (and
fails, so that nobody forgets to look at the difference). Each of them was seen working on firmware:
docs/booting.md.
"""

import contextlib
import os
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.boot import BootDecision
from pxeboot.boot.rules import MenuEntry
from pxeboot.boot.scripts import (
    MenuTexts,
    ScriptContext,
    ScriptError,
    grub_config,
    grub_local,
    grub_quote,
    grub_stub,
    ipxe_autoexec,
    ipxe_refusal,
    ipxe_script,
    ipxe_text,
    ipxe_word,
    menu_items,
    menu_texts,
    pxelinux_config,
)

GOLDEN = Path(__file__).parent / "golden"
CONTEXT = ScriptContext("http://10.20.0.1", "52:54:00:12:34:01", token="T" * 43, key="ab" * 32)
BIOS = replace(CONTEXT, firmware="bios")
HASH = "grub.pbkdf2.sha512.10000." + "AB" * 64 + "." + "CD" * 64


def entry(kind, name="", **more):
    return MenuEntry(name=name or kind, title=f"Start {kind}'s thing", kind=kind, **more)


FILES = {"kernel": "debian/linux", "initrd": "debian/initrd.gz"}
ENTRIES = (
    entry("linux", key="d", params={**FILES, "arguments": "quiet root=/dev/nfs"}),
    entry("linux", "bare", params={"kernel": "http://10.20.0.9:8080/vmlinuz"}),
    entry("installer", params={**FILES, "preseed": "http://10.20.0.1/answers.cfg"}, protected=True,
          grub_password=HASH),
    entry("iso", params={"file": "rescue.iso"}),
    entry("efi", params={"file": "tools/shell.efi"}, firmware="uefi"),
    entry("ipxe", params={"url": "http://boot.example.org/menu.ipxe"}),
    entry("memtest", key="m"),
    entry("shell", key="s", hidden=True, protected=True, grub_password=HASH),
    entry("firmware-setup", firmware="uefi"),
    entry("reboot"),
    entry("poweroff", key="0"),
)  # fmt: skip
FULL = {"systems": True, "entries": ENTRIES, "default": "windows"}


def decision(action, reason="A reason, with an apostrophe's help.", **more):
    more.setdefault("mode", "task" if action == "agent" else None)
    more.setdefault("registers", action == "menu" and "systems" not in more)
    return BootDecision(action, reason, datetime(2026, 11, 23, tzinfo=UTC), menu_seconds=20, **more)


def compare(texts):
    if os.environ.get("UPDATE_GOLDEN"):
        for name, text in texts.items():
            (GOLDEN / name).write_text(text)
        pytest.fail(f"wrote {', '.join(texts)}")
    for name, text in texts.items():
        assert text == (GOLDEN / name).read_text()


@pytest.mark.parametrize("action", ["local", "menu", "agent", "refuse"])
def test_golden(action):
    compare(
        {
            f"{action}.grub": grub_config(decision(action), CONTEXT),
            f"{action}.ipxe": ipxe_script(decision(action), BIOS),
        }
    )


def test_golden_menus_of_everything():
    full = decision("menu", **FULL)
    compare(
        {
            "full-uefi.grub": grub_config(full, CONTEXT),
            "full-bios.grub": grub_config(full, BIOS),
            "full-uefi.ipxe": ipxe_script(full, CONTEXT),
            "full-bios.ipxe": ipxe_script(full, BIOS),
        }
    )


@pytest.mark.parametrize("how", ["windows", "linux", "partition:hd0,gpt3"])
def test_golden_ways_to_the_own_disk(how):
    name = how.partition(":")[0]
    compare(
        {
            f"{name}-uefi.grub": grub_local(how, CONTEXT),
            f"{name}-bios.grub": grub_local(how, BIOS),
            f"{name}-uefi.ipxe": ipxe_script(decision("local", local=how), CONTEXT),
            f"{name}-bios.ipxe": ipxe_script(decision("local", local=how), BIOS),
        }
    )


def test_golden_small_ones():
    chosen = decision("entry", entry=ENTRIES[2])
    quarantined = decision("local", message="Ask in room B 001; don't wait.")
    compare(
        {
            "stub.grub": grub_stub("http://10.20.0.1:8080"),
            "stub-mac.grub": grub_stub("http://10.20.0.1", mac="52:54:00:12:34:01"),
            "firmware-setup.grub": grub_local("firmware-setup", CONTEXT),
            "chosen.ipxe": ipxe_script(chosen, BIOS, chosen=True),
            "entry.grub": grub_config(decision("entry", entry=ENTRIES[0]), CONTEXT),
            "entry.ipxe": ipxe_script(decision("entry", entry=ENTRIES[0]), BIOS),
            "message.grub": grub_config(quarantined, CONTEXT),
            "message.ipxe": ipxe_script(quarantined, BIOS),
            "refusal.ipxe": ipxe_refusal("The password is wrong; don't guess.", BIOS),
            "autoexec.ipxe": ipxe_autoexec("http://10.20.0.1:8080"),
            "pxelinux.cfg": pxelinux_config("http://10.20.0.1:8080"),
            "pxelinux-mac.cfg": pxelinux_config("http://10.20.0.1", "52:54:00:12:34:01"),
        }
    )


def test_local_boot_by_the_firmware():
    for context in (CONTEXT, BIOS):
        assert "chainloader" not in grub_config(decision("local", local="firmware"), context)
        assert "sanboot" not in ipxe_script(decision("local", local="firmware"), context)


def test_menus_that_wait_for_ever():
    patient = replace(decision("menu"), menu_seconds=0)
    assert "set timeout=-1" in grub_config(patient, CONTEXT)
    assert "--timeout" not in ipxe_script(patient, BIOS).partition("choose")[2].partition("\n")[0]


@pytest.mark.parametrize("context", [CONTEXT, BIOS], ids=["uefi", "bios"])
def test_the_two_menus_act_alike(context):
    """The same names in the same order under the same keys, with the same default and time-out."""
    full = decision("menu", **FULL)
    grub = grub_config(full, context)
    ipxe = ipxe_script(full, context)
    lines = re.findall(r"^menuentry ('.*') --id (\S+)(?: --hotkey=(\S+))? (\S.*) \{$", grub, re.MULTILINE)[1:]
    items = re.findall(r"^item(?: --default)?(?: --key (\S+))? (\S+) (.*)$", ipxe, re.MULTILINE)
    assert [(name, key) for _text, name, key, _who in lines] == [(name, key) for key, name, _text in items]
    assert len(items) == len(ENTRIES) + 3
    assert re.search(r"^set default=windows$", grub, re.MULTILINE)
    assert "choose --default windows --timeout 20000 " in ipxe
    who = {name: who for _text, name, _key, who in lines}
    assert {name for name, value in who.items() if value != "--unrestricted"} == {
        "entry-installer",
        "entry-shell",
    }
    assert who["entry-installer"] == "--users installer"
    # A hidden entry is an empty line at the end, in both.
    assert (lines[-1][0], lines[-1][1]) == ("' '", "entry-shell")
    assert items[-1][1:] == ("entry-shell", "")
    # What a password protects is not in iPXE's script, which anybody on the network could read.
    assert "answers.cfg" not in ipxe
    assert "answers.cfg" in grub


def test_every_label_is_there_once():
    for full in (decision("menu", **FULL), decision("menu", entries=ENTRIES)):
        for context in (CONTEXT, BIOS):
            script = ipxe_script(full, context)
            labels = re.findall(r"^:(\S+)$", script, re.MULTILINE)
            assert len(labels) == len(set(labels))
            jumps = set(re.findall(r"\bgoto (\S+)", script)) - {"${choice}"}
            assert jumps <= set(labels)
            assert {item.id for item in menu_items(full, MenuTexts())} <= set(labels)


def test_nobody_edits_entries_or_gets_a_command_line():
    for menu in (decision("menu"), decision("menu", **FULL)):
        script = grub_config(menu, CONTEXT)
        assert "set superusers=nobody" in script
        assert "password_pbkdf2 nobody" not in script
        for line in script.splitlines():
            if line.startswith("menuentry "):
                assert line.endswith((" --unrestricted {", "--users installer {", "--users shell {"))


@pytest.mark.parametrize("bad", ["a b", "a;b", "$x", "'", "a\nb"])
def test_an_entry_whose_name_could_be_a_command_is_refused(bad):
    evil = decision(
        "menu", systems=True, entries=(entry("memtest", "x", key="m"), replace(ENTRIES[6], name=bad))
    )
    for render in (grub_config, ipxe_script):
        with pytest.raises(ScriptError):
            render(evil, CONTEXT)


@pytest.mark.parametrize("value", ["a b", "a\nboot", "${net0/mac}", "a;b", "#x", "é"])
def test_an_entry_with_a_file_that_could_be_a_command(value):
    """The rules refuse such names; should one get through, iPXE's script says no and GRUB's is one word."""
    evil = decision("entry", entry=entry("efi", params={"file": f"http://x/{value}"}))
    plain = decision("entry", entry=entry("efi", params={"file": "http://x/y"}))
    with contextlib.suppress(ScriptError):
        lines = ipxe_script(evil, CONTEXT).splitlines()
        assert len(lines) == len(ipxe_script(plain, CONTEXT).splitlines())
        assert value in ("a;b", "#x")
    assert grub_config(evil, CONTEXT).count("\n") == grub_config(plain, CONTEXT).count("\n")


def test_consoles_get_plain_ascii():
    """Seen: iPXE of 2019 shows UTF-8 as line drawing, EDK2's serial console swallows it."""
    context = ScriptContext(
        "http://10.20.0.1", "m", token="t", key="k", texts=MenuTexts(local="Démarrer l’œuvre 漢\t!")
    )
    for script in (grub_config(decision("menu"), context), ipxe_script(decision("menu"), context)):
        assert script.isascii()
        assert "oeuvre ? !" in script
    assert "item --default --key l local Demarrer l'oeuvre ? !" in ipxe_script(decision("menu"), context)


def test_both_menus_offer_the_same_in_the_same_order():
    def places(script):
        texts = CONTEXT.texts
        return [script.index(text + end) for text, end in (
            (texts.title, " "), (texts.local, ""), (texts.register_quick, ""), (texts.register_full, ""),
        )]  # fmt: skip

    for script in (grub_config(decision("menu"), CONTEXT), ipxe_script(decision("menu"), BIOS)):
        assert places(script) == sorted(places(script))


def test_texts_are_translated():
    texts = menu_texts(lambda text: f"<{text}>")
    assert all(
        getattr(texts, name) == f"<{getattr(MenuTexts(), name)}>" for name in MenuTexts.__dataclass_fields__
    )


@pytest.mark.parametrize("field", ["token", "key", "mac", "language", "base_url"])
@pytest.mark.parametrize("value", ["a b", "a'b", "a\nboot", "${net0/mac}", "a;b", "$(x)", "é"])
def test_a_value_that_could_be_a_command_is_refused(field, value):
    good = {"base_url": "http://10.20.0.1", "mac": "m", "token": "t", "key": "k"}
    context = ScriptContext(**good | {field: value})
    for render in (grub_config, ipxe_script):
        with pytest.raises(ScriptError):
            render(decision("agent"), context)


def test_the_agent_needs_a_token():
    with pytest.raises(ScriptError):
        grub_config(decision("agent"), ScriptContext("http://10.20.0.1", "m"))


EVIL = [
    "'; halt; '",
    "$root",
    "${cls}",
    "a || exit",
    "a && boot",
    "x ; reboot",
    "# no",
    "-n",
    "\nboot",
    "\\'",
    '"',
    "\x1b[2J",
]


@pytest.mark.parametrize("reason", EVIL)
def test_a_reason_stays_one_line_of_text(reason):
    plain = grub_config(decision("refuse", "."), CONTEXT).count("\n")
    assert grub_config(decision("refuse", reason), CONTEXT).count("\n") == plain
    lines = ipxe_script(decision("refuse", reason), CONTEXT).splitlines()
    assert len(lines) == len(ipxe_script(decision("refuse", "."), CONTEXT).splitlines())
    assert "${" not in "".join(lines)


@given(st.text(max_size=60))
def test_ipxe_text(text):
    said = ipxe_text(text)
    assert said.isprintable()
    assert said.isascii()
    words = said.split(" ")
    assert not {"||", "&&", ";"} & set(words)
    assert not any(word.startswith("#") for word in words)
    assert "${" not in said


@given(st.text(max_size=60))
def test_grub_quote(text):
    quoted = grub_quote(text)
    assert quoted.isprintable()
    # Quoted runs without quotes in them, joined by escaped quotes: nothing else can follow in GRUB's lexer.
    assert re.fullmatch(r"'[^']*'(\\''[^']*')*", quoted)


@pytest.mark.parametrize("word", ["", "a b", "#x", "-x", "${x}", "||", ";", "é", "a\tb"])
def test_not_an_ipxe_word(word):
    with pytest.raises(ScriptError):
        ipxe_word(word)


@pytest.mark.skipif(shutil.which("grub-script-check") is None, reason="needs grub-script-check")
@pytest.mark.parametrize("reason", ["A reason.", *EVIL])
def test_grub_can_parse_it(reason, tmp_path):
    scripts = [grub_stub("http://10.20.0.1"), grub_stub("http://10.20.0.1", mac="52:54:00:12:34:01")]
    evil = tuple(replace(each, title=reason) for each in ENTRIES)
    for context in (CONTEXT, BIOS):
        scripts += [grub_config(decision(a, reason), context) for a in ("local", "menu", "agent", "refuse")]
        scripts += [grub_config(decision("menu", reason, **FULL | {"entries": evil}), context)]
        scripts += [grub_config(decision("local", message=reason), context)]
        scripts += [grub_config(decision("entry", entry=each), context) for each in evil]
        scripts += [grub_local(how, context) for how in ("auto", "search", "windows", "linux", "firmware")]
        scripts += [grub_local(how, context) for how in ("partition:hd0,msdos2", "firmware-setup")]
    for script in scripts:
        (tmp_path / "grub.cfg").write_text(script)
        subprocess.run(["grub-script-check", tmp_path / "grub.cfg"], check=True)


def test_arguments_may_begin_with_hyphens_as_installers_have_them():
    installer = entry("installer", params={**FILES, "arguments": "auto=true --- quiet"})
    script = ipxe_script(decision("entry", entry=installer), BIOS)
    assert "auto=true --- quiet && initrd" in script  # iPXE takes nothing after the URL for an option
    assert "'---' 'quiet'" in grub_config(decision("entry", entry=installer), CONTEXT)
    words = replace(BIOS, kernel_arguments="quiet -- verbose")
    assert "quiet -- verbose && initrd" in ipxe_script(decision("agent"), words)


def test_grub_takes_no_title_and_no_message_for_an_option():
    tools = MenuEntry(name="tools", title="– Tools –", kind="memtest", key="t")
    menu = grub_config(decision("menu", systems=True, entries=(tools,)), CONTEXT)
    assert "menuentry ' - Tools -' --id entry-tools" in menu
    alone = grub_config(decision("local", message="--- Ask in B 001 ---"), CONTEXT)
    assert "echo ' --- Ask in B 001 ---'" in alone
