"""Giving a Windows its computer name: through setup's answer file when the image was prepared by sysprep,
else straight in the offline registry.
"""

from __future__ import annotations

import re
import struct

from imaging.customise.hive import MAX_HIVE, Change, change_strings, read_string
from imaging.customise.order import Windows
from imaging.customise.tree import Tree, parts
from imaging.customise.unattend import MAX_BYTES, Answers, render
from imaging.errors import CustomiseError

SYSTEM_HIVE = "Windows/System32/config/SYSTEM"
SOFTWARE_HIVE = "Windows/System32/config/SOFTWARE"
ANSWER_FILE = "Windows/Panther/unattend.xml"
_KERNEL = "Windows/System32/ntoskrnl.exe"
_STATE_KEY = r"Microsoft\Windows\CurrentVersion\Setup\State"
_COMPLETE = "IMAGE_STATE_COMPLETE"
# PE format, "Machine Types".
_MACHINES = {0x8664: "amd64", 0x014C: "x86", 0xAA64: "arm64"}
_NETBIOS = 15


def computer_name(hostname: str) -> str:
    """The NetBIOS name of a host: its first label, upper case, cut to 15 characters.

    Raises CustomiseError for a name of digits alone, which Windows refuses.
    """
    name = hostname.partition(".")[0][:_NETBIOS].rstrip("-").upper()
    if name.isdecimal():
        raise CustomiseError(f"{hostname!r} cannot name a Windows computer: it needs a letter.")
    return name


def prepared(tree: Tree) -> bool:
    """Was this Windows prepared by sysprep, so that setup runs at its next start?

    The registry says so (ImageState); where its hive is missing, an answer file that waits does.
    """
    fd = tree.open_file(SOFTWARE_HIVE)
    if fd is None:
        return tree.is_file(ANSWER_FILE)
    with open(fd, "rb"):
        state = read_string(fd, _STATE_KEY, "ImageState")
    return state is not None and state != _COMPLETE


def way(tree: Tree, wanted: str) -> str:
    """``registry`` or ``unattend``: as the setting says, else (``auto``) as the image was made."""
    if wanted != "auto":
        return wanted
    return "unattend" if prepared(tree) else "registry"


def name_in_registry(tree: Tree, hostname: str) -> str:
    """Write the computer name into every control set; returns a sentence. Raises CustomiseError."""
    name = computer_name(hostname)
    data = tree.read(SYSTEM_HIVE, MAX_HIVE)
    if data is None:
        raise CustomiseError("This Windows has no registry (SYSTEM hive): check the image.")
    names = r"ControlSet*\Control\ComputerName"
    parameters = r"ControlSet*\Services\Tcpip\Parameters"
    changed, counts = change_strings(
        data,
        [
            Change(rf"{names}\ComputerName", "ComputerName", name),
            # Made by Windows itself at each start; there is one where the hive was saved while it ran.
            Change(rf"{names}\ActiveComputerName", "ComputerName", name),
            Change(parameters, "Hostname", hostname.partition(".")[0]),
            Change(parameters, "NV Hostname", hostname.partition(".")[0]),
        ],
    )
    if not counts[0]:
        raise CustomiseError("The registry of this Windows has no computer name to change: check the image.")
    tree.overwrite(SYSTEM_HIVE, changed)
    return f"{name} in {counts[0]} control set{'' if counts[0] == 1 else 's'}"


def answer(tree: Tree, hostname: str | None, windows: Windows, drivers: bool) -> str:
    """Write our answers into the answer file, which setup reads at the next start; returns a sentence."""
    existing = tree.read(ANSWER_FILE, MAX_BYTES)
    computer = computer_name(hostname) if hostname else ""
    data = render(
        existing,
        Answers(
            computer=computer,
            windows=windows,
            architecture=architecture(tree, existing),
            install_drivers_from=windows_path(windows.drivers_path)
            if drivers and windows.install_drivers
            else "",
        ),
    )
    tree.write(ANSWER_FILE, data, make=True)
    said = [computer or "no name"]
    if windows.join is not None:
        said.append("joins by provisioning data" if windows.join.blob else f"joins {windows.join.domain}")
    return f"{'changed' if existing else 'new'} answer file: " + ", ".join(said)


def architecture(tree: Tree, existing: bytes | None) -> str:
    """What processors this Windows is for, by its kernel's PE header; else as its answer file says."""
    fd = tree.open_file(_KERNEL)
    if fd is not None:
        with open(fd, "rb") as file:
            head = file.read(4096)
        if head[:2] == b"MZ" and len(head) >= 64:
            at = struct.unpack_from("<I", head, 60)[0]
            if at + 6 <= len(head) and head[at : at + 4] == b"PE\0\0":
                return _MACHINES.get(struct.unpack_from("<H", head, at + 4)[0], "amd64")
    said = re.search(rb'processorArchitecture="(amd64|x86|arm64)"', existing or b"")
    return said[1].decode() if said else "amd64"


def legal(name: str) -> str:
    """A name as Windows allows it: server folders may be patterns (``Latitude 5*``) or end with a dot."""
    made = re.sub(r'[<>:"|?*\x00-\x1f]', "_", name)
    return re.sub(r"[. ]$", "_", made)


def windows_path(path: str) -> str:
    """A path on the system's drive as Windows writes it."""
    return "C:\\" + "\\".join(parts(path))
