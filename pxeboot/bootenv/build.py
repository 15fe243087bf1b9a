"""Builds the boot environment and collects the boot files: `build(dest, cache, progress)`.

Up to date is decided from hashes (`inputs`), so calling it at every start of the daemon costs a fraction of a
second. Files appear in `dest` whole (written beside, then renamed) and `bootenv.json` last.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pxeboot.bootenv import debian, inputs, layers, recipe
from pxeboot.bootenv.debian import BootEnvError, Progress

# Times of all files in the archives when SOURCE_DATE_EPOCH (reproducible-builds.org) says nothing:
# 2025-08-09, the release of Debian 13.
MTIME = 1754697600
LIMIT = 120_000_000
FORMAT = 1
LOCK_SECONDS = 1800


@dataclass(frozen=True)
class BootFile:
    """One file of the boot directory: bytes and SHA-256 (hex)."""

    size: int
    sha256: str


@dataclass(frozen=True)
class BootEnv:
    """What is in the boot directory; the same as `bootenv.json` says, but for `path` and `rebuilt`."""

    path: Path
    rebuilt: bool
    inputs: str
    base_inputs: str
    kernel_release: str
    files: dict[str, BootFile]
    packages: dict[str, str]
    modules: int
    firmware_lacking: list[str]
    unpacked_bytes: int
    notes: list[str] = field(default_factory=list)

    @property
    def travelling_bytes(self) -> int:
        """Kernel plus initramfs: what each machine loads over the network."""
        return self.files["vmlinuz"].size + self.files["initrd.img"].size


def build(
    dest: Path,
    cache: Path,
    progress: Progress = lambda sentence: None,
    *,
    mirror: debian.Mirror | None = None,
    refresh: bool = False,
) -> BootEnv:
    """Bring the boot directory `dest` up to date, keeping downloads and layers in `cache`; say what is there.

    `progress` is called with a sentence at each step. `mirror` is where Debian comes from (default: where
    this host's comes from). `refresh` makes a new base layer although the recipe did not change, to take
    newer packages. Raises BootEnvError; what was in `dest` is then untouched.
    """
    mtime = int(os.environ.get("SOURCE_DATE_EPOCH", MTIME))
    base_hash = inputs.base_inputs(mtime)
    wanted = inputs.agent_inputs(base_hash)
    if not refresh and (current := load(dest)) and current.inputs == wanted:
        return current
    cache.mkdir(parents=True, exist_ok=True)
    with _alone(cache / "lock", progress):
        if not refresh and (current := load(dest)) and current.inputs == wanted:
            return current  # another build made it while we waited
        directory = cache / f"base-{base_hash[:16]}"
        base = None if refresh else layers.load_base(directory)
        if base is None:
            making = cache / "base-new"
            layers.build_base(making, cache, mirror or debian.host_mirror(), mtime, progress)
            for old in cache.glob("base-*"):
                if old != making:
                    shutil.rmtree(old)
            making.rename(directory)
            base = layers.load_base(directory)
            assert base is not None
        progress("Adding the agent")
        agent = layers.build_agent(base, cache / "agent-new", mtime)
        return _publish(dest, base, agent, wanted, base_hash)


def load(dest: Path) -> BootEnv | None:
    """What is in the boot directory; None when none was built yet or a file is missing or altered."""
    try:
        data = json.loads((dest / "bootenv.json").read_text())
        if data.pop("format") != FORMAT:
            return None
        data.pop("totals")
        data["files"] = {name: BootFile(**about) for name, about in data["files"].items()}
        env = BootEnv(path=dest, rebuilt=False, **data)
        intact = all(_describe(dest / name) == about for name, about in env.files.items())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return (
        env
        if intact and {*recipe.BOOT_FILES, recipe.GRUB_PC, "vmlinuz", "initrd.img"} <= env.files.keys()
        else None
    )


def _publish(dest: Path, base: layers.Base, agent: bytes, wanted: str, base_hash: str) -> BootEnv:
    dest.mkdir(parents=True, exist_ok=True)
    new = dest / ".new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    for name in (*recipe.BOOT_FILES, recipe.GRUB_PC, "vmlinuz"):
        shutil.copyfile(base.path / name, new / name)
    with (new / "initrd.img").open("wb") as out:
        with (base.path / "base.cpio.zst").open("rb") as stream:
            shutil.copyfileobj(stream, out, 1 << 20)
        for part in (b"", agent):
            out.write(part)
            out.write(bytes(-out.tell() % 4))  # archives begin at multiples of four, one that is appended too
    files = {path.name: _describe(path) for path in sorted(new.iterdir())}
    env = BootEnv(
        path=dest,
        rebuilt=True,
        inputs=wanted,
        base_inputs=base_hash,
        kernel_release=base.kernel_release,
        files=files,
        packages=base.packages,
        modules=base.modules,
        firmware_lacking=base.firmware_lacking,
        unpacked_bytes=base.unpacked_bytes,
        notes=base.notes,
    )
    if env.travelling_bytes > LIMIT:
        shutil.rmtree(new)
        raise BootEnvError(
            f"Kernel and initramfs take {env.travelling_bytes / 1e6:.0f} MB, over {LIMIT / 1e6:.0f} MB."
        )
    described = {name: value for name, value in asdict(env).items() if name not in ("path", "rebuilt")}
    described |= {"format": FORMAT, "totals": {"kernel_and_initrd_bytes": env.travelling_bytes}}
    (new / "bootenv.json").write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")
    for name in (*files, "bootenv.json"):
        with (new / name).open("rb") as stream:
            os.fsync(stream.fileno())
        (new / name).chmod(0o644)
        (new / name).replace(dest / name)
    new.rmdir()
    return env


def _describe(path: Path) -> BootFile:
    with path.open("rb") as stream:
        return BootFile(path.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest())


@contextlib.contextmanager
def _alone(path: Path, progress: Progress) -> Iterator[None]:
    """Hold the cache's lock, waiting (bounded) for another build that has it. Raises BootEnvError."""
    with path.open("w") as stream:
        deadline = time.monotonic() + LOCK_SECONDS
        told = False
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BootEnvError(
                        f"Another build has held {path} for {LOCK_SECONDS // 60} minutes."
                    ) from None
                if not told:
                    progress("Waiting for another build of the boot environment")
                    told = True
                time.sleep(0.5)
        yield
