"""The sender's process, before it has anything to send."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.imaging.multicast.room import lines_until, make_store, order


@pytest.mark.parametrize("text", ["", "{}\n", '{"store": "/nowhere"}\n'])
def test_what_it_cannot_do_is_one_sentence(text: str, tmp_path: Path) -> None:
    """Also when the daemon was killed before it gave its order: nothing of that is a mistake of ours."""
    done = subprocess.run(
        [sys.executable, "-m", "imaging.multicast.send"],
        input=text, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    event = json.loads(done.stdout)
    assert event["event"] == "failed"
    assert event["reason"].endswith(".")


def test_what_is_said_while_it_starts_is_obeyed(tmp_path: Path) -> None:
    """The daemon may have granted another rate before the process has read its order: both come at once."""
    what = order(make_store(tmp_path, 1), tmp_path, session={"report": ["127.0.0.1", 0]})
    what |= {"interface": "127.0.0.1", "loop": True}
    with subprocess.Popen(
        [sys.executable, "-m", "imaging.multicast.send"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(json.dumps(what) + "\n" + '{"rate_mbit": "fast"}\n')
        process.stdin.flush()
        lines_until(process, "started", 20)
        (*_, refused) = lines_until(process, "refused", 20)
        process.stdin.close()
        lines_until(process, "stopped", 20)
    assert "fast" in refused["reason"]
