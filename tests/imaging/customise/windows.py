"""A Windows as far as an offline tool sees it: hives made from scratch, filled by hivexregedit, on NTFS.

There is no real Windows here. A minimal hive is written by hand (header, one bin, root key, security cell:
"Windows registry file format specification", M. Suhanov); hivex's own tools fill it and read the results.
"""

from __future__ import annotations

import struct
from functools import reduce
from pathlib import Path

from tests.imaging.disks import run

STATES = {"complete": "IMAGE_STATE_COMPLETE", "sysprepped": "IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE"}
NAMES = r"ControlSet{:03}\Control\ComputerName"
PARAMETERS = r"ControlSet{:03}\Services\Tcpip\Parameters"


def empty_hive() -> bytes:
    """A hive with a root key and nothing else."""
    nothing = 0xFFFFFFFF
    name = b"ROOT"
    key = struct.pack(
        "<2sHqIIIIIIIIIIHHIIIIHH", b"nk", 0x2C, 0, 0, 0, 0, 0, nothing, nothing, 0, nothing,
        32 + 96, nothing, 0, 0, 0, 0, 0, 0, len(name), 0,
    ) + name  # fmt: skip
    root = struct.pack("<i", -96) + key.ljust(92, b"\0")
    descriptor = struct.pack("<BBHIIII", 1, 0, 0x8000, 0, 0, 0, 0)
    security = struct.pack("<2sHIIII", b"sk", 0, 128, 128, 1, len(descriptor)) + descriptor
    cell = struct.pack("<i", -56) + security.ljust(52, b"\0")
    rest = 4096 - 32 - len(root) - len(cell)
    hbin = struct.pack("<4sIIQQI", b"hbin", 0, 4096, 0, 0, 0) + root + cell + struct.pack("<i", rest)
    head = struct.pack("<4sIIQIIIIIII", b"regf", 1, 1, 0, 1, 3, 0, 1, 32, 4096, 1).ljust(508, b"\0")
    checksum = reduce(int.__xor__, struct.unpack("<127I", head))
    return (head + struct.pack("<I", checksum)).ljust(4096, b"\0") + hbin.ljust(4096, b"\0")


def hive(path: Path, keys: dict[str, dict[str, str]]) -> Path:
    """A hive file with keys of string values, put in by hivexregedit."""
    path.write_bytes(empty_hive())
    lines = ["Windows Registry Editor Version 5.00", ""]
    for key, values in keys.items():
        above = key.split("\\")
        for depth in range(1, len(above) + 1):
            line = "[HKEY\\" + "\\".join(above[:depth]) + "]"
            if line not in lines:
                lines += [line, ""]
        at = lines.index("[HKEY\\" + key + "]") + 1
        lines[at:at] = [f'"{name}"="{text}"' for name, text in values.items()]
    text = path.with_suffix(".reg")
    text.write_text("\n".join(lines) + "\n")
    run("hivexregedit", "--merge", "--prefix", "HKEY", path, text)
    text.unlink()
    return path


def value(path: Path, key: str, name: str) -> str:
    """A string as hivexsh, which is not ours, reads it."""
    words = f"cd {key}\nlsval {name}\n"
    return run("hivexsh", path, input=words.encode()).strip()


def system_hive(path: Path, sets: int = 2, active: bool = True) -> Path:
    keys: dict[str, dict[str, str]] = {}
    for number in range(1, sets + 1):
        names = NAMES.format(number)
        keys[rf"{names}\ComputerName"] = {"ComputerName": "REFERENCE"}
        if active and number == 1:
            keys[rf"{names}\ActiveComputerName"] = {"ComputerName": "REFERENCE"}
        keys[PARAMETERS.format(number)] = {"Hostname": "reference", "NV Hostname": "reference"}
    keys["Select"] = {"Kept": "untouched"}
    return hive(path, keys)


def software_hive(path: Path, state: str) -> Path:
    key = r"Microsoft\Windows\CurrentVersion\Setup\State"
    return hive(path, {key: {"ImageState": STATES[state]}})


def windows_tree(root: Path, state: str, *, sets: int = 2) -> Path:
    """The files of a Windows below a directory."""
    config = root / "Windows/System32/config"
    config.mkdir(parents=True)
    system_hive(config / "SYSTEM", sets)
    software_hive(config / "SOFTWARE", state)
    (root / "Windows/Panther").mkdir()
    pe = bytearray(4096)
    pe[:2], pe[60:64], pe[128:134] = b"MZ", struct.pack("<I", 128), b"PE\0\0\x64\x86"
    (root / "Windows/System32/ntoskrnl.exe").write_bytes(pe)
    return root
