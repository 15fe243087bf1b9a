"""The conformance suite passes for two unlike back ends, and fails for each that breaks a promise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from imaging.errors import ChunkMissing
from imaging.store import ChunkStore
from imaging.store.intake import Intake
from imaging.store.writer import Unsynced
from tests.imaging.store.backends import PackBackend
from tests.imaging.store.conformance import Backend, StoreConformance, run_suite
from tests.imaging.store.directory import DirectoryBackend, DirectoryStore


class TestPacks(StoreConformance):
    """ChunkStore does what every store must do."""

    @pytest.fixture
    def backend(self, tmp_path: Path) -> PackBackend:
        return PackBackend(tmp_path / "store")


class TestOneFilePerChunk(StoreConformance):
    """So does one that shares nothing with it."""

    @pytest.fixture
    def backend(self, tmp_path: Path) -> DirectoryBackend:
        return DirectoryBackend(tmp_path / "store")


class NeverSyncs(DirectoryStore):
    def sync(self, path: Path) -> None:
        pass


class SyncsChunksAfterTheManifest(DirectoryStore):
    """The order is what matters: in the end everything is synced."""

    def commit(self) -> None:
        pass

    def keep_manifest(self, path: Path, data: bytes) -> None:
        super().keep_manifest(path, data)
        super().commit()


class SyncsNoNames(DirectoryStore):
    def sync(self, path: Path) -> None:
        if not path.is_dir():
            super().sync(path)


class WritesManifestsInPlace(DirectoryStore):
    def keep_manifest(self, path: Path, data: bytes) -> None:
        with open(path, "wb") as file:
            for at in range(0, len(data), 64):
                file.write(data[at : at + 64])
                file.flush()
                self.sync(path)
                self.sync(self._manifests)


class ServesDamage(DirectoryStore):
    def frame(self, hash: bytes) -> bytes:
        try:
            return (self.chunks / hash.hex()).read_bytes()[32:]
        except FileNotFoundError:
            raise ChunkMissing(hash) from None


class ShowsIncompleteVersions(DirectoryStore):
    def _is_sound(self, hash: bytes) -> bool:
        return True


class ForgetsHolds(DirectoryStore):
    def _hold(self, holder: str, hashes: Sequence[bytes]) -> None:
        pass


class PrunesWhatManifestsName(DirectoryStore):
    def in_use(self) -> set[bytes]:
        return set().union(*self._holds.values())


class PrunesNothing(DirectoryStore):
    def in_use(self) -> set[bytes]:
        return {bytes.fromhex(path.name) for path in self.chunks.iterdir()}


class AnswersSorted(DirectoryStore):
    def missing(self, hashes: Sequence[bytes], holder: str = "") -> list[bool]:
        return sorted(super().missing(hashes, holder))


class HasEndlessRoom(DirectoryStore):
    def room(self, needed: int) -> int:
        return 1 << 50


@pytest.mark.parametrize(
    ("mutant", "caught_by"),
    [
        (NeverSyncs, "test_what_was_committed_survives_a_power_cut"),
        (SyncsChunksAfterTheManifest, "test_the_current_may_fail_at_any_moment"),
        (SyncsNoNames, "test_what_was_committed_survives_a_power_cut"),
        (WritesManifestsInPlace, "test_the_current_may_fail_at_any_moment"),
        (ServesDamage, "test_damage_is_told_asked_for_again_and_healed"),
        (ShowsIncompleteVersions, "test_a_manifest_needs_all_its_chunks"),
        (ForgetsHolds, "test_a_capture_under_way_keeps_what_it_brought_and_what_it_asked_for"),
        (PrunesWhatManifestsName, "test_the_current_may_fail_at_any_moment"),
        (PrunesNothing, "test_prune_takes_what_no_version_names_and_nothing_else"),
        (AnswersSorted, "test_missing_answers_in_the_order_of_the_question"),
        (HasEndlessRoom, "test_there_is_room_or_a_sentence_with_numbers"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_broken_promise_is_caught(tmp_path: Path, mutant: type[DirectoryStore], caught_by: str) -> None:
    def make(path: Path) -> Backend:
        return DirectoryBackend(path, mutant)

    assert caught_by in run_suite(make, tmp_path, caught_by)


@pytest.mark.parametrize(
    ("break_it", "caught_by"),
    [
        # The index commits before the packs are on the disk.
        (
            lambda patch: patch.setattr(Unsynced, "sync", lambda self: None),
            "test_what_was_committed_survives_a_power_cut",
        ),
        # Manifests are kept without looking for their chunks.
        (
            lambda patch: patch.setattr(
                "imaging.store.index.Index.healthy", lambda self, hashes: [1 << 20] * len(hashes)
            ),
            "test_a_manifest_needs_all_its_chunks",
        ),
        # Frames are served without a look at their check.
        (
            lambda patch: patch.setattr(
                "imaging.store.packs.record_head", lambda hash, plain, frame: bytes(56)
            ),
            "test_damage_is_told_asked_for_again_and_healed",
        ),
        # A prune does not ask who holds a chunk.
        (
            lambda patch: patch.setattr("imaging.store.holds.Holds.held", lambda self, seconds: set()),
            "test_a_capture_under_way_keeps_what_it_brought_and_what_it_asked_for",
        ),
        # Commits do nothing until the store is closed.
        (
            lambda patch: patch.setattr(Intake, "commit", lambda self: None),
            "test_what_was_committed_survives_a_power_cut",
        ),
        # Damage is not remembered.
        (
            lambda patch: patch.setattr(ChunkStore, "_mark", lambda self, hash, place: None),
            "test_damage_is_told_asked_for_again_and_healed",
        ),
    ],
    ids=["no fsync", "no look for chunks", "no check", "no holds", "no commit", "no mark"],
)
def test_so_is_ours_when_it_is_broken(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    break_it: Callable[[pytest.MonkeyPatch], None],
    caught_by: str,
) -> None:
    break_it(monkeypatch)
    assert caught_by in run_suite(PackBackend, tmp_path, caught_by)
