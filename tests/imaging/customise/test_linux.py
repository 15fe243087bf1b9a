"""The text of /etc/hosts, and names that are none. (Real disks: test_disks.py.)"""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.customise import rename_in_hosts, set_hostname
from imaging.errors import CustomiseError


def test_debians_hosts_file() -> None:
    text = "127.0.0.1\tlocalhost\n127.0.1.1\t{0}.lab.example {0}\n\n# IPv6\n::1\tlocalhost ip6-localhost\n"
    before, after = text.format("reference"), text.format("pc07")
    assert rename_in_hosts(before, "reference", "pc07") == after
    assert rename_in_hosts(after, "pc07", "pc07") == after


def test_a_line_that_names_another_machine_gets_the_new_name() -> None:
    assert (
        rename_in_hosts("127.0.1.1 somebody # set by hand\n", "reference", "pc07")
        == "127.0.1.1\tpc07 # set by hand\n"
    )


def test_other_addresses_and_comments_are_left_alone() -> None:
    text = "10.0.0.5 reference\n# 127.0.1.1 reference\n127.0.0.1 localhost.localdomain localhost\n"
    assert rename_in_hosts(text, "reference", "pc07") == text


def test_the_old_name_on_the_loopback_line_is_replaced_too() -> None:
    assert (
        rename_in_hosts("127.0.0.1 localhost reference\n", "reference", "pc07")
        == "127.0.0.1\tlocalhost pc07\n"
    )


@given(st.text(max_size=60), st.sampled_from(["", "reference", "localhost", "a.b"]))
def test_any_text_keeps_its_other_lines(text: str, old: str) -> None:
    once = rename_in_hosts(text, old, "pc07")
    assert len(once.splitlines()) >= len(text.splitlines()) or not text
    assert rename_in_hosts(once, "pc07", "pc07") == once


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "a_b", "a b", "a\nb", "a..b", "é", "x" * 64, "../etc", "a/b"]
)
def test_names_that_are_none_are_refused_before_the_disk_is_opened(name: str, tmp_path: Path) -> None:
    with pytest.raises(CustomiseError, match="RFC 1123"):
        set_hostname(tmp_path / "nothing", name)


@pytest.mark.disk
def test_mounts_are_kept_private_where_it_can_be_done_and_a_chroot_is_no_obstacle(tmp_path: Path) -> None:
    program = (
        "import os, sys; from imaging.disk.namespace import call, keep_mounts_here, CLONE_NEWNS;"
        "call('unshare', CLONE_NEWNS); keep_mounts_here();"
        "assert 'shared:' not in open('/proc/self/mountinfo').read();"
        "os.chroot(sys.argv[1]); keep_mounts_here(); print('kept')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=100
    )
    assert ran.stdout == "kept\n", ran.stderr
