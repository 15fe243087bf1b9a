"""Which disks a capture takes: by rule, in the rules' order, never one twice."""

from typing import Any

import pytest

from imaging.agent import tasks
from imaging.agent.disks import Disk
from imaging.agent.errors import AgentError


def a_disk(name: str, serial: str, transport: str = "sata") -> Disk:
    return Disk(name, f"/dev/{name}", 1 << 40, 512, 4096, serial, "", "M", False, False, False, transport)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    disks = [a_disk("sda", "A1"), a_disk("sdb", "B2"), a_disk("sdc", "STICK", "usb")]
    monkeypatch.setattr(tasks, "list_disks", lambda: disks)


def names(*rules: dict[str, str]) -> list[str]:
    task: dict[str, Any] = {"disk": {"rule": "only", "value": ""}, "capture": {"disks": list(rules)}}
    return [disk.name for disk in tasks.find_sources(task, None)]


def test_disks_come_in_the_order_of_the_rules() -> None:
    assert names({"rule": "serial", "value": "B2"}, {"rule": "path", "value": "/dev/sda"}) == ["sdb", "sda"]


def test_all_means_every_internal_disk() -> None:
    assert names({"rule": "all"}) == ["sda", "sdb"]


def test_without_rules_the_only_internal_disk_is_taken_and_two_are_refused() -> None:
    with pytest.raises(AgentError, match="2 internal disks"):
        tasks.find_sources({"disk": {"rule": "only", "value": ""}}, None)
    assert tasks.find_sources({"disk": {"rule": "serial", "value": "A1"}}, None)[0].name == "sda"


def test_one_disk_by_two_rules_is_refused() -> None:
    with pytest.raises(AgentError, match="name another one"):
        names({"rule": "serial", "value": "A1"}, {"rule": "path", "value": "/dev/sda"})
