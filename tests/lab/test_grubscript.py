"""A simulated host reads its boot script as GRUB would."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.lab import grubscript
from pxeboot.lab.errors import LabError

TASK = """# pxeboot: agent for 52:54:00:00:00:01
# Somebody's comment with a ' quote and { brace
echo 'Loading the boot environment'
for try in 1 2 3; do
  if linux '(http,10.0.0.1)/boot/files/vmlinuz' 'pxeboot.url=http://10.0.0.1' pxeboot.token=T0K \\
      'pxeboot.mode=task' "console=ttyS0,115200" 'name=it'\\''s me'; then
    if initrd '(http,10.0.0.1)/boot/files/initrd.img'; then boot; fi
  fi
done
linux /second
"""
MENU = """
set default=local
set timeout=20
menuentry 'Not registered (52:54)' --id title {
  true
}
menuentry "Own disk" --id local --hotkey=l {
  for part in (hd*,gpt*) (hd*,msdos*); do
    if [ -e "$part/x" ]; then regexp --set=1:root '^\\((.*)\\)$' "$part"
    if chainloader "$part/x"; then boot; fi
    fi
  done
  exit
}
menuentry 'Register' --id register-quick --hotkey=r {
  if linux (http,$net_default_server)/k 'pxeboot.mode=register-quick' pxeboot.token=${token}; then boot; fi
}
"""


def test_the_kernel_line_of_a_task_comes_out_as_the_kernel_would_see_it() -> None:
    entry = grubscript.parse(TASK).chosen()
    assert entry is not None
    assert entry.kernel == "(http,10.0.0.1)/boot/files/vmlinuz"
    assert entry.command_line == (
        "pxeboot.url=http://10.0.0.1 pxeboot.token=T0K pxeboot.mode=task console=ttyS0,115200 name=it's me"
    )
    assert entry.initrd == ("(http,10.0.0.1)/boot/files/initrd.img",)
    assert entry.parameters["pxeboot.token"] == "T0K"


def test_a_menu_takes_its_default_by_id_and_offers_the_others() -> None:
    script = grubscript.parse(MENU, {"net_default_server": "10.0.0.1", "token": "abc"})
    chosen = script.chosen()
    assert chosen is not None
    assert (chosen.title, chosen.id, chosen.command_line) == ("Own disk", "local", None)
    register = script.entries[2]
    assert register.kernel == "(http,10.0.0.1)/k"
    assert register.parameters == {"pxeboot.mode": "register-quick", "pxeboot.token": "abc"}


def test_an_entry_may_go_on_with_another_configuration() -> None:
    script = grubscript.parse("menuentry a --id a {\n configfile '(http,10.0.0.1)/b'\n echo no\n}\n")
    assert (script.entries[0].config, script.entries[0].kernel) == ("(http,10.0.0.1)/b", None)


def test_a_menu_without_a_timeout_waits_for_somebody() -> None:
    assert grubscript.parse("menuentry a {\n true\n}\n").chosen() is None
    assert grubscript.parse("set timeout=-1\nmenuentry a {\n true\n}\n").chosen() is None


def test_a_script_that_only_goes_on_to_the_disk_boots_no_kernel() -> None:
    entry = grubscript.parse("echo 'Starting from the local disk'\nexit\n").chosen()
    assert entry is not None
    assert entry.command_line is None


@pytest.mark.parametrize("broken", ["linux 'a", 'linux "a', "menuentry a {", "}"])
def test_what_grub_would_refuse_is_refused(broken: str) -> None:
    with pytest.raises(LabError, match="boot script"):
        grubscript.parse(broken)


@given(st.text(alphabet="ab '\"\\{}$;\n#=", max_size=60))
def test_any_text_is_read_or_refused_by_name(text: str) -> None:
    with contextlib.suppress(LabError):
        grubscript.parse(text)
