"""Settings say what is wrong with them: file, key, value, remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from pxeboot import settings
from pxeboot.errors import ConfigError
from pxeboot.settings.load import judged


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "pxeboot.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    loaded = settings.load(written(tmp_path, ""))
    assert loaded.dhcp.mode == "full"
    assert loaded.store_dir == Path("/var/lib/pxeboot/store")


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PXEBOOT_HTTP__PORT", "8081")
    monkeypatch.setenv("PXEBOOT_DHCP__DNS", '["10.0.0.1", "10.0.0.2"]')
    loaded = settings.load(written(tmp_path, "[http]\nport = 8080\n"))
    assert loaded.http.port == 8081
    assert loaded.dhcp.dns == ["10.0.0.1", "10.0.0.2"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[htp]\nport = 1", "htp is no section; did you mean http?"),
        ("[http]\nprt = 1", "http.prt = 1 is no setting; did you mean http.port?"),
        ("[http]\nport = 99999", "http.port = 99999"),
        ("[dhcp]\nrouter = '10.0.0.300'", "dhcp.router = '10.0.0.300' is not an IPv4 address"),
        ("[dhcp]\nsubnet = '10.0.0.0/24'\nrouter = '10.0.1.1'", "outside dhcp.subnet"),
        ("[dhcp]\nsubnet = '10.0.0.1/24'", "is not a network"),
        ("[dhcp]\npool_start = '10.0.0.1'", "go together"),
        ("[multicast]\ngroup_base = '10.0.0.1'", "not a multicast address"),
        ("[registration]\nname_template = 'PC'", "no # for the counter"),
        ("[server]\nzone = 'Paris'", "server.zone = 'Paris' is not a time zone"),
        ("[dhcp]\nmode = 'both'", "dhcp.mode = 'both' cannot be meant; write one of 'full', 'proxy', 'off'"),
        ("http = ", "not valid TOML"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_remedy(tmp_path: Path, text: str, says: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        settings.load(file)
    assert says in caught.value.sentence
    assert str(file) in caught.value.sentence


def test_two_mistakes_are_both_named(tmp_path: Path) -> None:
    file = written(tmp_path, "[dhcp]\nrouter = 'x'\ndns = ['y']\n")
    with pytest.raises(ConfigError) as caught:
        settings.load(file)
    assert len(caught.value.sentence.splitlines()) == 2


def test_a_named_file_that_is_absent_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such settings file"):
        settings.load(tmp_path / "absent.toml")


def test_every_setting_is_described() -> None:
    assert all(description for _, _, _, description in settings.describe())


@pytest.mark.parametrize(
    "key",
    [
        "boot.token_seconds", "tasks.boot_seconds", "tasks.silence_seconds", "tasks.wait_seconds",
        "journal.keep_per_host", "journal.keep_days", "images.reserve_mb", "doctor.every_seconds",
        "multicast.rate_mbit", "multicast.gather_seconds", "dhcp.lease_seconds", "dhcp.pxe_lease_seconds",
    ],
)  # fmt: skip
def test_numbers_beyond_all_reason_are_told_before_a_date_or_a_counter_overflows(key: str) -> None:
    section, _, name = key.partition(".")
    for value in (10**15, 10**20):
        mistakes, _settings, _used = judged({section: {name: value}}, {})
        assert [(one.key, one.what) for one in mistakes] == [(key, "is too large")]
