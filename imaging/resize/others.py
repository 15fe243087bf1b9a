"""Swap, FAT, exFAT, F2FS and LVM physical volumes: what can be done with each takes one command."""

from __future__ import annotations

import secrets
import uuid

from imaging.errors import ResizeFailed
from imaging.resize.tools import LONG, SHORT, Log, run


def grow_swap(path: str, log: Log) -> None:
    """A new header over the whole device, with the UUID and label of the old one."""
    with open(path, "rb", buffering=0) as file:
        page = file.read(4096)
    # struct swap_header_v1_2 (linux/swap.h): sws_uuid, sws_volume.
    if page[4086:4096] != b"SWAPSPACE2":
        raise ResizeFailed("There is no swap area here any more: deploy the image again.")
    words = ["-U", str(uuid.UUID(bytes=page[1036:1052]))] if any(page[1036:1052]) else []
    label = page[1052:1068].split(b"\0")[0].decode("utf-8", "replace")
    words += ["-L", label] if label else []
    run("mkswap", *words, path, seconds=SHORT, log=log)


def renew_swap(path: str, log: Log) -> str:
    new = str(uuid.uuid4())
    run("swaplabel", "-U", new, path, seconds=SHORT, log=log)
    return new


def renew_fat(path: str, log: Log) -> str:
    new = secrets.token_hex(4).upper()
    run("fatlabel", "-i", path, new, seconds=SHORT, log=log)
    return f"{new[:4]}-{new[4:]}"


def grow_f2fs(path: str, log: Log) -> None:
    run("resize.f2fs", path, seconds=LONG, log=log)


def grow_lvm(path: str, log: Log) -> None:
    run("pvresize", path, seconds=SHORT, log=log)
