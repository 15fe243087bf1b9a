"""Which disk is meant: named, or looked for among the internal ones; never a stick, never by order."""

import pytest

from imaging.agent.choice import choose, choose_all, size_range
from imaging.agent.disks import Disk
from imaging.agent.errors import AgentError
from imaging.options import DiskRule


def disk(name: str, **more: object) -> Disk:
    values: dict[str, object] = {
        "name": name, "path": f"/dev/{name}", "size": 500 * 10**9, "sector_size": 512,
        "physical_sector_size": 4096, "serial": f"S-{name}", "wwn": f"naa.{name}", "model": "Disk",
        "rotational": False, "removable": False, "read_only": False, "transport": "sata", **more,
    }  # fmt: skip
    return Disk(**values)  # type: ignore[arg-type]


INTERNAL, SECOND, STICK = disk("sda"), disk("nvme0n1", transport="nvme"), disk("sdb", transport="usb")
NVME = disk("nvme1n1", transport="nvme", size=256_060_514_304, model="Samsung SSD 980", wwn="eui.0025385b01")
HUGE = disk("sdz", size=4 * 10**12, model="ST4000DM004")
TINY_STICK = disk("sdy", size=8 * 10**9, transport="usb", model="Samsung Flash")


def refused(code: str, *found: Disk, rule: str, value: str = "") -> str:
    with pytest.raises(AgentError) as caught:
        choose(found, rule, value)
    assert caught.value.code == code
    return caught.value.sentence


def test_only_means_the_one_internal_disk() -> None:
    found = [STICK, INTERNAL, disk("sdc", removable=True), disk("sdd", read_only=True)]
    assert choose(found, "only") == INTERNAL


def test_two_internal_disks_are_named_not_guessed() -> None:
    sentence = refused("disk-ambiguous", INTERNAL, SECOND, STICK, rule="only")
    assert "2 internal disks" in sentence
    for word in ("/dev/sda", "S-sda", "/dev/nvme0n1", "choose one by serial number"):
        assert word in sentence


def test_no_internal_disk_says_what_was_seen() -> None:
    assert "[USB]" in refused("disk-none", STICK, rule="only")
    assert "[USB]" in refused("disk-none", STICK, rule="smallest")
    assert "no disk at all" in refused("disk-none", rule="largest")


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("serial", "s-nvme0n1 "),
        ("serial", "NAA.nvme0n1"),
        ("path", "/dev/nvme0n1"),
        ("wwn", "naa.nvme0n1"),
        ("wwn", "NVME0N1"),
    ],
)
def test_a_disk_by_serial_wwn_or_path(rule: str, value: str) -> None:
    assert choose([INTERNAL, SECOND], rule, value) == SECOND


def test_a_stick_is_never_chosen_not_even_by_name() -> None:
    assert "USB" in refused("disk-not-internal", INTERNAL, STICK, rule="serial", value="S-sdb")
    assert "USB" in refused("disk-not-internal", INTERNAL, STICK, rule="path", value="/dev/sdb")
    assert choose([TINY_STICK, NVME, HUGE], "smallest") == NVME
    assert choose([TINY_STICK, NVME, HUGE], "model", "samsung") == NVME


def test_an_empty_name_matches_nothing() -> None:
    for rule in ("serial", "wwn", "path", "model"):
        refused("disk-none", disk("sda", serial="", wwn="", model=""), rule=rule)


def test_the_largest_and_the_smallest_unless_two_are() -> None:
    assert choose([NVME, INTERNAL, HUGE], "largest") == HUGE
    assert choose([NVME, INTERNAL, HUGE], "smallest") == NVME
    assert "2 internal disks are the smallest" in refused("disk-ambiguous", INTERNAL, SECOND, rule="smallest")


@pytest.mark.parametrize("value", ["256060514304", "256 GB", "0.25TB", "240 GiB"])
def test_a_disk_by_its_size(value: str) -> None:
    assert choose([INTERNAL, NVME, HUGE], "size", value) == NVME


def test_a_size_of_several_disks_or_of_none_is_told() -> None:
    refused("disk-ambiguous", INTERNAL, SECOND, rule="size", value="500 GB")
    refused("disk-none", INTERNAL, rule="size", value="1 TB")
    refused("disk-rule", INTERNAL, rule="size", value="large")
    assert size_range("1000") == (1000, 1000)


def test_an_unknown_rule_is_refused() -> None:
    assert "newest" in refused("disk-rule", INTERNAL, rule="newest")


def test_several_disks_each_by_its_own_rule_and_the_named_ones_first() -> None:
    rules = [DiskRule("only"), DiskRule("serial", "S-sdz")]
    assert choose_all([HUGE, NVME, STICK], rules) == [NVME, HUGE]
    rules = [DiskRule("smallest"), DiskRule("largest")]
    assert choose_all([HUGE, NVME, INTERNAL], rules) == [NVME, HUGE]


def test_no_disk_is_chosen_twice() -> None:
    with pytest.raises(AgentError, match="Two disks of the image") as caught:
        choose_all([HUGE, NVME], [DiskRule("serial", "S-sdz"), DiskRule("path", "/dev/sdz")])
    assert caught.value.code == "disk-ambiguous"
    with pytest.raises(AgentError, match="no internal disk"):
        choose_all([HUGE], [DiskRule("largest"), DiskRule("smallest")])
