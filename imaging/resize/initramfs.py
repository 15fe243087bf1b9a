"""Telling an initramfs made by initramfs-tools where the swap area is now, without unpacking it.

The kernel unpacks archives that follow one another, later files winning (kernel:
Documentation/driver-api/early-userspace/buffer-format.rst), and initramfs-tools reads every file in
conf/conf.d in order: so an archive of one small file behind the old one is enough.
"""

from __future__ import annotations

#: Read after Debian's zz-resume-auto.
NAME = "conf/conf.d/zzz-pxeboot-resume"


def resume_archive(uuid: str, length: int) -> bytes:
    """What to append to an initramfs of ``length`` bytes so that it resumes from this swap area.

    Begins with the zeros that bring an archive to a multiple of four bytes, as the format wants it.
    """
    return (
        bytes(-length % 4)
        + _entry(NAME, f"RESUME=UUID={uuid}\n".encode(), 0o100644)
        + _entry("TRAILER!!!", b"", 0)
    )


def resume_setting(files: list[str]) -> str:
    """The last RESUME= of initramfs-tools' configuration files (in order); "" when there is none."""
    found = ""
    for text in files:
        for line in text.splitlines():
            name, equals, value = line.strip().partition("=")
            if equals and name == "RESUME":
                found = value.strip().strip("\"'")
    return found


def _entry(name: str, data: bytes, mode: int) -> bytes:
    encoded = name.encode() + b"\0"
    # "newc": magic, then thirteen numbers of eight hexadecimal digits (cpio(5)).
    numbers = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % number for number in numbers) + encoded
    head += bytes(-len(head) % 4)
    return head + data + bytes(-len(data) % 4)
