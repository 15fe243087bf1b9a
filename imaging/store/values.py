"""What the chunk store tells: small values that its methods return. Sizes are bytes."""

from collections.abc import Callable
from typing import NamedTuple

from imaging.errors import ImagingError

#: ``progress(done, total)``; the unit is said where it is called.
Progress = Callable[[int, int], None]
#: Asked often by everything that takes long: True means end soon, and leave the store sound.
Stop = Callable[[], bool]


def no_progress(done: int, total: int) -> None:
    """For who does not want to know."""


def never() -> bool:
    """For who does not want to stop."""
    return False


class BadChunk(NamedTuple):
    """What verify() found: the chunk, and ChunkMissing or ChunkInvalid with the reason."""

    hash: bytes
    error: ImagingError


class Pruned(NamedTuple):
    """What prune() did: chunks forgotten, bytes freed on disk (net), packs deleted and packs rewritten.

    ``manifests`` were deleted because ``keep`` did not name them; ``held`` chunks are named by no manifest
    but wanted by a capture under way; ``packs_left`` should be rewritten and were not (no room, damage or
    stopped).
    """

    chunks: int
    bytes: int
    packs: int = 0
    rewritten: int = 0
    packs_left: int = 0
    manifests: int = 0
    held: int = 0
    stopped: bool = False


class Recompressed(NamedTuple):
    """What recompress() did. ``before`` and ``after`` are the frame bytes of the chunks that became smaller.

    ``readers``: it ended because another process has the store open and must see unchanged frames.
    """

    chunks: int
    before: int
    after: int
    packs: int
    freed: int
    stopped: bool = False
    readers: bool = False


class StoreTotals(NamedTuple):
    """``free`` is what the file system has left, ``reserve`` what chunks may not take."""

    chunks: int
    stored: int
    damaged: int
    free: int
    reserve: int


class Statistics(NamedTuple):
    """The store in numbers.

    ``named`` is the plain size of all versions as if each were kept alone; ``plain`` that of the chunks kept;
    ``stored`` the length of their frames; ``packed`` what the pack files take on disk. ``last_scrub`` is in
    seconds since 1970, 0 for never.
    """

    manifests: int
    chunks: int
    named: int
    plain: int
    stored: int
    packs: int
    packed: int
    damaged: int
    free: int
    reserve: int
    last_scrub: float

    @property
    def dedup_ratio(self) -> float:
        """How many times smaller deduplication makes the versions; 1 for an empty store."""
        return self.named / self.plain if self.plain and self.named else 1.0

    @property
    def compression_ratio(self) -> float:
        """How many times smaller zstd makes the chunks; 1 for an empty store."""
        return self.plain / self.stored if self.stored else 1.0

    @property
    def waste(self) -> int:
        """Bytes in packs that no chunk needs: what pruning could give back."""
        return max(0, self.packed - self.stored)


class Usage(NamedTuple):
    """What a version takes: chunks, plain bytes and stored bytes that only it names, and that others share.

    Deleting the version and pruning gives back about ``unique_stored``.
    """

    unique_chunks: int
    unique_plain: int
    unique_stored: int
    shared_chunks: int
    shared_plain: int
    shared_stored: int


class Finding(NamedTuple):
    """One thing scrub() found: ``kind`` is ``chunk``, ``manifest``, ``signature`` or ``index``.

    ``name`` is the hash or identity in hexadecimal; ``sentence`` says what to do; ``versions`` are the
    identities of the manifests that it hits.
    """

    kind: str
    name: str
    sentence: str
    versions: tuple[str, ...] = ()


class ScrubReport(NamedTuple):
    """What scrub() did since it last began at the start, over restarts.

    ``complete`` is False when it was stopped (it goes on from there). ``damaged`` chunks are known to be bad
    or missing, ``findings`` names at most 1,000 things. ``versions``: identity to the number of its chunks
    that cannot be served. ``repaired`` index rows were wrong and are right again.
    """

    complete: bool
    bytes: int
    chunks: int
    damaged: int
    repaired: int
    findings: tuple[Finding, ...]
    versions: dict[str, int]
