"""`pxeboot check` as a conversation: everything that is wrong, in one run, without a traceback."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pxeboot.cli.app import app
from tests.ports import free_port


def check(tmp_path: Path, text: str, *more: str) -> Result:
    file = tmp_path / "pxeboot.toml"
    if "data_dir" not in text:
        text = f'[server]\ndata_dir = "{tmp_path / "data"}"\n{text}'
    file.write_text(text, encoding="utf-8")
    return CliRunner().invoke(app, ["check", "--config", str(file), *more], catch_exceptions=False)


@pytest.fixture
def port() -> int:
    return free_port()


def test_a_right_file(tmp_path: Path, port: int) -> None:
    done = check(tmp_path, f"[http]\nport = {port}\n")
    assert (done.exit_code, done.output) == (0, "the settings are right\n")


def test_everything_at_once(tmp_path: Path, port: int) -> None:
    (tmp_path / "file").write_text("")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        done = check(
            tmp_path,
            f"""
[server]
data_dir = "{tmp_path}/file/below"
zone = "Paris"
[network]
interface = "nosuch0"
[htpp]
[http]
host = "127.0.0.1"
port = {port}
[boot]
default = "beos"
[dhcp]
mode = "prox"
[dhcp.options]
rooters = "10.20.0.1"
[[dhcp.subnets]]
network = "10.20.0.0/24"
pools = ["10.21.0.1-10.21.0.9"]
""",
            "--json",
        )
    assert done.exit_code == 2, done.output
    answer = json.loads(done.output)
    assert not answer["ok"]
    errors = {one["key"]: one for one in answer["mistakes"] if one["level"] == "error"}
    assert set(errors) == {
        "server.data_dir",
        "server.zone",
        "network.interface",
        "htpp",
        "http.port",
        "boot.default",
        "dhcp.mode",
        "dhcp.options.rooters",
        "dhcp.subnets[0].pools[0]",
    }
    assert all(one["source"].endswith("pxeboot.toml") for one in errors.values())
    assert all(one["remedy"] for one in errors.values())
    assert errors["htpp"]["remedy"] == "did you mean http?"
    assert "did you mean routers?" in errors["dhcp.options.rooters"]["remedy"]
    assert errors["dhcp.subnets[0].pools[0]"]["value"] == "10.21.0.1-10.21.0.9"
    assert f"TCP port {port}" in errors["http.port"]["what"]


def test_missing_boot_files_are_worth_a_warning(tmp_path: Path, port: int) -> None:
    done = check(tmp_path, f'[network]\ninterface = "lo"\n[dhcp]\nmode = "off"\n[tftp]\nport = {port}\n')
    assert "has no boot/shimx64.efi and boot/grubx64.efi: UEFI x64 machines cannot boot" in done.output
    assert "run `pxeboot bootenv build`" in done.output


def test_what_the_environment_says_wrongly_is_named_as_such(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PXEBOOT_TASKS__MAX_ATTEMPTS", "many")
    monkeypatch.setenv("PXEBOOT_DHCP__DNS", "[10.0.0.1")
    monkeypatch.setenv("PXEBOOT_HTTP__PROT", "80")
    done = check(tmp_path, f"[http]\nport = {port}\n")
    assert done.exit_code == 2
    lines = done.output.splitlines()
    for line in (
        "error: environment variable PXEBOOT_TASKS__MAX_ATTEMPTS: tasks.max_attempts = 'many' cannot be "
        "meant; write a whole number.",
        "error: environment variable PXEBOOT_HTTP__PROT: http.prot = '80' is no setting; did you mean "
        "PXEBOOT_HTTP__PORT?",
    ):
        assert line in lines, done.output
    assert "PXEBOOT_DHCP__DNS: dhcp.dns = '[10.0.0.1' is not JSON" in done.output


def test_no_toml_at_all(tmp_path: Path) -> None:
    done = check(tmp_path, "data_dir = ")
    assert done.exit_code == 2
    assert "pxeboot.toml: not valid TOML: Invalid value" in done.output
    answer = json.loads(check(tmp_path, "data_dir = ", "--json").output)
    assert (answer["ok"], len(answer["mistakes"])) == (False, 1)
    absent = CliRunner().invoke(app, ["check", "--config", str(tmp_path / "absent.toml")])
    assert (absent.exit_code, "no such settings file" in absent.output) == (2, True)
