"""Opening after a crash: whole records that the index does not know are indexed, torn tails are cut off."""

import os

from imaging.errors import StoreError
from imaging.store.index import Index
from imaging.store.packs import PACK_HEAD, PACK_MAGIC, PACK_VERSION, Place, pack_numbers, pack_path, scan
from imaging.store.writer import PackDirectory

#: Rows in one transaction when a whole index is rebuilt.
_BATCH = 20_000


def recover(packs: PackDirectory, index: Index) -> None:
    """Read what lies behind the index's end of each pack; without an index that is everything.

    A record that is not whole is skipped, never a reason to give up those behind it. Raises StoreError.
    """
    ends = index.ends()
    for number in pack_numbers(packs.path):
        path = pack_path(packs.path, number)
        try:
            # Shorter is damage: frame() says so when it meets it. Unknown and empty: killed as it was made.
            if number not in ends or path.stat().st_size > ends[number]:
                _recover(packs, index, number, ends.get(number, 0))
        except OSError as error:
            raise StoreError(
                f"The pack {path} cannot be repaired: {error.strerror}. Check the disk it is on."
            ) from error


def _recover(packs: PackDirectory, index: Index, number: int, end: int) -> None:
    path = pack_path(packs.path, number)
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        head = os.pread(fd, PACK_HEAD.size, 0)
        if len(head) == PACK_HEAD.size:
            magic, version, _ = PACK_HEAD.unpack(head)
            if magic == PACK_MAGIC and version > PACK_VERSION and not end:
                raise StoreError(f"The pack {path} has version {version}: update this program.")
        os.fsync(fd)  # what a killed process wrote may not be on the disk yet, and is about to be indexed
        found: list[tuple[bytes, Place]] = []
        for hash, place in scan(packs.path, number, end):
            found.append((hash, place))
            end = place.end
            if len(found) >= _BATCH:
                index.change(add=found, ends={number: end})
                found = []
        if not end:
            path.unlink()  # not one whole record: begun by a crash
            return
        os.ftruncate(fd, end)
        os.fsync(fd)
    finally:
        os.close(fd)
    index.change(add=found, ends={number: end})
