"""What a killed process left behind is put right when the store is opened."""

from __future__ import annotations

from pathlib import Path

from imaging.store import ChunkStore


def test_a_pack_of_which_nothing_but_its_name_was_made_goes_at_the_next_start(tmp_path: Path) -> None:
    with ChunkStore(tmp_path / "store", reserve=0) as store:
        store.commit()
    stray = tmp_path / "store" / "packs" / "00000540.pack"
    stray.touch()  # killed between open(2) and write(2)
    with ChunkStore(tmp_path / "store", reserve=0):
        assert not stray.exists()
