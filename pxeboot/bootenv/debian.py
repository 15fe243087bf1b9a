"""Debian 13 packages on whatever Debian we are: a private apt that ignores what the host has installed.

The mirror is the host's own: read from its apt configuration, or given. Nothing here needs root.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pxeboot.bootenv import recipe
from pxeboot.errors import AppError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
COMPONENTS = "main non-free-firmware"

Progress = Callable[[str], None]


class BootEnvError(AppError):
    """The boot environment cannot be built; the sentence says what is missing and what to do."""

    code = "bootenv-build-failed"
    title = "The boot environment cannot be built"


@dataclass(frozen=True)
class Mirror:
    """Where Debian comes from: URIs of the archive and, if known, of the security archive."""

    archive: tuple[str, ...]
    security: tuple[str, ...] = ()

    def sources(self, *, security: bool = True) -> str:
        """The apt sources (deb822, sources.list(5)) of our suite on this mirror."""
        stanzas = [_stanza(self.archive, f"{recipe.SUITE} {recipe.SUITE}-updates")]
        if security and self.security:
            stanzas.append(_stanza(self.security, f"{recipe.SUITE}-security"))
        return "\n".join(stanzas)


def _stanza(uris: Iterable[str], suites: str) -> str:
    return (
        f"Types: deb\nURIs: {' '.join(uris)}\nSuites: {suites}\nComponents: {COMPONENTS}\n"
        f"Architectures: {recipe.ARCHITECTURE}\nSigned-By: {KEYRING}\n"
    )


def parse_sources(text: str) -> list[tuple[str, str]]:
    """(URI, suite) of every enabled binary source in a deb822 `.sources` file; sources.list(5)."""
    pairs: list[tuple[str, str]] = []
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t"):
                fields[key] = fields.get(key, "") + " " + line.strip()
            elif ":" in line:
                key, value = line.split(":", 1)
                key = key.strip().lower()
                fields[key] = value.strip()
        if (
            fields.get("enabled", "yes").lower() in ("no", "false", "0")
            or "deb" not in fields.get("types", "").split()
        ):
            continue
        pairs += [
            (uri, suite)
            for uri in fields.get("uris", "").split()
            for suite in fields.get("suites", "").split()
        ]
    return pairs


def parse_list(text: str) -> list[tuple[str, str]]:
    """(URI, suite) of every binary source in a one-line-style `.list` file; sources.list(5)."""
    pairs = []
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)", line)
        if match:
            pairs.append((match[1], match[2]))
    return pairs


def choose_mirror(pairs: Iterable[tuple[str, str]], codename: str) -> Mirror | None:
    """The Debian mirror among a host's sources: the one that serves the host's own suite."""
    archive: dict[str, None] = {}
    security: dict[str, None] = {}
    for uri, suite in pairs:
        if uri.split(":", 1)[0] not in (
            "http",
            "https",
            "file",
            "copy",
            "mirror+http",
            "mirror+https",
            "mirror+file",
        ):
            continue  # cdrom: holds one release only
        if suite in (codename, recipe.SUITE):
            archive[uri] = None
        elif suite in (f"{codename}-security", f"{recipe.SUITE}-security"):
            security[uri] = None
    return Mirror(tuple(archive), tuple(security)) if archive else None


def host_mirror(apt: Path = Path("/etc/apt"), os_release: Path = Path("/etc/os-release")) -> Mirror:
    """The mirror this host installs from; the environment may override it.

    `PXEBOOT_DEBIAN_MIRROR` and `PXEBOOT_DEBIAN_SECURITY_MIRROR` hold addresses, separated by spaces.

    Raises BootEnvError when the host is no Debian and none is given.
    """
    given, security = (
        os.environ.get("PXEBOOT_DEBIAN_MIRROR"),
        os.environ.get("PXEBOOT_DEBIAN_SECURITY_MIRROR"),
    )
    if given:
        return Mirror(tuple(given.split()), tuple((security or "").split()))
    pairs: list[tuple[str, str]] = []
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]:
        if path.suffix == ".sources" and path.is_file():
            pairs += parse_sources(path.read_text(errors="replace"))
        elif path.suffix == ".list" and path.is_file():
            pairs += parse_list(path.read_text(errors="replace"))
    release = os_release.read_text(errors="replace") if os_release.exists() else ""
    codename = re.search(r'^VERSION_CODENAME="?([\w.-]+)', release, re.MULTILINE)
    mirror = choose_mirror(pairs, codename[1] if codename else recipe.SUITE)
    if mirror is None:
        raise BootEnvError(
            f"No Debian mirror found in {apt}: set PXEBOOT_DEBIAN_MIRROR to one that has {recipe.SUITE}."
        )
    return mirror


class Apt:
    """A private apt below `root`: own sources and lists, nothing installed; proxies as the host's."""

    def __init__(self, root: Path, mirror: Mirror) -> None:
        if not KEYRING.exists():
            raise BootEnvError(f"{KEYRING} is missing: install the package debian-archive-keyring.")
        self.root = root.resolve()
        self.mirror = mirror
        for name in ("parts", "lists/partial", "cache/archives/partial"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self._config = self.root / "apt.conf"
        self._config.write_text(
            f'Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "{self.root}/parts";\n'
            f'Dir::Etc::preferencesparts "/dev/null";\nDir::Etc::preferences "/dev/null";\n'
            f'Dir::State::lists "{self.root}/lists";\nDir::State::status "/dev/null";\n'
            f'Dir::Cache "{self.root}/cache";\n'
            f'APT::Architecture "{recipe.ARCHITECTURE}";\nAPT::Install-Recommends "false";\n'
            f'Acquire::Languages "none";\nAcquire::Retries "3";\nAcquire::http::Timeout "30";\n'
            # Without this, apt drops to the user _apt, who may not read our directory.
            'APT::Sandbox::User "root";\n'
            # The host's hooks after an update (desktop catalogues) have no business with our lists.
            "#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n#clear DPkg;\n"
        )

    def update(self) -> list[str]:
        """Fetch the package lists; return notes on what this mirror lacks. Raises BootEnvError."""
        notes: list[str] = []
        sources = self.root / "parts" / "bootenv.sources"
        sources.write_text(self.mirror.sources())
        try:
            self._run("apt-get", "update", "--error-on=any")
        except BootEnvError as error:
            if not self.mirror.security:
                raise
            sources.write_text(self.mirror.sources(security=False))
            self._run("apt-get", "update", "--error-on=any")
            notes.append(f"without {recipe.SUITE}-security: {error.sentence}")
        return notes

    def known(self, names: Sequence[str]) -> list[str]:
        """Those of the packages that the mirror has."""
        output = self._run("apt-cache", "madison", *names)
        have = {line.split("|")[0].strip() for line in output.splitlines()}
        return [name for name in names if name in have]

    def download(self, names: Sequence[str]) -> list[Path]:
        """Download packages with their dependencies, checked against the signed lists; return their files."""
        archives = self.root / "cache" / "archives"
        wanted = self._file_names(names)
        self._run("apt-get", "install", "--yes", "--download-only", *names)
        for old in archives.glob("*.deb"):
            if old.name not in wanted:
                old.unlink()
        missing = [name for name in wanted if not (archives / name).exists()]
        if missing:
            raise BootEnvError(f"apt did not download {', '.join(sorted(missing))}.")
        return sorted(archives / name for name in wanted)

    def _file_names(self, names: Sequence[str]) -> set[str]:
        output = self._run("apt-get", "install", "--yes", "--simulate", *names)
        found = re.findall(r"^Inst (\S+) \((\S+) .*?\[(\w+)\]\)", output, re.MULTILINE)
        return {f"{name}_{version.replace(':', '%3a')}_{arch}.deb" for name, version, arch in found}

    def _run(self, program: str, *arguments: str) -> str:
        try:
            done = subprocess.run(
                [program, "-c", str(self._config), *arguments],
                capture_output=True,
                text=True,
                timeout=1800,
                check=False,
                env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
                stdin=subprocess.DEVNULL,
            )
        except FileNotFoundError:
            raise BootEnvError(
                f"{program} is missing: the boot environment is built on Debian or Ubuntu."
            ) from None
        except subprocess.TimeoutExpired:
            raise BootEnvError(f"{program} {arguments[0]} took longer than half an hour.") from None
        if done.returncode:
            why = [line for line in done.stderr.splitlines() if line.startswith(("E:", "W:"))] or [
                done.stderr.strip()
            ]
            raise BootEnvError(f"{program} {arguments[0]} failed: {'; '.join(why)}")
        return done.stdout


def versions(files: Iterable[Path]) -> dict[str, str]:
    """Package -> version, from the names of .deb files."""
    pairs = (path.name.removesuffix(".deb").split("_") for path in files)
    return {name: version.replace("%3a", ":") for name, version, _ in sorted(pairs)}


def unpack(files: Sequence[Path], tree: Path) -> None:
    """Unpack packages over each other, running none of their scripts. Raises BootEnvError."""
    tree.mkdir(parents=True)
    # base-files first: it brings the links bin -> usr/bin that old-fashioned paths in other packages go
    # through.
    first = [path for path in files if path.name.startswith("base-files_")]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for group in (first, [path for path in files if path not in first]):
            list(pool.map(lambda path: _unpack_one(path, tree), group))


def _unpack_one(path: Path, tree: Path) -> None:
    # Not `dpkg-deb -x`: that gives files to their groups, which root may not do in a container without
    # capabilities. In the archives that are made of the tree everything belongs to root.
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as archive:
        done = subprocess.run(
            ["tar", "-xp", "--no-same-owner", "--warning=no-timestamp", "-C", str(tree)],
            stdin=archive.stdout, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if archive.returncode or done.returncode:
        raise BootEnvError(f"{path.name} could not be unpacked: {done.stderr.strip() or 'dpkg-deb failed'}")
