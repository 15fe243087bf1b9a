"""Makes the initramfs' two layers: the base from packages (minutes), the agent from our code (a second).

Each is a cpio archive compressed on its own; the kernel unpacks them one after the other, the later one
winning (buffer-format.rst allows any mix of archives, zero bytes between them).
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import zstandard

from pxeboot.bootenv import cpio, debian, inputs, recipe
from pxeboot.bootenv import root as roots
from pxeboot.bootenv.debian import BootEnvError, Progress

# Higher levels save little for much more work. No long window either: the kernel would have to reserve it
# (lib/decompress_unzstd.c) on machines that have little memory.
LEVEL_BASE = 9
LEVEL_AGENT = 12


@dataclass(frozen=True)
class Base:
    """A finished base layer below `path`: `base.cpio.zst`, the boot files, `unpacked` (Python)."""

    path: Path
    kernel_release: str
    packages: dict[str, str]
    modules: int
    firmware_lacking: list[str]
    unpacked_bytes: int
    notes: list[str]


def load_base(path: Path) -> Base | None:
    """The finished base layer in a directory, or None when there is none (or a half-made one)."""
    try:
        data = json.loads((path / "base.json").read_text())
        return Base(path=path, **data)
    except (OSError, ValueError, TypeError):
        return None


def build_base(path: Path, cache: Path, mirror: debian.Mirror, mtime: int, progress: Progress) -> Base:
    """Make the base layer in `path` (made new), keeping downloads in `cache`. Raises BootEnvError."""
    notes: list[str] = []
    progress("Reading the package lists of Debian 13")
    apt = debian.Apt(cache / "apt", mirror)
    notes += apt.update()
    firmware = apt.known(recipe.FIRMWARE_PACKAGES)
    if lacking := [name for name in recipe.FIRMWARE_PACKAGES if name not in firmware]:
        notes.append(
            f"no firmware from {', '.join(lacking)}: the mirror has no such package in non-free-firmware"
        )
    progress("Downloading packages")
    packages = apt.download([*recipe.PACKAGES, *firmware])
    wheels = download_wheels(cache / "wheels")
    progress(f"Unpacking {len(packages)} packages")
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    tree = path.resolve() / "unpacked"
    debian.unpack(packages, tree)
    progress("Choosing programs, libraries, kernel modules and firmware")
    root = path.resolve() / "root"
    release, chosen, firmware_lacking = roots.compose(tree, wheels, root)
    for name, source in {**recipe.BOOT_FILES, "vmlinuz": f"boot/vmlinuz-{release}"}.items():
        if not (tree / source).exists():
            raise BootEnvError(f"The packages have no {source} ({name}).")
        shutil.copyfile(tree / source, path / name)
    _build_grub_pc(tree, path)
    progress("Packing the base layer")
    with (path / "base.cpio.zst").open("wb") as out:
        unpacked = _pack(
            [*cpio.scan(root), cpio.character_device("dev/console", 5, 1)], out, mtime, LEVEL_BASE
        )
    _keep_only_python(tree)
    shutil.rmtree(root)
    base = Base(
        path=path,
        kernel_release=release,
        packages=debian.versions(packages)
        | {wheel.name.split("-")[0]: wheel.name.split("-")[1] for wheel in wheels},
        modules=len(chosen),
        firmware_lacking=firmware_lacking,
        unpacked_bytes=unpacked,
        notes=notes,
    )
    described = {name: value for name, value in vars(base).items() if name != "path"}
    (path / "base.json").write_text(json.dumps(described, indent=1))
    return base


def _build_grub_pc(tree: Path, path: Path) -> None:
    """Put `grub.0` together in `path` from the unpacked packages. Raises BootEnvError."""
    start = path.resolve() / "grub.0.cfg"
    start.write_text(recipe.GRUB_PC_START)
    arguments = ["-d", str(tree / "usr/lib/grub/i386-pc"), "-O", recipe.GRUB_PC_FORMAT]
    arguments += ["-p", recipe.GRUB_PC_PREFIX, "-c", str(start)]
    arguments += ["-o", str(path.resolve() / recipe.GRUB_PC)]
    roots.run(tree, "usr/bin/grub-mkimage", *arguments, *recipe.GRUB_PC_MODULES)
    start.unlink()


def download_wheels(directory: Path) -> list[Path]:
    """Fetch the pinned wheels, checked against their hashes. Raises BootEnvError."""
    lock = inputs.HERE / "wheels.txt"
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("*.whl"):
        old.unlink()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", "3.13", "--abi", "cp313"]
    command += ["--platform", "manylinux2014_x86_64", "--dest", str(directory), "--requirement", str(lock)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise BootEnvError(f"pip could not download the wheels of {lock.name}: {done.stderr.strip()}")
    return sorted(directory.glob("*.whl"))


def build_agent(base: Base, scratch: Path, mtime: int) -> bytes:
    """The agent layer, compressed: our code compiled by the target's Python, init and its companions."""
    shutil.rmtree(scratch, ignore_errors=True)
    for name, content in inputs.agent_files().items():
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / name).write_bytes(content)
    for name, (content, mode) in inputs.own_files().items():
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / name).write_bytes(content)
        (scratch / name).chmod(mode)
    tree = base.path.resolve() / "unpacked"
    code = scratch / recipe.AGENT_ROOT
    roots.compile_python(tree, code, f"/{recipe.AGENT_ROOT}", sources=True)
    for path in scratch.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)  # whatever the umask is
        elif path.relative_to(scratch) not in [Path(target) for target, _ in recipe.OWN_FILES.values()]:
            path.chmod(0o644)
    out = io.BytesIO()
    _pack(list(cpio.scan(scratch)), out, mtime, LEVEL_AGENT)
    shutil.rmtree(scratch)
    return out.getvalue()


def _pack(entries: list[cpio.Entry], out: io.BufferedWriter | io.BytesIO, mtime: int, level: int) -> int:
    # Several threads give the same bytes as any other number of them but none.
    compressor = zstandard.ZstdCompressor(level=level, threads=os.cpu_count() or 1, write_checksum=True)
    with compressor.stream_writer(out, closefd=False) as stream:
        return cpio.write(entries, stream, mtime)


def _keep_only_python(tree: Path) -> None:
    """Shrink the unpacked packages to what compiling the agent needs: interpreter, library, loader."""
    keep = ("usr/bin", "usr/lib/" + recipe.MULTIARCH, "usr/lib/" + recipe.PYTHON, "usr/lib64")
    for top in tree.iterdir():
        if top.is_dir() and not top.is_symlink() and top.name != "usr":
            shutil.rmtree(top)
    for directory in (tree / "usr", tree / "usr/lib"):
        for path in directory.iterdir():
            name = str(path.relative_to(tree))
            if (
                path.is_dir()
                and not path.is_symlink()
                and not any(k == name or k.startswith(name + "/") for k in keep)
            ):
                shutil.rmtree(path)
