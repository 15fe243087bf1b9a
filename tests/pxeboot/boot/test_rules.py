"""What may be said about booting, and what is refused with a remedy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.boot.quoting import ipxe_argument
from pxeboot.boot.rules import (
    ENTRY_KINDS,
    LOCAL_BOOTS,
    BootRules,
    RuleError,
    check_arguments,
    check_entry,
    check_key,
    check_name,
)

rules = st.builds(
    BootRules,
    local_boot=st.sampled_from(["", *LOCAL_BOOTS, "partition:hd0,gpt3", "partition:hd1,msdos12"]),
    default=st.sampled_from(["", "local", "windows", "linux", "menu", "entry:memtest"]),
    menu=st.sampled_from(["", "never", "always"]),
    menu_seconds=st.none() | st.integers(0, 3600),
)


@given(rules)
def test_what_is_said_can_be_kept_and_read(said):
    assert BootRules.parse(said.to_dict()) == said


@given(rules, rules, rules)
def test_the_nearest_level_that_says_something_wins(host, group, site):
    merged = host.over(group.over(site))
    assert merged == host.over(group).over(site)
    for name in ("local_boot", "default", "menu"):
        levels = [getattr(each, name) for each in (host, group, site)]
        assert getattr(merged, name) == next((value for value in levels if value), "")
    assert BootRules().over(host) == host.over(BootRules()) == host


def test_zero_seconds_are_said():
    assert BootRules(menu_seconds=0).over(BootRules(menu_seconds=20)).menu_seconds == 0
    assert BootRules.parse({"menu_seconds": "0", "menu": None, "default": ""}) == BootRules(menu_seconds=0)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"local_boot": "grub"}, "local_boot"),
        ({"local_boot": "partition:sda1"}, "local_boot"),
        ({"local_boot": "partition:hd0,gpt0"}, "local_boot"),
        ({"local_boot": "partition:hd0,gpt1;halt"}, "local_boot"),
        ({"default": "entry:"}, "default"),
        ({"default": "entry:Mem test"}, "default"),
        ({"default": 3}, "default"),
        ({"menu": "sometimes"}, "menu"),
        ({"menu_seconds": -1}, "menu_seconds"),
        ({"menu_seconds": True}, "menu_seconds"),
        ({"menu_seconds": "٣"}, "menu_seconds"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_mistake_names_key_and_remedy(values, key):
    with pytest.raises(RuleError) as caught:
        BootRules.parse(values)
    assert caught.value.key == key
    assert caught.value.remedy.endswith(".")
    assert key in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("linux", {"kernel": "debian/vmlinuz", "initrd": "debian/initrd.gz", "arguments": "quiet a=b,c"}),
        ("linux", {"kernel": "http://10.20.0.1:8080/x/vmlinuz"}),
        ("installer", {"kernel": "d/linux", "initrd": "d/initrd.gz", "preseed": "http://10.20.0.1/p.cfg"}),
        ("iso", {"file": "rescue.iso"}),
        ("efi", {"file": "tools/shell.efi"}),
        ("ipxe", {"url": "http://boot.example.org/menu.ipxe"}),
        ("memtest", {}),
        ("firmware-setup", {}),
    ],
)
def test_entries(kind, params):
    check_entry(kind, params)


@pytest.mark.parametrize(
    ("kind", "params", "firmware", "key"),
    [
        ("floppy", {}, "", "kind"),
        ("memtest", {}, "arm", "firmware"),
        ("efi", {"file": "x.efi"}, "bios", "firmware"),
        ("linux", {}, "", "params.kernel"),
        ("linux", {"kernel": "x", "colour": "red"}, "", "params.colour"),
        ("linux", {"kernel": "../../etc/shadow"}, "", "params.kernel"),
        ("linux", {"kernel": "/etc/shadow"}, "", "params.kernel"),
        ("linux", {"kernel": "-x"}, "", "params.kernel"),
        ("linux", {"kernel": "x", "arguments": "a; reboot"}, "", "params.arguments"),
        ("linux", {"kernel": "x", "arguments": "${net0/mac}"}, "", "params.arguments"),
        ("linux", {"kernel": "x", "arguments": "a\nboot"}, "", "params.arguments"),
        ("iso", {"file": "https://x/y.iso"}, "", "params.file"),
        ("ipxe", {"url": "menu.ipxe"}, "", "params.url"),
        ("ipxe", {"url": "http://x/a b"}, "", "params.url"),
        ("iso", {"file": 3}, "", "params.file"),
    ],
)
def test_entries_that_cannot_be_meant(kind, params, firmware, key):
    with pytest.raises(RuleError) as caught:
        check_entry(kind, params, firmware)
    assert caught.value.key == key


def test_a_command_line_needs_a_password():
    check_entry("shell", {}, protected=True)
    with pytest.raises(RuleError):
        check_entry("shell", {}, protected=False)


def test_keys_and_names():
    for key in ("", "m", "7"):
        check_key(key)
    for key in ("l", "M", "mm", "é", "-"):
        with pytest.raises(RuleError):
            check_key(key)
    for name in ("memtest", "debian-13", "7zip"):
        check_name(name)
    for name in ("", "local", "Mem", "-x", "a b", "a" * 32):
        with pytest.raises(RuleError):
            check_name(name)


def test_every_kind_says_what_it_is():
    assert all(kind.about.endswith(".") for kind in ENTRY_KINDS.values())


@pytest.mark.parametrize("arguments", ["quiet && reboot", "&&", "a &&"])
def test_arguments_do_not_end_the_loaders_command(arguments):
    with pytest.raises(RuleError):
        check_entry("linux", {"kernel": "vmlinuz", "arguments": arguments})


def test_what_may_be_said_can_be_written():
    for arguments in ("--- quiet", "-v", "a=b&c &", "?x ~y *z !w"):
        check_entry("linux", {"kernel": "vmlinuz", "arguments": arguments})
        check_arguments("arguments", arguments)
        assert [ipxe_argument(word) for word in arguments.split()] == arguments.split()
