"""The archive that is put behind an initramfs: read back by cpio's own rules and by cpio."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.resize.initramfs import NAME, resume_archive, resume_setting

UUID = "0ec31d40-02b3-45e4-9ff0-61e586d86091"


@given(st.integers(0, 10_000))
def test_it_begins_at_a_multiple_of_four(length: int) -> None:
    archive = resume_archive(UUID, length)
    assert (length + archive.index(b"070701")) % 4 == 0
    assert not any(archive[: archive.index(b"070701")])


@pytest.mark.skipif(not shutil.which("cpio"), reason="cpio is not installed")
def test_cpio_takes_it(tmp_path: Path) -> None:
    done = subprocess.run(
        ["cpio", "-idm"], input=resume_archive(UUID, 8), cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / NAME).read_text() == f"RESUME=UUID={UUID}\n"


def test_the_last_setting_counts() -> None:
    assert resume_setting(["MODULES=most\n", f"# RESUME=none\nRESUME=UUID={UUID}\n"]) == f"UUID={UUID}"
    assert resume_setting(["RESUME=auto\n", "RESUME='none'\n"]) == "none"
    assert resume_setting([]) == ""
