"""Says whether the boot environment on disk is what its inputs would give: one hash per layer.

Base layer: the recipe, the builder's own code, the pinned wheels (not the mirror, nor what it offers today).
Agent layer: every file of the `imaging` package, and of ours beside it (init …), on top of that base.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import imaging
from pxeboot.bootenv import recipe

HERE = Path(__file__).parent
_BASE_SOURCES = ("cpio.py", "debian.py", "layers.py", "modules.py", "recipe.py", "root.py", "wheels.txt")


def digest(named: Mapping[str, bytes]) -> str:
    """SHA-256 (hex) over names and contents, in the order of the names; lengths keep the fields apart."""
    total = hashlib.sha256()
    for name in sorted(named):
        for field in (name.encode(), named[name]):
            total.update(len(field).to_bytes(8, "big") + field)
    return total.hexdigest()


def base_inputs(mtime: int) -> str:
    """Hash of what decides the base layer (apart from the packages' versions on the mirror at that time)."""
    named = {name: code_only(name, (HERE / name).read_bytes()) for name in _BASE_SOURCES}
    return digest(named | {"mtime": str(mtime).encode()})


def code_only(name: str, content: bytes) -> bytes:
    """What Python code does, without comments, docstrings and layout: rewording them rebuilds nothing."""
    if not name.endswith(".py"):
        return content
    tree = ast.parse(content)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            del node.body[0]
    return ast.dump(tree).encode()


def agent_files(package: Path | None = None) -> dict[str, bytes]:
    """Path in the boot environment -> content, of the `imaging` package (code and translations)."""
    top = package or Path(next(iter(imaging.__path__)))
    return {
        f"{recipe.AGENT_ROOT}/imaging/{path.relative_to(top)}": path.read_bytes()
        for path in _plain_files(top)
        if path.suffix in (".py", ".mo", ".po", ".txt", ".json", ".typed")
    }


def own_files() -> dict[str, tuple[bytes, int]]:
    """Path in the boot environment -> (content, mode), of init and its companions."""
    return {target: ((HERE / name).read_bytes(), mode) for name, (target, mode) in recipe.OWN_FILES.items()}


def agent_inputs(base: str) -> str:
    """Hash of what decides the agent layer on the base with that hash."""
    named = agent_files() | {
        path: f"{mode:o} ".encode() + content for path, (content, mode) in own_files().items()
    }
    named["base"] = base.encode()
    return digest(named)


def _plain_files(top: Path) -> Iterable[Path]:
    return (path for path in sorted(top.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
