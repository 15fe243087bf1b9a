"""A version as one file for another server: manifest, signature, and every chunk's frame once.

Written and read from front to back. All integers are big-endian::

    8    "PXBBUNDL"
    2    version: 1
    2    flags: 0
    4    H, length of the description (at most 65536)
    H    description, JSON: image, version, note, created (texts, for people), key (the server's, hexadecimal)
    4    M, length of the manifest (at most 1 GiB)
    M    manifest (docs/image-format.md §3)
    64   Ed25519 signature over the manifest, by `key`
    then for each hash of the manifest, in the order of its first chunk:
    32   hash
    4    L, length of the frame
    L    zstd frame
    at the end:
    32   BLAKE3 over everything before

A reader knows from the manifest which records must come; each frame is checked against its hash.
"""

import itertools
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO

from blake3 import blake3

from imaging import ed25519
from imaging.capture import Missing, Upload
from imaging.chunks import MAX_FRAME, open_frame
from imaging.errors import ChunkInvalid, ImagingError
from imaging.exchange.errors import BundleInvalid
from imaging.exchange.paths import open_regular
from imaging.manifest import Manifest
from imaging.pipeline import Progress, no_progress

MAGIC = b"PXBBUNDL"
ENDING = "pxi"
_HEAD = struct.Struct(">8sHHI")
_LENGTH = struct.Struct(">I")
_RECORD = struct.Struct(">32sI")
_MAX_DESCRIPTION = 1 << 16
_MAX_MANIFEST = 1 << 30
_PIECE = 1 << 20
_BATCH = 64


class SignerUnknown(ImagingError):
    """The bundle was signed by a server whose key nobody here has declared trustworthy."""

    code = "signer-unknown"

    def __init__(self, key: str, what: str) -> None:
        super().__init__(
            f"{what} was signed by another server, whose key is {key}. If you know that server and see the "
            "same key there (pxeboot image files), import it once more and name this key as trusted."
        )
        self.key = key


@dataclass(frozen=True, slots=True)
class Description:
    """What a bundle says of itself; nothing of it but ``key`` is proven by anything."""

    image: str
    version: str
    note: str
    created: str
    key: str


@dataclass(frozen=True, slots=True)
class Opened:
    """A bundle whose beginning was read and checked; its signature is by ``description.key``."""

    description: Description
    manifest: Manifest
    signature: bytes


def write(
    target: IO[bytes],
    description: Description,
    data: bytes,
    signature: bytes,
    frame: Callable[[bytes], bytes],
    progress: Progress = no_progress,
) -> int:
    """Write a bundle of the manifest ``data``; returns its length in bytes.

    ``frame`` gives the stored frame of a hash. Stage told: ``write``, in chunks. Raises what ``frame`` and
    ``progress`` raise, OSError.
    """
    manifest = Manifest.from_bytes(data)
    text = json.dumps(asdict(description), sort_keys=True).encode()
    if len(text) > _MAX_DESCRIPTION:
        raise ValueError("the description is too long")
    hash = blake3()
    size = 0

    def put(*parts: bytes) -> None:
        nonlocal size
        for part in parts:
            hash.update(part)
            target.write(part)
            size += len(part)

    put(_HEAD.pack(MAGIC, 1, 0, len(text)), text, _LENGTH.pack(len(data)), data, signature)
    hashes = list(dict.fromkeys(manifest.hashes))
    for done, name in enumerate(hashes, 1):
        one = frame(name)
        put(_RECORD.pack(name, len(one)), one)
        progress("write", done, len(hashes))
    target.write(hash.digest())
    return size + 32


class _Reader:
    """Takes exact lengths from a file, and hashes what it takes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = blake3()
        self.at = 0

    def take(self, length: int, what: str) -> bytes:
        data = bytearray()
        while len(data) < length:
            piece = self._file.read(min(_PIECE, length - len(data)))
            if not piece:
                raise BundleInvalid(
                    f"The bundle ends in {what}, at byte {self.at + len(data)}: copy it again, it is cut."
                )
            data += piece
        self._hash.update(data)
        self.at += length
        return bytes(data)

    def end(self) -> None:
        wanted = self._hash.digest()
        if self.take(32, "its last hash") != wanted:
            raise BundleInvalid("The bundle's last hash does not fit what is before it: copy it again.")
        if self._file.read(1):
            raise BundleInvalid(f"The bundle goes on behind its end (byte {self.at}): copy it again.")


def look(path: Path) -> Opened:
    """Read and check the beginning of a bundle: description, manifest and signature.

    Raises BundleInvalid, ManifestError, PathRefused.
    """
    with _opened(path) as file:
        return _begin(_Reader(file))


def _opened(path: Path) -> IO[bytes]:
    try:
        return open_regular(path)
    except OSError as error:
        raise BundleInvalid(f"{path} cannot be read: {error.strerror}.") from error


def _begin(reader: _Reader) -> Opened:
    magic, version, flags, length = _HEAD.unpack(reader.take(_HEAD.size, "its head"))
    if magic != MAGIC:
        raise BundleInvalid("This is not a bundle of pxeboot: say what it is with --format.")
    if version != 1 or flags:
        raise BundleInvalid(f"Bundle format {version} ({flags}) is not known here: update this program.")
    if length > _MAX_DESCRIPTION:
        raise BundleInvalid("The bundle's description is too long: it is damaged.")
    try:
        found = json.loads(reader.take(length, "its description").decode())
        texts = {field.name: found[field.name] for field in fields(Description)}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BundleInvalid("The bundle's description cannot be read: it is damaged.") from None
    if any(not isinstance(text, str) or len(text) > 4096 for text in texts.values()):
        raise BundleInvalid("The bundle's description cannot be read: it is damaged.")
    description = Description(**texts)
    (length,) = _LENGTH.unpack(reader.take(_LENGTH.size, "its manifest"))
    if length > _MAX_MANIFEST:
        raise BundleInvalid("The bundle's manifest is too long: it is damaged.")
    data = reader.take(length, "its manifest")
    signature = reader.take(64, "its signature")
    try:
        key = bytes.fromhex(description.key)
    except ValueError:
        key = b""
    if not ed25519.verify(key, data, signature):
        raise BundleInvalid(
            "The bundle's signature does not fit its manifest and key: it is damaged, or forged."
        )
    return Opened(description, Manifest.from_bytes(data), signature)


def read(
    path: Path,
    *,
    trusted: frozenset[str],
    missing: Missing,
    upload: Upload,
    progress: Progress = no_progress,
) -> Opened:
    """Bring a bundle's chunks in, those that are missing; when it returns, all of them were uploaded.

    ``trusted`` are keys (hexadecimal) of servers whose signature counts. Stage told: ``import``, in chunks.
    Raises SignerUnknown (before anything is stored), BundleInvalid, ManifestError, PathRefused, and whatever
    the callbacks raise.
    """
    with _opened(path) as file:
        reader = _Reader(file)
        opened = _begin(reader)
        if opened.description.key not in trusted:
            raise SignerUnknown(opened.description.key, path.name)
        hashes = list(dict.fromkeys(opened.manifest.hashes))
        done = 0
        for batch in _batches(reader, hashes):
            lacking = missing([hash for hash, _ in batch])
            new = [record for record, lacks in zip(batch, lacking, strict=True) if lacks]
            if new:
                upload(new)
            done += len(batch)
            progress("import", done, len(hashes))
        reader.end()
    return opened


def _batches(reader: _Reader, hashes: list[bytes]) -> Iterator[list[tuple[bytes, bytes]]]:
    wanted = iter(hashes)
    while names := list(itertools.islice(wanted, _BATCH)):
        batch = []
        for name in names:
            at = reader.at
            hash, length = _RECORD.unpack(reader.take(_RECORD.size, "its chunks"))
            if hash != name or length > MAX_FRAME:
                raise BundleInvalid(f"The bundle has another chunk than its manifest says at byte {at}.")
            frame = reader.take(length, "its chunks")
            try:
                open_frame(hash, frame)
            except ChunkInvalid as error:
                raise BundleInvalid(f"The bundle is damaged at byte {at}: {error}") from None
            batch.append((hash, frame))
        yield batch
