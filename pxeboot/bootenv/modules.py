"""Chooses kernel modules by path, adds what they depend on, and finds the firmware they ask for.

Modules are stored with one zstd each, which kmod unpacks: a machine loads some 40 of 600, so unpacking all of
them at start would cost it time and memory (measured: 70 MB, a third of the time to init). The signature that
lockdown (Secure Boot) wants is part of the module's content, so it survives.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import zstandard

from pxeboot.bootenv import recipe

_SUFFIX = re.compile(r"\.ko(\.\w+)?$")


def module_name(path: str) -> str:
    """`kernel/net/core/x-y.ko.xz` -> `x_y`, as modprobe sees it."""
    return _SUFFIX.sub("", path.rsplit("/", 1)[-1]).replace("-", "_")


def parse_dependencies(modules_dep: str) -> dict[str, list[str]]:
    """Path -> paths it needs, from the text of modules.dep; modules.dep(5)."""
    result = {}
    for line in modules_dep.splitlines():
        path, _, needs = line.partition(":")
        if path:
            result[path] = needs.split()
    return result


def select(paths: Iterable[str], take: Iterable[str], drop: Iterable[str]) -> list[str]:
    """The module paths (below /lib/modules/RELEASE) that the patterns take and do not drop."""
    take, drop = list(take), list(drop)
    chosen = []
    for path in sorted(paths):
        short = _SUFFIX.sub("", path.removeprefix("kernel/"))
        if recipe.matches(short, take) and not recipe.matches(short, drop):
            chosen.append(path)
    return chosen


def close(chosen: Iterable[str], dependencies: Mapping[str, list[str]]) -> set[str]:
    """The chosen modules with all they depend on (dropped or not: a module without its needs is useless)."""
    todo, done = list(chosen), set()
    while todo:
        path = todo.pop()
        if path not in done:
            done.add(path)
            todo += dependencies.get(path, [])
    return done


def modinfo(content: bytes, key: str) -> list[str]:
    """The values of a key in a module's `.modinfo`: NUL-terminated `key=value` (linux/moduleparam.h)."""
    pattern = rb"(?<=\0)" + re.escape(key.encode()) + rb"=([\x20-\x7e]+)(?=\0)"
    return [value.decode() for value in re.findall(pattern, content)]


def soft_dependencies(content: bytes) -> set[str]:
    """Names of modules that a module would like to have: `softdep=pre: a b post: c`, `weakdep=d`."""
    names: set[str] = set()
    for value in modinfo(content, "softdep") + modinfo(content, "weakdep"):
        names |= {word.replace("-", "_") for word in value.split() if not word.endswith(":")}
    return names


def read(path: Path) -> bytes:
    """A module's unpacked content."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix != ".ko":
        raise ValueError(f"{path.name}: neither .ko nor .ko.xz")
    return data


def install(tree: Path, root: Path, release: str, modules_dep: str) -> tuple[list[str], list[str]]:
    """Copy the recipe's modules and their firmware from the unpacked packages to the root.

    Returns (module paths, firmware names that the network drivers want and no package has). Files that depmod
    reads (modules.order, modules.builtin*) come along; the caller runs depmod.
    """
    source, target = tree / "usr/lib/modules" / release, root / "usr/lib/modules" / release
    dependencies = parse_dependencies(modules_dep)
    by_name = {module_name(path): path for path in dependencies}
    todo = close(select(dependencies, recipe.MODULES, recipe.MODULES_DROP), dependencies)
    compressor = zstandard.ZstdCompressor(level=12)
    done: set[str] = set()
    firmware: set[str] = set()
    while todo:
        path = todo.pop()
        content = read(source / path)
        packed = target / (path.removesuffix(".xz") + ".zst")
        packed.parent.mkdir(parents=True, exist_ok=True)
        packed.write_bytes(compressor.compress(content))
        done.add(path)
        firmware |= set(modinfo(content, "firmware"))
        wished = {by_name[name] for name in soft_dependencies(content) if name in by_name}
        todo |= close(wished, dependencies) - done
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        if (source / name).exists():
            (target / name).write_bytes((source / name).read_bytes())
    lacking = [name for name in sorted(firmware) if not _install_firmware(tree, root, name)]
    return sorted(done), lacking


def _install_firmware(tree: Path, root: Path, name: str) -> bool:
    """Copy a firmware file (the name may be a pattern, the file compressed); False when there is none."""
    base = tree / "usr/lib/firmware"
    found = False
    for path in sorted([*base.glob(name), *base.glob(name + ".xz"), *base.glob(name + ".zst")]):
        target = root / path.relative_to(tree)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())  # follows links, also across package directories
        found = True
    return found
