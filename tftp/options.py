"""Which of a request's options are granted (RFC 2347, 2348, 2349, 7440), and the limits that decide it."""

from __future__ import annotations

from dataclasses import dataclass

from tftp.packet import BLKSIZE_MAX, BLKSIZE_MIN, ReadRequest

__all__ = ["HEADERS", "Limits", "agree"]

HEADERS = 20 + 8 + 4
"""IPv4, UDP and TFTP headers, in octets: a block of MTU - 32 travels unfragmented."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a transfer goes along with its peer; times in seconds."""

    mtu: int = 1500
    """Path MTU to the peer in octets: many boot ROMs cannot put fragments together."""
    windowsize: int = 64
    """Largest window granted, in blocks; 64 is also what one UDP GSO call can carry."""
    timeout: float = 1.0
    """First wait for an acknowledgement when the peer asked for no other; doubles with each try."""
    timeout_max: float = 8.0
    """Longest wait between two tries."""
    timeout_option_max: int = 30
    """A timeout option above this is not granted: a dead peer must not hold a socket for minutes."""
    tries: int = 6
    """How often a window is sent before the peer counts as gone."""
    netascii_max: int = 16 << 20
    """Largest file converted to netascii, in octets; conversion happens in memory."""

    @property
    def blksize(self) -> int:
        """Largest block that fits the MTU, in octets, within RFC 2348's range."""
        return max(BLKSIZE_MIN, min(BLKSIZE_MAX, self.mtu - HEADERS))


def agree(request: ReadRequest, size: int, limits: Limits) -> dict[str, tuple[str, int]]:
    """Return the options we grant: lower-case name → (the request's spelling, value).

    Only what was asked is answered, never with a larger number, and timeout only with the number asked: EDK2
    ends the transfer with ERROR 4 or 8 otherwise (`Mtftp4RrqOackValid`). A value that is no number in its
    RFC's range is left out, as if we did not know the option (RFC 2347).
    """
    granted: dict[str, tuple[str, int]] = {}
    for spelling, text in request.options:
        if not (text.isascii() and text.isdigit() and len(text) <= 20):
            continue
        value = int(text)
        match spelling.lower():
            case "blksize" if value >= BLKSIZE_MIN:
                granted["blksize"] = spelling, min(value, limits.blksize)
            case "tsize":
                granted["tsize"] = spelling, size
            case "timeout" if 1 <= value <= min(255, limits.timeout_option_max):
                granted["timeout"] = spelling, value
            case "windowsize" if 1 <= value <= 65535:
                granted["windowsize"] = spelling, min(value, limits.windowsize)
    return granted
