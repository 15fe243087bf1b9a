"""Reading everything that is kept, slowly, to find flipped bits before a classroom does.

First the index and the manifests with their signatures, then each pack. Every record carries its check, so
damage shows without decompressing. Where it stopped it goes on, over restarts. Index rows that lie are put
right from the packs; what cannot be put right is marked, is from then on neither served nor called present,
and the next capture that has it heals it.
"""

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator

from imaging.errors import ChunkInvalid, ManifestError, ManifestMissing, StoreError
from imaging.manifest import CHUNK_SIZE
from imaging.store.index import Row
from imaging.store.manifests import SIGNATURE_SIZE
from imaging.store.outline import outline
from imaging.store.pace import Pace
from imaging.store.packs import RECORD, Place, name_at, pack_numbers, read_frame, scan
from imaging.store.parts import Parts
from imaging.store.values import Finding, Progress, ScrubReport

#: Bytes after which the place is noted, so that a restart repeats little.
NOTE_BYTES = 64 << 20
MOST_FINDINGS = 1000
CURSOR, FINISHED = "scrub", "scrubbed"
CheckSignature = Callable[[bytes, bytes], bool]


def scrub(
    parts: Parts,
    pace: Pace,
    progress: Progress,
    *,
    check_signature: CheckSignature | None = None,
    restart: bool = False,
    now: Callable[[], float] = time.time,
) -> ScrubReport:
    """See ChunkStore.scrub."""
    parts.intake.commit()
    run = _Scrub(parts, pace, progress, check_signature)
    run.go_on(restart)
    complete = run.manifests() and run.packs()
    return run.report(complete, now())


class _Scrub:
    def __init__(
        self, parts: Parts, pace: Pace, progress: Progress, check_signature: CheckSignature | None
    ) -> None:
        self._parts, self._pace, self._progress = parts, pace, progress
        self._check_signature = check_signature
        self._findings: list[Finding] = []
        self._pack = self._offset = self._bytes = self._chunks = self._repaired = self._noted = 0
        self._lost: set[bytes] = set()  # named by a manifest, and the index does not have it
        self._strays: set[bytes] = set()  # the index has it in a place where something else lies

    def go_on(self, restart: bool) -> None:
        """Take up the place where the last scrub was stopped."""
        try:
            place = json.loads(self._parts.index.note(CURSOR) or "{}")
            if not restart:
                self._pack, self._offset = int(place.get("pack", 0)), int(place.get("offset", 0))
                self._bytes, self._chunks = int(place.get("bytes", 0)), int(place.get("chunks", 0))
                self._repaired = int(place.get("repaired", 0))
        except (ValueError, TypeError, AttributeError):
            pass  # a flipped bit here only costs reading again
        self._noted = self._bytes

    def _note(self) -> None:
        place = {"pack": self._pack, "offset": self._offset, "bytes": self._bytes}
        place |= {"chunks": self._chunks, "repaired": self._repaired}
        self._parts.index.change(notes={CURSOR: json.dumps(place)})
        self._noted = self._bytes

    def _found(self, kind: str, name: str, sentence: str, versions: tuple[str, ...] = ()) -> None:
        if len(self._findings) < MOST_FINDINGS:
            self._findings.append(Finding(kind, name, sentence, versions))

    # --- index and manifests: seconds, and done again by each start ---

    def manifests(self) -> bool:
        """Index, manifests, signatures, and whether every chunk they name is known; False when stopped."""
        for problem in self._parts.index.check():
            self._found(
                "index",
                "index.sqlite",
                f"The store's index is damaged ({problem}): stop the server, move index.sqlite away and "
                "start again; it is then rebuilt from the packs.",
            )
        for hash in self._parts.index.drop_impossible():
            self._strays.add(hash)
        for id in self._parts.manifests.list():
            try:
                data, signature = self._parts.manifests.get(id)
                disks = outline(data)
            except ManifestMissing:
                # Deleted meanwhile, or its signature is gone.
                if self._parts.manifests.written(id):
                    self._bad_signature(id, "is gone")
                continue
            except (ManifestError, StoreError) as error:
                self._found("manifest", id, str(error), (id,))
                continue
            if not self._pace.take(len(data)):
                return False
            if len(signature) != SIGNATURE_SIZE or (
                self._check_signature is not None and not self._check_signature(data, signature)
            ):
                self._bad_signature(id, "is not the one of its manifest")
            hashes = list(dict.fromkeys(hash for disk in disks for hash in disk.names()))
            self._lost.update(set(hashes) - self._parts.index.rows(hashes).keys())
        return True

    def _bad_signature(self, id: str, what: str) -> None:
        self._found(
            "signature",
            id,
            f"The signature of version {id} {what}: no machine will accept the version. Its manifest is "
            "whole: let the server sign it again, or capture the image again.",
            (id,),
        )

    # --- packs ---

    def packs(self) -> bool:
        """Read every record that the index names, from the cursor on; False when stopped."""
        index = self._parts.index
        numbers = sorted({*index.ends(), *index.packs_named()})
        total = self._bytes + sum(
            live for number in numbers if number >= self._pack for live in [index.live(number)[1]]
        )
        for number in numbers:
            if number < self._pack:
                continue
            if number > self._pack:
                self._pack, self._offset = number, 0
            bad: list[Row] = []
            for page in index.pages(number, self._offset or -1):
                for row in page:
                    size = RECORD.size + (row.place.length if type(row.place.length) is int else 0)
                    if not self._pace.take(min(size, 2 * CHUNK_SIZE)):
                        self._mend(number, bad)
                        self._note()
                        return False
                    if not self._is_sound(row):
                        bad.append(row)
                    self._offset = row.place.offset
                    self._bytes += size
                    self._chunks += 1
                    if self._bytes - self._noted >= NOTE_BYTES:
                        self._mend(number, bad)
                        bad = []
                        self._note()
                        self._progress(self._bytes, max(total, self._bytes))
            self._mend(number, bad)
            self._progress(self._bytes, max(total, self._bytes))
        return self._search()

    def _is_sound(self, row: Row) -> bool:
        try:
            read_frame(self._parts.packs.path, row.hash, row.place)
        except (ChunkInvalid, FileNotFoundError):
            # Moved by a prune since the page was read? Then it is read where it lies now.
            return self._parts.index.find(row.hash) != row.place
        if row.damaged:
            self._parts.index.change(sound=[(row.hash, row.place)])  # what a bad cable said, or a healed disk
        return True

    def _mend(self, number: int, bad: list[Row]) -> None:
        """Search the pack for what its rows misplace; mark what is not there."""
        if not bad:
            return
        offsets, hashes = {row.place.offset for row in bad}, {row.hash for row in bad}
        found: dict[bytes, Place] = {}
        with contextlib.suppress(OSError):  # a pack that is gone or cannot be read: all its chunks are bad
            for hash, place in self._scan(number):
                # The second case: a row whose hash was changed hides the chunk that lies at its place.
                if hash in hashes or place.offset in offsets:
                    found[hash] = place
        known = self._parts.index.rows(list(found))
        better = {hash: place for hash, place in found.items() if hash in hashes or hash not in known}
        false = [row for row in bad if row.hash not in found]
        self._strays |= {row.hash for row in false if name_at(self._parts.packs.path, row.place) != row.hash}
        taken = {place[:2] for place in better.values()}
        self._parts.index.change(
            # A false row would keep the true one from its place (unique).
            remove=[(row.hash, row.place) for row in false if row.place[:2] in taken],
            damaged=[(row.hash, row.place) for row in false],
        )
        self._parts.index.change(add=better.items())
        self._repaired += len(better)
        self._lost -= better.keys()

    def _scan(self, number: int) -> Iterator[tuple[bytes, Place]]:
        """Whole records of a pack up to where a capture is writing now. OSError."""
        end = self._parts.index.ends().get(number, 1 << 62)
        for hash, place in scan(self._parts.packs.path, number, 0):
            if place.offset >= end:
                return
            yield hash, place

    def _search(self) -> bool:
        """Read all packs once more for chunks that the index lost or misplaces; False when stopped."""
        wanted = self._lost | self._strays
        for number in pack_numbers(self._parts.packs.path):
            if not wanted:
                break
            found: dict[bytes, Place] = {}
            with contextlib.suppress(OSError):
                for hash, place in self._scan(number):
                    if not self._pace.take(RECORD.size + place.length):
                        return False
                    if hash in wanted:
                        found[hash] = place
            self._parts.index.change(add=found.items())
            self._repaired += len(found)
            wanted -= found.keys()
            self._lost -= found.keys()
        return True

    # --- what came of it ---

    def report(self, complete: bool, now: float) -> ScrubReport:
        """Which versions are hit; notes when it was complete."""
        index = self._parts.index
        # What was damaged before may have come back by a capture meanwhile: the index knows.
        bad = {*index.damaged(), *(self._lost if complete else ())}
        versions: Counter[str] = Counter()
        hit: dict[bytes, list[str]] = {hash: [] for hash in bad}
        for id in self._parts.manifests.list() if bad else ():
            try:
                names = {hash for disk in outline(self._parts.manifests.get(id)[0]) for hash in disk.names()}
            except (ManifestMissing, ManifestError, StoreError):
                continue
            for hash in bad & names:
                versions[id] += 1
                hit[hash].append(id)
        for hash, ids in hit.items():
            what = "is not in the store" if hash in self._lost else "is damaged"
            advice = "capture the image again, or import it, to bring it back"
            if not ids:
                advice = "no version needs it, prune the store"
            self._found("chunk", hash.hex(), f"Chunk {hash.hex()} {what}: {advice}.", tuple(ids))
        if complete:
            done = {"at": now, "damaged": len(bad), "repaired": self._repaired}
            index.change(notes={CURSOR: "{}", FINISHED: json.dumps(done)})
        return ScrubReport(
            complete,
            self._bytes,
            self._chunks,
            len(bad),
            self._repaired,
            tuple(self._findings),
            dict(versions),
        )
