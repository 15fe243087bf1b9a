"""Where Debian comes from: reading other people's apt configuration; and its packages, unpacked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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


def test_packages_are_unpacked_where_root_may_give_nothing_away(tmp_path: Path) -> None:
    """As in a container without capabilities: a file of another group becomes root's."""
    if os.geteuid() or shutil.which("dpkg-deb") is None:
        pytest.skip("needs root and dpkg-deb")
    made = tmp_path / "made"
    (made / "DEBIAN").mkdir(parents=True)
    (made / "DEBIAN/control").write_text(
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: y <y@example>\nDescription: z\n"
    )
    (made / "checker").write_text("mine")
    os.chown(made / "checker", 0, 42)
    (made / "checker").chmod(0o2755)
    package = tmp_path / "x_1_all.deb"
    subprocess.run(["dpkg-deb", "-b", made, package], check=True, capture_output=True)
    code = "import sys; from pathlib import Path; from pxeboot.bootenv import debian; "
    code += "debian.unpack([Path(sys.argv[1])], Path(sys.argv[2]))"
    poor = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    command = [*poor, sys.executable, "-c", code, package, tmp_path / "tree"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    status = (tmp_path / "tree/checker").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, 0, 0o755)
    (tmp_path / "bad_1_all.deb").write_bytes(b"no package")
    with pytest.raises(BootEnvError, match=r"bad_1_all\.deb could not be unpacked"):
        debian.unpack([tmp_path / "bad_1_all.deb"], tmp_path / "other")
