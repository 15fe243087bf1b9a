"""Where Debian comes from: reading other people's apt configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from pxeboot.bootenv import debian
from pxeboot.bootenv.debian import BootEnvError, Mirror

BOOKWORM_SOURCES = """\
# installed by an image
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main

Types: deb
# a comment between fields
URIs: http://mirror.example/debian-security
Suites:
 bookworm-security
Components: main

Types: deb
URIs: http://old.example/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb-src
URIs: http://sources.example/debian
Suites: bookworm
"""


def test_deb822_sources() -> None:
    assert debian.parse_sources(BOOKWORM_SOURCES) == [
        ("http://mirror.example/debian", "bookworm"),
        ("http://mirror.example/debian", "bookworm-updates"),
        ("http://mirror.example/debian-security", "bookworm-security"),
    ]


def test_one_line_style() -> None:
    text = """\
# deb http://commented.example/debian bookworm main
deb [arch=amd64 signed-by=/x.gpg] http://mirror.example/debian/ bookworm main contrib
deb-src http://mirror.example/debian bookworm main
  deb http://security.example/debian-security bookworm-security main
deb cdrom:[Debian 12]/ bookworm main
"""
    pairs = debian.parse_list(text)
    assert debian.choose_mirror(pairs, "bookworm") == Mirror(
        ("http://mirror.example/debian/",), ("http://security.example/debian-security",)
    )


def test_other_repositories_are_not_debian() -> None:
    pairs = [
        ("http://packages.example/cloud-sdk", "cloud-sdk-bookworm"),
        ("https://node.example", "nodistro"),
    ]
    assert debian.choose_mirror(pairs, "bookworm") is None


def host(tmp_path: Path, sources: str, codename: str) -> tuple[Path, Path]:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "debian.sources").write_text(sources)
    (tmp_path / "os-release").write_text(f'PRETTY_NAME="x"\nVERSION_CODENAME={codename}\n')
    return tmp_path, tmp_path / "os-release"


@pytest.fixture(autouse=True)
def _no_override(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PXEBOOT_DEBIAN_MIRROR", raising=False)
    monkeypatch.delenv("PXEBOOT_DEBIAN_SECURITY_MIRROR", raising=False)


def test_the_hosts_own_mirror_serves_our_suite(tmp_path: Path) -> None:
    mirror = debian.host_mirror(*host(tmp_path, BOOKWORM_SOURCES, "bookworm"))
    text = mirror.sources()
    assert "URIs: http://mirror.example/debian\nSuites: trixie trixie-updates\n" in text
    assert "URIs: http://mirror.example/debian-security\nSuites: trixie-security\n" in text
    assert "bookworm" not in text
    assert "security" not in mirror.sources(security=False)


def test_a_host_that_is_no_debian_is_told_what_to_do(tmp_path: Path) -> None:
    sources = BOOKWORM_SOURCES.replace("bookworm", "noble")
    with pytest.raises(BootEnvError, match="PXEBOOT_DEBIAN_MIRROR"):
        debian.host_mirror(*host(tmp_path, sources, "lunar"))


def test_the_environment_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PXEBOOT_DEBIAN_MIRROR", "http://a.example/debian http://b.example/debian")
    assert debian.host_mirror() == Mirror(("http://a.example/debian", "http://b.example/debian"))


def test_versions_come_from_file_names() -> None:
    files = [Path("busybox_1%3a1.37.0-6+b9_amd64.deb"), Path("zstd_1.5.7+dfsg-1_amd64.deb")]
    assert debian.versions(files) == {"busybox": "1:1.37.0-6+b9", "zstd": "1.5.7+dfsg-1"}
