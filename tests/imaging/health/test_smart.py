"""What smartctl tells, read; the JSON is written after smartmontools 7.4's format, shortened, but for
samples/smartctl-qemu.json: that is recorded from a disk of QEMU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from imaging.health.smart import read_self_test, read_smart

ATA: dict[str, Any] = {
    "smart_status": {"passed": True},
    "temperature": {"current": 34},
    "power_on_time": {"hours": 20123},
    "ata_smart_data": {
        "self_test": {
            "status": {"value": 0, "string": "completed without error", "passed": True},
            "polling_minutes": {"short": 2, "extended": 230},
        }
    },
    "ata_smart_attributes": {
        "table": [
            {"id": 5, "name": "Reallocated_Sector_Ct", "when_failed": "", "raw": {"value": 8}},
            {"id": 197, "name": "Current_Pending_Sector", "when_failed": "", "raw": {"value": 0}},
            {"id": 198, "name": "Offline_Uncorrectable", "when_failed": "", "raw": {"value": 0}},
        ]
    },
}
NVME: dict[str, Any] = {
    "smart_status": {"passed": True, "nvme": {"value": 0}},
    "nvme_smart_health_information_log": {
        "critical_warning": 0, "available_spare": 100, "available_spare_threshold": 10,
        "percentage_used": 3, "media_errors": 0,
    },
    "nvme_self_test_log": {
        "current_self_test_operation": {"value": 0, "string": "No self-test in progress"},
        "table": [{"self_test_result": {"value": 0, "string": "Completed without error"}}],
    },
}  # fmt: skip


def changed(data: dict[str, Any], section: str, **values: Any) -> dict[str, Any]:
    return data | {section: data.get(section, {}) | values}


def test_a_recorded_disk() -> None:
    data = json.loads((Path(__file__).parent / "samples/smartctl-qemu.json").read_text())
    found = read_smart(data)
    assert (found.passed, found.temperature, found.hours, found.problems) == (True, 31, 1, [])
    test = read_self_test(data, "short")
    assert (test.state, test.minutes) == ("passed", 2)


def test_good_disks_are_called_good() -> None:
    ata, nvme = read_smart(ATA), read_smart(NVME)
    assert (ata.passed, ata.temperature, ata.hours, ata.problems) == (True, 34, 20123, [])
    assert ata.facts["reallocated_sectors"] == 8
    assert (nvme.passed, nvme.problems, nvme.facts["percentage_used"]) == (True, [], 3)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (changed(ATA, "smart_status", passed=False), "the disk itself says that it is failing"),
        (
            changed(ATA, "ata_smart_attributes", table=[{"id": 197, "raw": {"value": 3}}]),
            "3 pending sectors",
        ),
        (
            changed(ATA, "ata_smart_attributes", table=[{"id": 1, "name": "X", "when_failed": "now"}]),
            "its value X is below the maker's limit",
        ),
        (changed(NVME, "nvme_smart_health_information_log", media_errors=2), "2 media errors"),
        (changed(NVME, "nvme_smart_health_information_log", available_spare=5), "only 5 % of its spare"),
        (changed(NVME, "nvme_smart_health_information_log", critical_warning=4), "critical warning 0x4"),
    ],
)
def test_trouble_is_a_sentence(data: dict[str, Any], sentence: str) -> None:
    assert any(sentence in problem for problem in read_smart(data).problems)


def test_a_disk_without_smart_is_neither_good_nor_bad() -> None:
    found = read_smart({"smartctl": {"exit_status": 2}})
    assert (found.known, found.passed, found.problems) == (False, None, [])
    assert read_self_test({}, "short").state == "none"


@pytest.mark.parametrize(
    ("value", "state"),
    [(0, "passed"), (0xF4, "running"), (0x19, "aborted"), (0x79, "failed"), (0x30, "aborted")],
)
def test_an_ata_self_test_by_its_status_byte(value: int, state: str) -> None:
    data = {"ata_smart_data": {"self_test": {"status": {"value": value}, "polling_minutes": {"extended": 9}}}}
    found = read_self_test(data, "long")
    assert (found.state, found.minutes) == (state, 9)
    assert found.left == (40 if state == "running" else None)


def test_an_nvme_self_test_by_its_log() -> None:
    assert read_self_test(NVME, "short").state == "passed"
    running = {"nvme_self_test_log": {"current_self_test_operation": {"value": 1},
                                      "current_self_test_completion_percent": 30}}  # fmt: skip
    assert read_self_test(running, "short").left == 70
    failed = {"nvme_self_test_log": {"table": [{"self_test_result": {"value": 7, "string": "failed"}}]}}
    assert read_self_test(failed, "short").state == "failed"
