"""The sender's process, before it has anything to send."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("order", ["", "{}\n", '{"store": "/nowhere"}\n'])
def test_what_it_cannot_do_is_one_sentence(order: str, tmp_path: Path) -> None:
    """Also when the daemon was killed before it gave its order: nothing of that is a mistake of ours."""
    done = subprocess.run(
        [sys.executable, "-m", "imaging.multicast.send"],
        input=order, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    event = json.loads(done.stdout)
    assert event["event"] == "failed"
    assert event["reason"].endswith(".")
