"""Composes the boot environment's root directory: named programs, the libraries they need, Python, modules.

Nothing is installed: packages are unpacked and what the recipe names is copied out of them, so the result
holds nothing that nobody asked for. Programs of Debian 13 that the build itself needs (Python's compiler,
depmod) run from the unpacked packages through their own dynamic loader; no root and no chroot is needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterable
from pathlib import Path

from pxeboot.bootenv import modules, recipe
from pxeboot.bootenv.debian import BootEnvError

_LOADER = "usr/lib64/ld-linux-x86-64.so.2"
_LIBRARIES = f"usr/lib/{recipe.MULTIARCH}"
_DIRECTORIES: tuple[str, ...] = (
    *("dev", "etc", "mnt", "proc", "root", "run", "sys", "tmp", "var/log", "var/tmp"),
    *("usr/bin", "usr/lib", "usr/lib64", "usr/sbin", "usr/share"),
)
_LINKS = {
    "bin": "usr/bin",
    "sbin": "usr/sbin",
    "lib": "usr/lib",
    "lib64": "usr/lib64",
    "etc/mtab": "../proc/self/mounts",
    "etc/os-release": "../usr/lib/os-release",
    "etc/resolv.conf": "../run/resolv.conf",
    "var/run": "../run",
}
_TEXTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": "root:x:0:\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nprotocols: files\nservices: files\n",
}


def run(tree: Path, program: str, *arguments: str, name: str | None = None) -> str:
    """Run a program of the unpacked packages on the host, with their own libraries; return its output.

    `name` is argv[0] (kmod is depmod or modprobe by name). Raises BootEnvError.
    """
    return run_bytes(tree, program, *arguments, name=name).decode()


def run_bytes(tree: Path, program: str, *arguments: str, name: str | None = None) -> bytes:
    """The same with output as bytes."""
    command = [str(tree / _LOADER), "--library-path", str(tree / _LIBRARIES)]
    if name:
        command += ["--argv0", name]
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "PYTHONHOME": str(tree / "usr")}
    # Sets inside constants are stored in hash order: the same files must give the same byte code.
    environment["PYTHONHASHSEED"] = "0"
    done = subprocess.run(
        [*command, str(tree / program), *arguments], capture_output=True, env=environment, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip()).decode(errors="replace").splitlines()[-1:]
        raise BootEnvError(f"{name or program} of the boot environment failed: {' '.join(reason)}")
    return done.stdout


def depmod(tree: Path, base: Path, release: str) -> str:
    """Run depmod over `base`/lib/modules/RELEASE; return the text of modules.dep."""
    run(tree, "usr/bin/kmod", "-b", str(base), release, name="depmod")
    return (base / "lib/modules" / release / "modules.dep").read_text()


def compose(tree: Path, wheels: Iterable[Path], root: Path) -> tuple[str, list[str], list[str]]:
    """Fill `root` from the unpacked packages; return (kernel release, module paths, firmware lacking).

    Raises BootEnvError when the packages lack something that the recipe names.
    """
    for name in _DIRECTORIES:
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "var/tmp").chmod(0o1777)
    for name, target in _LINKS.items():
        (root / name).symlink_to(target)
    for name, text in _TEXTS.items():
        (root / name).write_text(text)
    for name in (*recipe.FILES, *recipe.LIBRARIES, _LOADER):
        copy(tree, root, name)
    for program in recipe.PROGRAMS:
        copy(tree, root, find_program(tree, program))
    _busybox(tree, root)
    _keymaps(tree, root)
    _python(tree, wheels, root)
    _libraries(tree, root)
    release = kernel_release(tree)
    chosen, lacking = modules.install(tree, root, release, depmod(tree, tree, release))
    depmod(tree, root, release)
    return release, chosen, lacking


def kernel_release(tree: Path) -> str:
    """The kernel release in the unpacked packages; there must be exactly one."""
    kernels = sorted(path.name.removeprefix("vmlinuz-") for path in (tree / "boot").glob("vmlinuz-*"))
    if len(kernels) != 1:
        raise BootEnvError(f"Expected one kernel in the packages, found {kernels or 'none'}.")
    return kernels[0]


def find_program(tree: Path, name: str) -> str:
    """The path below the tree of a program. Raises BootEnvError."""
    for directory in ("usr/bin", "usr/sbin"):
        if (tree / directory / name).is_symlink() or (tree / directory / name).exists():
            return f"{directory}/{name}"
    raise BootEnvError(
        f"The packages have no program {name}: the recipe names one that Debian moved or dropped."
    )


def copy(tree: Path, root: Path, name: str) -> None:
    """Copy a file with its permissions; a link is copied with what it points to. Raises BootEnvError."""
    source, target = tree / name, root / name
    if target.is_symlink() or target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        pointed = os.readlink(source)
        target.symlink_to(pointed)
        onward = os.path.normpath(os.path.join("/", os.path.dirname(name), pointed)).lstrip("/")
        copy(tree, root, onward)
    elif source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    elif source.exists():
        shutil.copy2(source, target)
    else:
        raise BootEnvError(
            f"The packages have no {name}: the recipe names a file that Debian moved or dropped."
        )


def _busybox(tree: Path, root: Path) -> None:
    for applet in run(tree, "usr/bin/busybox", "--list").split():
        if applet in ("busybox", "dpkg", "dpkg-deb", "rpm"):
            continue
        if not any(
            (root / directory / applet).is_symlink() or (root / directory / applet).exists()
            for directory in ("usr/bin", "usr/sbin")
        ):
            (root / "usr/bin" / applet).symlink_to("busybox")


def _keymaps(tree: Path, root: Path) -> None:
    """Compile the keyboard tables to the binary form that busybox' loadkmap reads."""
    target = root / "usr/share/keymaps"
    target.mkdir()
    for name, table in recipe.KEYMAPS.items():
        source = tree / "usr/share/keymaps/i386" / f"{table}.kmap.gz"
        (target / f"{name}.bmap").write_bytes(run_bytes(tree, "usr/bin/loadkeys", "--bkeymap", str(source)))


def _python(tree: Path, wheels: Iterable[Path], root: Path) -> None:
    library = f"usr/lib/{recipe.PYTHON}"
    for path in sorted((tree / library).rglob("*")):
        relative = path.relative_to(tree / library)
        short = str(relative)
        if path.is_dir() and not path.is_symlink():
            continue
        dropped = any(
            recipe.matches(short, (pattern, f"{pattern}/**")) for pattern in recipe.PYTHON_DROP
        ) and not recipe.matches(short, recipe.PYTHON_KEEP)
        if not dropped and "__pycache__" not in relative.parts:
            copy(tree, root, f"{library}/{short}")
    site = root / "usr/lib/python3/dist-packages"
    for package in recipe.PYTHON_PACKAGES:
        shutil.copytree(
            tree / "usr/lib/python3/dist-packages" / package,
            site / package,
            ignore=shutil.ignore_patterns("__pycache__", "*.pyi", "backend_cffi.py"),
        )
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(
                site, [n for n in archive.namelist() if ".dist-info/" not in n or n.endswith("METADATA")]
            )
    for path in (root / library, site):
        # Sourceless: a .pyc beside where the .py was is found with one stat less, and the .py cost memory.
        compile_python(tree, path, f"/{path.relative_to(root)}", sources=False)


def compile_python(tree: Path, path: Path, shown_as: str, *, sources: bool) -> None:
    """Compile a directory to byte code that is never checked; `shown_as` is its path at run time.

    With `sources` the .py files stay (tracebacks show them) and byte code goes to __pycache__; else it
    replaces them.
    """
    arguments = ["-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    arguments += ["-s", str(path), "-p", shown_as]
    if not sources:
        arguments.append("-b")
    run(tree, f"usr/bin/{recipe.PYTHON}", *arguments, str(path))
    if not sources:
        for source in path.rglob("*.py"):
            source.unlink()


def _libraries(tree: Path, root: Path) -> None:
    """Copy every shared library that the programs and Python extensions in the root link to."""
    objects = [path for path in sorted(root.rglob("*")) if _is_elf(path)]
    wanted: set[str] = set()
    for path in objects:
        wanted |= set(needed(tree, path))
    for name in sorted(wanted):
        copy(tree, root, name)


def _is_elf(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(4) == b"\x7fELF"


def needed(tree: Path, path: Path) -> list[str]:
    """Paths below the tree of the libraries that an ELF file needs, as the dynamic loader finds them."""
    if path.name == Path(_LOADER).name:
        return []
    done = subprocess.run(
        [str(tree / _LOADER), "--library-path", str(tree / _LIBRARIES), "--list", str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={"LC_ALL": "C"},
    )
    if done.returncode and "statically linked" not in done.stdout + done.stderr:
        raise BootEnvError(
            f"The libraries of {path.name} cannot be found: {done.stderr.strip() or done.stdout.strip()}"
        )
    return parse_loader_list(done.stdout, tree)


def parse_loader_list(text: str, tree: Path) -> list[str]:
    """`libz.so.1 => TREE/usr/lib/…/libz.so.1 (0x…)` lines -> paths below the tree. Raises BootEnvError."""
    paths = []
    for line in text.splitlines():
        name, arrow, place = line.strip().partition(" => ")
        if not arrow:
            continue
        if place.startswith("not found"):
            raise BootEnvError(
                f"A program of the boot environment needs {name}, which no package of the recipe brings."
            )
        found = Path(place.rsplit(" (", 1)[0])
        if not found.is_relative_to(tree):
            raise BootEnvError(f"{name} was found on the host ({found}), not in the packages.")
        paths.append(str(found.relative_to(tree)))
    return paths
