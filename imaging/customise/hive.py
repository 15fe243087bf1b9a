"""Registry hives of Windows, read and changed by libhivex (ctypes), in a process of their own.

libhivex is C over bytes of an untrusted image: should it crash, only the helper process dies and the task
fails with a sentence. The library is loaded when first needed; without it everything else still works.
(Layout of a hive's header: "regf" magic, two sequence numbers that differ while changes are under way.)
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

from imaging.errors import CustomiseError, ToolMissing

_SECONDS = 120
_WRITE = 4  # HIVEX_OPEN_WRITE
_REG_SZ = 1
MAX_HIVE = 512 << 20
_LIBRARY = "libhivex.so.0"


class Change(NamedTuple):
    """Set the string ``value`` of ``key`` (backslashes between names, ``*`` in one matches) to ``text``."""

    key: str
    value: str
    text: str


def read_string(fd: int, key: str, value: str) -> str | None:
    """A string of the hive in an open file; None when it has none. Raises CustomiseError, ToolMissing."""
    answer = _helper({"file": f"/proc/self/fd/{fd}", "read": [[key, value]]}, fd)
    found = answer["read"][0]
    return None if found is None else str(found)


def change_strings(data: bytes, changes: Sequence[Change]) -> tuple[bytes, list[int]]:
    """The hive with the changes, and for each change at how many keys it was made.

    Values are made where their key exists; keys are not. Raises CustomiseError, ToolMissing.
    """
    check_clean(data)
    with tempfile.NamedTemporaryFile(prefix="pxeboot-hive-") as file:
        file.write(data)
        file.flush()
        answer = _helper({"file": file.name, "change": [list(change) for change in changes]})
        with open(file.name, "rb") as changed:
            return changed.read(), [int(count) for count in answer["change"]]


def check_clean(data: bytes) -> None:
    """Raises CustomiseError unless the bytes are a hive that was closed."""
    if data[:4] != b"regf" or len(data) < 8192:
        raise CustomiseError("The Windows registry is damaged: capture the image again.")
    if data[4:8] != data[8:12]:
        raise CustomiseError(
            "The Windows registry has changes under way, because that Windows was not shut down cleanly: "
            "start it, shut it down with `shutdown /s /t 0`, and capture the image again."
        )


def _helper(request: dict[str, Any], fd: int | None = None) -> dict[str, Any]:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "imaging.customise.hive"],
            input=json.dumps({"library": _LIBRARY, **request}).encode(),
            capture_output=True, timeout=_SECONDS, check=False,
            pass_fds=() if fd is None else (fd,),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise CustomiseError(f"The Windows registry could not be read within {_SECONDS} s.") from error
    if done.returncode == 3:
        raise ToolMissing(
            f"The library {_LIBRARY} is not installed: install libhivex0, or renew the boot environment."
        )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"status {done.returncode}"]
        raise CustomiseError(f"The Windows registry is damaged ({said[0][:200]}): capture the image again.")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


class _SetValue(ctypes.Structure):
    _fields_ = (
        ("key", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("length", ctypes.c_size_t),
        ("value", ctypes.c_char_p),
    )


class Hive:
    """An open hive. Methods raise OSError with libhivex's errno."""

    def __init__(self, path: str, *, write: bool = False, library: str = _LIBRARY) -> None:
        self._library = _load(library)
        self._handle = self._library.hivex_open(os.fsencode(path), _WRITE if write else 0)
        if not self._handle:
            raise _error("the hive cannot be opened")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.hivex_close(self._handle)

    def nodes(self, key: str) -> Iterator[int]:
        """The nodes a key means."""
        return self._below(self._library.hivex_root(self._handle), key.split("\\"))

    def _below(self, node: int, names: list[str]) -> Iterator[int]:
        if not node:
            return
        if not names:
            yield node
        elif "*" in names[0]:
            pattern = re.compile(re.escape(names[0]).replace(r"\*", ".*"), re.IGNORECASE)
            for child, name in self._children(node):
                if pattern.fullmatch(name):
                    yield from self._below(child, names[1:])
        else:
            ctypes.set_errno(0)
            child = self._library.hivex_node_get_child(self._handle, node, names[0].encode())
            if not child and ctypes.get_errno():  # no such key leaves errno alone
                raise _error("a key cannot be looked up")
            yield from self._below(child, names[1:])

    def _children(self, node: int) -> Iterator[tuple[int, str]]:
        found = self._library.hivex_node_children(self._handle, node)
        if not found:
            raise _error("a key's children cannot be read")
        try:
            index = 0
            while child := found[index]:
                name = self._library.hivex_node_name(self._handle, child)
                if not name:
                    raise _error("a key's name cannot be read")
                yield child, ctypes.string_at(name).decode("utf-8", "replace")
                self._library.free(name)
                index += 1
        finally:
            self._library.free(found)

    def string(self, node: int, value: str) -> str | None:
        """A string value of a node, None when it has none."""
        ctypes.set_errno(0)
        found = self._library.hivex_node_get_value(self._handle, node, value.encode())
        if not found:
            if ctypes.get_errno():
                raise _error(f"the value {value} cannot be looked up")
            return None
        text = self._library.hivex_value_string(self._handle, found)
        if not text:
            raise _error(f"the value {value} cannot be read")
        try:
            return ctypes.string_at(text).decode("utf-8", "replace")
        finally:
            self._library.free(text)

    def set_string(self, node: int, value: str, text: str) -> None:
        """Set a string value of a node, made if need be."""
        data = (text + "\0").encode("utf-16-le")
        new = _SetValue(value.encode(), _REG_SZ, len(data), data)
        if self._library.hivex_node_set_value(self._handle, node, ctypes.byref(new), 0) != 0:
            raise _error(f"the value {value} cannot be set")

    def commit(self) -> None:
        """Write the changes to the file that was opened."""
        if self._library.hivex_commit(self._handle, None, 0) != 0:
            raise _error("the changes cannot be written")


def _load(name: str) -> ctypes.CDLL:
    library = ctypes.CDLL(name, use_errno=True)
    handle, node = ctypes.c_void_p, ctypes.c_size_t
    for function_name, result, arguments in (
        ("hivex_open", handle, (ctypes.c_char_p, ctypes.c_int)),
        ("hivex_close", ctypes.c_int, (handle,)),
        ("hivex_root", node, (handle,)),
        ("hivex_node_get_child", node, (handle, node, ctypes.c_char_p)),
        ("hivex_node_children", ctypes.POINTER(node), (handle, node)),
        ("hivex_node_name", handle, (handle, node)),
        ("hivex_node_get_value", node, (handle, node, ctypes.c_char_p)),
        ("hivex_value_string", handle, (handle, node)),
        ("hivex_node_set_value", ctypes.c_int, (handle, node, ctypes.POINTER(_SetValue), ctypes.c_int)),
        ("hivex_commit", ctypes.c_int, (handle, ctypes.c_char_p, ctypes.c_int)),
        ("free", None, (ctypes.c_void_p,)),
    ):
        function = getattr(library, function_name)
        function.restype, function.argtypes = result, arguments
    return library


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")


def main() -> int:
    """Do the request on standard input; the answer on standard output. Status 3: there is no libhivex."""
    request = json.load(sys.stdin)
    try:
        _load(request["library"])
    except OSError:
        return 3
    changes = request.get("change", [])
    answer: dict[str, Any] = {"read": [], "change": []}
    try:
        with Hive(request["file"], write=bool(changes), library=request["library"]) as hive:
            for key, value in request.get("read", []):
                texts = [hive.string(node, value) for node in hive.nodes(key)]
                answer["read"].append(texts[0] if texts else None)
            for key, value, text in changes:
                nodes = list(hive.nodes(key))
                for node in nodes:
                    hive.set_string(node, value, text)
                answer["change"].append(len(nodes))
            if changes:
                hive.commit()
    except OSError as error:
        print(error.strerror, file=sys.stderr)
        return 1
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
