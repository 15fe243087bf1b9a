"""`pxeboot task …` and `pxeboot rescue …` as an administrator types them."""

from __future__ import annotations

from pathlib import Path

import pytest
from blake3 import blake3

from pxeboot.adapters.container import Services
from pxeboot.cli.tasks import known_hosts, ssh_command
from pxeboot.db.models import Rescue
from tests.pxeboot.cli.conftest import Run

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


def test_a_wipe_asks_for_the_name(run: Run) -> None:
    said = run("task", "wipe", "pc1", typed="pc2\n")
    assert said.status == 2
    assert "nothing is wiped" in said.err
    assert "ALL DATA on the disks of pc1 will be destroyed." in said.out
    begun = run(
        "task", "wipe", "pc1", "--method", "overwrite", "--disk", "all", "--unattended", typed="pc1\n"
    )
    assert begun.status == 0, begun.err
    assert "Wipe pc1" in begun.out
    assert run("task", "wipe", "pc2", "--yes-wipe", "pc1").status == 2
    operation = run("--json", "task", "wipe", "pc2", "--yes-wipe", "pc2").json
    assert operation["params"]["wipe"]["method"] == "auto"
    assert "not over yet" in run("task", "certificate", operation["id"]).err


def test_a_wipe_of_a_group_asks_how_many(run: Run) -> None:
    assert run("task", "wipe", "--group", "B204", typed="1\n").status == 2
    assert run("task", "wipe", "--group", "B204", typed="2\n").status == 0


def test_tests_and_rescues_are_started(run: Run) -> None:
    said = run("--json", "task", "test", "pc1", "--surface", "full", "--disk", "serial=S1").json
    assert said["params"]["test"] == {
        "memory": 1, "memory_mb": 0, "smart": "short", "surface": "full",
        "disks": [{"rule": "serial", "value": "S1"}],
    }  # fmt: skip
    rescue = run("--json", "task", "rescue", "pc2", "home", "Users/*/Documents", "--exclude", "*.iso").json
    assert rescue["params"]["rescue"]["paths"] == ["home", "Users/*/Documents"]
    assert "never up" in run("task", "rescue", "pc2", "../etc").err


def test_an_archive_is_listed_fetched_checked_and_deleted(
    run: Run, services: Services, tmp_path: Path
) -> None:
    id = "b" * 32
    services.rescues.write(id, 0, b"archive")
    hash = blake3(b"archive").hexdigest()
    services.rescues.finish(id, 7, hash)
    with services.write() as session:
        session.add(Rescue(id=id, host="pc1", size=7, blake3=hash, facts={"files": 3, "paths": ["home"]}))
    assert "bbbbbbbbbbbb" in run("rescue", "list").out
    assert "3 files" in run("rescue", "show", id[:8]).out
    place = tmp_path / "got.tar.zst"
    assert run("rescue", "get", id[:8], "--to", str(place)).status == 0
    assert place.read_bytes() == b"archive"
    services.rescues.path(id).write_bytes(b"altered")
    broken = run("rescue", "get", id, "--to", str(tmp_path / "broken"))
    assert broken.status == 1
    assert "came damaged" in broken.err
    assert not list(tmp_path.glob("broken*"))
    assert run("rescue", "rm", id).status == 0
    assert run("rescue", "get", id).status == 4


def test_a_shell_wants_a_key_and_prints_what_to_type(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "Nobody could sign in" in run("task", "shell", "pc1").err
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/id_ed25519.pub").write_text(f"{KEY} ada\n")
    waited = run("task", "shell", "pc1", "--timeout", "0")
    assert waited.status == 1
    assert "has not opened its shell after 0 s" in waited.err
    where = {"address": "10.20.0.7", "port": 22, "host_key": KEY}
    assert known_hosts(where) == f"10.20.0.7 {KEY}"
    assert known_hosts(where | {"port": 2222}) == f"[10.20.0.7]:2222 {KEY}"
    assert ssh_command(where, "known")[-1] == "root@10.20.0.7"
    assert "StrictHostKeyChecking=yes" in ssh_command(where, "known")
