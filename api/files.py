"""Answers with a file's content as firmware needs them: Range, strong ETag, preconditions, no redirects.

UEFI HTTP Boot asks HEAD, then GET on the same connection, and goes on after a break with Range and If-Match
or If-Unmodified-Since (EDK2, NetworkPkg/HttpBootDxe/HttpBootClient.c).
"""

from __future__ import annotations

import hashlib
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from typing import Final

from fastapi import Request, Response
from fastapi.responses import FileResponse
from starlette.datastructures import Headers

# What EDK2 takes for an EFI program or a disk in memory (HttpBootSupport.c); else it looks at the suffix.
TYPES: Final = {".efi": "application/efi", ".iso": "application/vnd.efi-iso"}


class BigFile(FileResponse):
    """A file in pieces of 1 MiB: each costs a hop to a thread, and an initramfs has a hundred of them."""

    chunk_size = 1 << 20


def file_answer(path: Path, request: Request) -> Response:
    """The file at `path`, which must be there. 206 and 416 for ranges, 304 and 412 as asked."""
    status = path.stat()
    # A file that is replaced by another of the same size in the same second must not look the same.
    etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"'
    refused = precondition(request.method, request.headers, etag, status.st_mtime)
    headers = {"ETag": etag, "Last-Modified": formatdate(status.st_mtime, usegmt=True)}
    if refused == 304:
        return Response(status_code=304, headers=headers)
    if refused:
        return Response("The file is another one now.\n", refused, headers, "text/plain")
    kind = TYPES.get(path.suffix.lower(), "application/octet-stream")
    return BigFile(path, media_type=kind, headers=headers, stat_result=status)


def text_answer(content: bytes, request: Request) -> Response:
    """A made-up text, always whole; a server may ignore Range (RFC 9110 §14.2)."""
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "no-store", "Accept-Ranges": "none"}
    refused = precondition(request.method, request.headers, etag, None)
    if refused == 304:
        return Response(status_code=304, headers=headers)
    if refused:
        return Response("The file is another one now.\n", refused, headers, "text/plain")
    return Response(content, headers=headers, media_type="text/plain; charset=utf-8")


def precondition(method: str, headers: Headers, etag: str, modified: float | None) -> int:
    """304 or 412 if the request's conditions say so, else 0; in the order of RFC 9110 §13.2.2.

    `modified` is in seconds since the epoch; HTTP knows whole seconds. Unreadable dates count as none.
    """
    second = None if modified is None else int(modified)
    if (wanted := headers.get("if-match")) is not None:
        if not _names(wanted, etag, weak=False):
            return 412
    elif (
        (since := _date(headers.get("if-unmodified-since"))) is not None
        and second is not None
        and second > since
    ):
        return 412
    if (wanted := headers.get("if-none-match")) is not None:
        if _names(wanted, etag, weak=True):
            return 304 if method in ("GET", "HEAD") else 412
    elif (
        (since := _date(headers.get("if-modified-since"))) is not None
        and second is not None
        and second <= since
    ):
        return 304
    return 0


def _names(field: str, etag: str, *, weak: bool) -> bool:
    tags = [tag.strip() for tag in field.split(",")]
    if weak:
        tags = [tag.removeprefix("W/") for tag in tags]
    return "*" in tags or etag in tags


def _date(text: str | None) -> float | None:
    if not text:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
