"""Fragments for other DHCP servers: what they say, and that those servers can read them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dhcp.snippets import KINDS, SnippetFacts, snippet

FACTS = SnippetFacts(
    server="10.20.0.1",
    files={"bios": "undionly.kpxe", "x64-uefi": "shimx64.efi", "arm64-uefi": "shimaa64.efi"},
    http_files={"x64-uefi": "http://10.20.0.1/boot/files/shimx64.efi"},
    script_url="http://10.20.0.1/boot/ipxe?mac=${net0/mac}&uuid=${uuid}&platform=${platform}",
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_server_is_told_every_file(kind: str) -> None:
    text = snippet(kind, FACTS)  # type: ignore[arg-type]
    for said in (FACTS.server, FACTS.script_url, *FACTS.files.values(), *FACTS.http_files.values()):
        assert said in text
    assert "HTTPClient" in text
    assert "iPXE" in text
    assert text.endswith("\n")


def test_without_ipxe_and_http_boot_nothing_is_said_of_them() -> None:
    facts = SnippetFacts(server="10.20.0.1", files={"bios": "pxelinux.0"})
    for kind in KINDS:
        text = snippet(kind, facts)  # type: ignore[arg-type]
        assert "pxelinux.0" in text
        assert not re.search("HTTPClient|ipxe", text.replace("pxeboot at", ""), re.IGNORECASE)


def test_what_would_break_a_file_is_refused() -> None:
    for name in ('a"b', "a b", "a\nb", "a'b", "a\\b", "ü"):
        with pytest.raises(ValueError, match="boot file"):
            SnippetFacts(server="10.20.0.1", files={"bios": name})
    with pytest.raises(ValueError):
        SnippetFacts(server="pxe.example.org", files={})
    with pytest.raises(ValueError, match="choose one of isc, kea"):
        snippet("msdos", FACTS)  # type: ignore[arg-type]


def checked(program: str, *command: str) -> None:
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    done = subprocess.run([program, *command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_dhcpd_can_read_it(tmp_path: Path) -> None:
    for name, text in (
        ("global", snippet("isc", FACTS) + "subnet 10.20.0.0 netmask 255.255.255.0 { }\n"),
        ("bios", snippet("isc", SnippetFacts(server="10.20.0.1", files={"bios": "pxelinux.0"}))),
    ):
        path = tmp_path / f"{name}.conf"
        path.write_text(text)
        # Without -lf it would want the machine's own lease file.
        (tmp_path / "leases").touch()
        checked("dhcpd", "-t", "-cf", str(path), "-lf", str(tmp_path / "leases"))


def test_kea_can_read_it(tmp_path: Path) -> None:
    text = snippet("kea", FACTS)
    json.loads("".join(line for line in text.splitlines(True) if not line.startswith("//")))
    path = tmp_path / "kea.conf"
    path.write_text(text)
    checked("kea-dhcp4", "-t", str(path))


def test_dnsmasq_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "dnsmasq.conf"
    path.write_text(snippet("dnsmasq", FACTS))
    checked("dnsmasq", "--test", "-C", str(path))


def test_powershell_gets_balanced_single_quotes() -> None:
    for line in snippet("windows", FACTS).splitlines():
        if not line.startswith("#"):
            assert line.count("'") % 2 == 0
            assert '"' not in line
