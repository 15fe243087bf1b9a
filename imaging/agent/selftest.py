"""``python3 -m imaging.agent.selftest``: does this boot environment have all that the agent needs?

Prints what is there, then ``PXEBOOT SELFTEST OK`` or ``PXEBOOT SELFTEST FAILED: what is missing`` (exit
status 1).
"""

from __future__ import annotations

import ctypes
import importlib
import shutil
import sys
import time

MODULES = (
    "zstandard",
    "blake3",
    "imaging.manifest",
    "imaging.chunks",
    "imaging.ed25519",
    "imaging.capture",
    "imaging.deploy",
    "imaging.customise",
    "imaging.multicast.udp",
    "imaging.agent.main",
    "imaging.agent.tasks",
    "imaging.agent.capture",
    "imaging.agent.deploy",
    "imaging.agent.peers",
    "imaging.agent.customise",
    "imaging.agent.register",
)
NEEDED_TOOLS = (
    "partclone.extfs",
    "partclone.fat",
    "partclone.ntfs",
    "sfdisk",
    "sgdisk",
    "blkid",
    "mount",
    "e2fsck",
    "resize2fs",
    "mkfs.vfat",
    "ntfsfix",
    "dmidecode",
    "ntfs-3g",
    "setpriv",
    "unshare",
    "ssh-keygen",
)
HIVEX = "libhivex.so.0"
NICE_TOOLS = ("efibootmgr", "partclone.xfs", "partclone.btrfs", "ethtool", "nvme", "busybox")


def main() -> int:
    """Print the report; 0 when nothing that is needed is missing."""
    from imaging.agent import VERSION

    missing: list[str] = []
    print(f"pxeboot agent {VERSION}, Python {sys.version.split()[0]}")
    for name in MODULES:
        start = time.monotonic()
        try:
            importlib.import_module(name)
        except Exception as error:
            missing.append(name)
            print(f"  module {name}: {type(error).__name__}: {error}")
        else:
            print(f"  module {name}: {1000 * (time.monotonic() - start):.0f} ms")
    for name in (*NEEDED_TOOLS, *NICE_TOOLS):
        path = shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        print(f"  tool {name}: {path or 'missing'}")
        if path is None and name in NEEDED_TOOLS:
            missing.append(name)
    missing += _registry()
    _machine()
    if missing:
        print(f"PXEBOOT SELFTEST FAILED: {' '.join(missing)}", flush=True)
        return 1
    print("PXEBOOT SELFTEST OK", flush=True)
    return 0


def _registry() -> list[str]:
    """What is missing of the library that reads registries, and of the alphabets it needs."""
    libc = ctypes.CDLL(None)
    libc.iconv_open.restype = ctypes.c_void_p
    nothing = ctypes.c_void_p(-1).value
    missing = [
        f"iconv-{name}"
        for name in ("LATIN1", "UTF-16LE")
        if libc.iconv_open(b"UTF-8", name.encode()) == nothing
    ]
    try:
        ctypes.CDLL(HIVEX)
    except OSError:
        missing.append(HIVEX)
    print(f"  registry: {' '.join(missing) or 'can be read'}")
    return missing


def _machine() -> None:
    from imaging.agent.inventory import collect

    found = collect()
    print(
        f"  machine {found['manufacturer']} {found['product']} uuid {found['uuid']} serial {found['serial']}"
    )
    print(
        f"  firmware {found['firmware']} secure boot {found['secure_boot']} "
        f"memory {found['memory_bytes'] >> 20} MiB"
    )
    print(f"  cpu {found['cpu']['model']} threads {found['cpu']['threads']}")
    for disk in found["disks"]:
        print(
            f"  disk {disk['path']} {disk['size']} bytes {disk['transport']} {disk['model']} "
            f"serial {disk['serial']}"
        )
    for nic in found["nics"]:
        print(f"  nic {nic['name']} {nic['mac']} driver {nic['driver']} link {nic['link']}")


if __name__ == "__main__":
    sys.exit(main())
