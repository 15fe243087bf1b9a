"""`pxeboot image …`, `capture` and `deploy` as an administrator types them."""

from __future__ import annotations

from typing import Any

import pytest

from pxeboot.adapters.container import Services
from tests.pxeboot.cli.conftest import Run
from tests.shelf import spoil, stock


@pytest.fixture
def shelf(run: Run, services: Services) -> Services:
    for letters in ("abc", "axc", "axy"):
        stock(services, "debian", *letters, source_host="pc1", actor="ada")
    return services


def words(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines()]


def test_versions_are_listed_shown_tagged_and_rolled_back(run: Run, shelf: Services) -> None:
    assert run("image", "tag", "debian@1", "golden").status == 0
    assert run("image", "pin", "debian@golden").status == 0
    said = run("image", "history", "debian")
    assert said.status == 0, said.err
    assert words(said.out)[1][:2] == ["debian@3", "current"]
    assert words(said.out)[3][:3] == ["debian@1", "pinned", "golden"]
    assert "debian@2, and stays it" in run("image", "rollback", "debian").out
    assert run("--json", "image", "show", "debian").json["name"] == "debian@2"
    assert "ext4" in run("image", "show", "debian@golden").out
    assert "rolled back" in run("image", "list").out
    assert "debian@3, and follows the newest" in run("image", "rollback", "debian@latest").out
    assert run("image", "untag", "debian@golden").status == 0
    assert run("image", "show", "debian@golden").status == 4
    assert run("image", "untag", "debian").status == 2


def test_what_differs_is_printed(run: Run, shelf: Services) -> None:
    said = run("image", "diff", "debian@1", "debian@3")
    assert said.status == 0, said.err
    assert "debian@1 → debian@3" in said.out
    assert "2 chunks came (2.1 MB" in said.out
    assert run("--json", "image", "diff", "debian@3").json["a"] == "debian@2"
    assert run("--json", "image", "diff", "debian", "debian@1").json["a"] == "debian@3"


def test_deleting_and_pruning_say_first_what_they_do(run: Run, shelf: Services) -> None:
    assert run("image", "rm", "debian@3").status == 5
    assert run("image", "rm", "debian").status == 2
    assert run("image", "rm", "debian@2").status == 0
    assert run("image", "set", "debian", "--keep", "1").status == 0
    said = run("image", "prune")
    assert "Nothing was changed" in said.out
    assert ["debian@1", "delete", "-"] in words(said.out)
    said = run("image", "prune", "--yes")
    assert said.status == 0, said.err
    assert words(said.out)[-1][0] == "1"
    assert [v["name"] for v in run("--json", "image", "history", "debian").json] == ["debian@3"]
    assert run("image", "set", "debian", "--keep", "soon").status == 2
    assert run("image", "rm", "debian", "--all").status == 0
    assert run("image", "show", "debian").status == 4


def test_verify_reads_on_the_server_and_its_exit_status_tells(run: Run, shelf: Services) -> None:
    said = run("image", "verify")
    assert (said.status, "every chunk is whole (6 read)" in said.out) == (0, True)
    spoil(shelf, "y")
    assert run("image", "verify", "debian@1").status == 0
    said = run("image", "verify", "debian@3")
    assert said.status == 1
    assert "debian@3 (chunks: 1)" in said.out
    assert "Verify debian@3" in run("job", "list").out
    assert "last scrub" in run("image", "store").out


def test_options_of_tasks_are_typed_and_kept(run: Run, shelf: Services) -> None:
    def options(*typed: str) -> dict[str, Any]:
        said = run("--json", *typed)
        assert said.status == 0, said.err
        run("operation", "cancel", said.json["id"])
        params: dict[str, Any] = said.json["params"]
        return params

    run("host", "approve", "--all-pending")
    run("image", "set", "debian", "--discard", "--whole", "bitlocker")
    deploy = options(
        "deploy", "debian@1", "--host", "pc1", "--grow", "2,3", "--identities", "renew", "--no-discard",
        "--disk", "serial=S1",
    )  # fmt: skip
    assert deploy["deploy"] == {"grow": [2, 3], "identities": "renew", "discard": False}
    assert deploy["disk"] == {"rule": "serial", "value": "S1"}
    two = options("deploy", "debian", "--host", "pc1", "--disk", "smallest", "--disk", "size=2T")
    assert two["deploy"] == {
        "discard": True,
        "disks": [{"rule": "smallest"}, {"rule": "size", "value": "2T"}],
    }
    capture = options("capture", "pc1", "debian", "--partition", "1", "--windows-files", "--note", "exam")
    assert capture["capture"] == {"whole": ["bitlocker"], "partitions": [1], "exclude_windows_files": False}
    refused = run("deploy", "debian", "--host", "pc1", "--grow", "first")
    assert refused.status == 2
    assert "choose none, last or list the partitions' numbers" in refused.err
    assert run("deploy", "debian", "--host", "pc1", "--disk", "serial=").status == 2
    scheduled = run(
        "schedule", "create", "debian@1", "--group", "B204", "--cron", "0 6 * * *", "--grow", "last"
    )
    assert scheduled.json["request"]["deploy"] == {"grow": "last"}
