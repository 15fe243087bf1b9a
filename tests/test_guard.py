"""The guard must be able to fail: it is shown sockets that are allowed and sockets that are not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import guard

ROOT = Path(__file__).parents[1]

TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100 0 0 10 0
   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1 0 100 0 0 10 0
   2: 0F02000A:CB20 01010101:01BB 01 00000000:00000000 00:00000000 00000000     0        0 13 1 0 100 0 0 10 0
"""
UDP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
  10: 00000000:0043 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 21 2 0 0
  11: 0F02000A:9C40 08080808:0035 01 00000000:00000000 00:00000000 00000000     0        0 22 2 0 0
  12: 0100007F:0045 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 23 2 0 0
"""
IGMP = """Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter
1\tlo        :     2      V3
\t\t\t\t0100C0EF     1 0:00000000\t\t0
2\teth0      :     2      V3
\t\t\t\t0100C0EF     1 0:00000000\t\t0
\t\t\t\t010000E0     1 0:00000000\t\t0
"""


def test_a_listener_on_all_addresses_is_seen_and_one_on_loopback_is_not() -> None:
    assert guard.listeners_in("tcp", TCP) == [guard.Listener("tcp", "0.0.0.0", 80, 12)]


def test_a_dhcp_socket_is_seen_and_a_name_lookup_is_not() -> None:
    assert guard.listeners_in("udp", UDP) == [guard.Listener("udp", "0.0.0.0", 67, 21)]


def test_a_multicast_group_joined_on_a_real_interface_is_seen() -> None:
    assert guard.memberships_in(IGMP) == {("eth0", "239.192.0.1")}


def test_loopback_by_any_name() -> None:
    assert guard.is_loopback("127.0.0.53")
    assert guard.is_loopback("::1")
    assert guard.is_loopback("::ffff:127.0.0.1")
    assert not guard.is_loopback("::")
    assert not guard.is_loopback("10.0.0.1")
    assert guard.address_of("B80D0120000000006700000001000000:0050") == ("2001:db8::67:0:1", 80)


GUILTY = {
    "in this process": "s = socket.socket(); s.bind(('0.0.0.0', 0)); s.close()",
    "on all IPv6 addresses": "s = socket.socket(socket.AF_INET6); s.bind(('::', 0)); s.close()",
    "without bind": "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('127.0.0.1', 9)); "
    "t = socket.socket(); t.listen(1); time.sleep(3)",
    "in a child": "subprocess.run([sys.executable, '-c', 'import socket, time; s = socket.socket(); "
    's.bind(("0.0.0.0", 0)); s.listen(); time.sleep(3)\'])',
}
INNOCENT = {
    "loopback": "s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); time.sleep(0.3)",
    "a Unix socket": "a, b = socket.socketpair(); time.sleep(0.3)",
    "another namespace": "subprocess.run(['unshare', '--net', sys.executable, '-c', 'import socket, time; "
    's = socket.socket(); s.bind(("0.0.0.0", 0)); s.listen(); time.sleep(0.3)\'], check=True)',
}


def _run_guarded(tmp_path: Path, body: str) -> subprocess.CompletedProcess[str]:
    """A pytest of its own, in a private network namespace that plays the host: nothing is really opened
    here.
    """
    test = tmp_path / "test_inner.py"
    test.write_text(f"import socket, subprocess, sys, time\n\ndef test_it():\n    {body}\n")
    command = ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]
    command += [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.guard",
        "-p",
        "no:cacheprovider",
        str(test),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=110, check=False
    )


@pytest.mark.net
@pytest.mark.parametrize("how", GUILTY)
def test_a_test_that_opens_a_socket_to_the_outside_fails(tmp_path: Path, how: str) -> None:
    done = _run_guarded(tmp_path, GUILTY[how])
    assert done.returncode == 1, done.stdout
    assert "outside loopback" in done.stdout


@pytest.mark.net
@pytest.mark.parametrize("how", INNOCENT)
def test_a_test_that_stays_inside_passes(tmp_path: Path, how: str) -> None:
    done = _run_guarded(tmp_path, INNOCENT[how])
    assert done.returncode == 0, done.stdout
