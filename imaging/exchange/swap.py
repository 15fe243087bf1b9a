"""The header page of a swap area, as mkswap writes it: programs that keep only UUID and label need it anew.

Layout: struct swap_header_v1_2 (util-linux include/swapheader.h, linux/swap.h), pages of 4 KiB.
"""

import struct
import uuid

PAGE = 4096
_INFO = struct.Struct("<III16s16s")  # version, last page, bad pages, UUID, label; at byte 1024
_SIGNATURE = b"SWAPSPACE2"


def header(size: int, identity: str, label: str) -> bytes:
    """The first page of a swap area of ``size`` bytes; ``identity`` is its UUID ("" = none).

    Raises ValueError for a malformed UUID.
    """
    number = uuid.UUID(identity).bytes if identity else bytes(16)
    last = min(size // PAGE - 1, 0xFFFFFFFF)
    page = bytearray(PAGE)
    _INFO.pack_into(page, 1024, 1, last, 0, number, label.encode()[:15])
    page[-len(_SIGNATURE) :] = _SIGNATURE
    return bytes(page)
