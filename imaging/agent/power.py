"""Leaving the machine: reboot or power off at once, without an init that could hang."""

from __future__ import annotations

import ctypes
import os

# linux/reboot.h
_RESTART, _POWER_OFF = 0x01234567, 0x4321FEDC


def in_boot_environment(proc: str = "/proc") -> bool:
    """Did the kernel itself start with our words? Only then may the agent touch real disks and the power."""
    try:
        with open(f"{proc}/cmdline", encoding="utf-8", errors="replace") as file:
            return any(word.startswith("pxeboot.url=") for word in file.read().split())
    except OSError:
        return False


def leave(then: str) -> None:
    """Flush disks, then reboot or power off this machine; does not return when it worked."""
    os.sync()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.reboot(ctypes.c_int(_POWER_OFF if then == "poweroff" else _RESTART))
    os.execvp("busybox", ["busybox", "poweroff" if then == "poweroff" else "reboot", "-f"])
