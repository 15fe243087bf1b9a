"""Two namespaces on one wire: `here` is the server that is examined, `there` whoever else is on its network.

Nothing leaves them: they have no link to the machine's own network.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
_SERIAL = itertools.count()
HERE, THERE = "10.78.0.1", "10.78.0.2"


def run(*command: str, text: str = "", check: bool = True, timeout: float = 100) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=timeout, cwd=ROOT)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")
    return done.stdout


class Wired:
    """`here` and `there`, each with an eth0."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        prefix = f"doc{os.getpid()}x{next(_SERIAL)}"
        self.here, self.there, self.folder = f"{prefix}h", f"{prefix}t", folder
        self._stack = stack
        (folder / "data").mkdir()
        self.settings = {"server": {"data_dir": str(folder / "data")}, "network": {"interface": "eth0"}}

    def inside(self, namespace: str, *command: str, **more: Any) -> str:
        return run("ip", "netns", "exec", namespace, *command, **more)

    def background(self, namespace: str, *command: str) -> subprocess.Popen[bytes]:
        """A process that ends with the room."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *command],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._stack.callback(_end, process)
        return process

    def dnsmasq(self, namespace: str, *options: str, port: int = 67) -> subprocess.Popen[bytes]:
        """A real one, waited for until it holds its port."""
        process = self.background(
            namespace, "dnsmasq", "-k", "-C", "/dev/null", "--port=0", "--interface=eth0", "--pid-file=",
            "--no-ping", "--user=root", *options,
            *([] if any("leasefile" in option for option in options) else ["--dhcp-leasefile=/dev/null"]),
        )  # fmt: skip
        self.wait_for_port(namespace, port)
        return process

    def nft(self, namespace: str, *rules: str, policy: str = "accept", hook: str = "input") -> None:
        """A chain of a table `mine`."""
        head = f"type filter hook {hook} priority 0; policy {policy};"
        text = "\n".join(("table inet mine {", f"chain {hook} {{", head, *rules, "}", "}", ""))
        self.inside(namespace, "nft", "-f", "-", text=text)

    def wait_for_port(self, namespace: str, port: int, protocol: str = "u", seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.inside(namespace, "ss", f"-Hnl{protocol}", f"sport = :{port}"):
                return
            time.sleep(0.1)
        raise RuntimeError(f"nobody holds port {port}")

    def daemon(self, **sections: dict[str, Any]) -> subprocess.Popen[bytes]:
        """The real pxeboot, until TFTP answers."""
        process = self.background(
            self.here, sys.executable, "-m", "pxeboot.cli", "serve", "--config", str(self.config(**sections))
        )
        self.wait_for_port(self.here, 69, seconds=60)
        return process

    def config(self, **sections: dict[str, Any]) -> Path:
        """The settings as a file; `sections` are merged into them for good."""
        for name, values in sections.items():
            self.settings[name] = {**self.settings.get(name, {}), **values}
        path = self.folder / "pxeboot.toml"
        lines: list[str] = []
        for name, values in self.settings.items():
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
        path.write_text("\n".join(lines) + "\n")
        return path

    def doctor(self, *only: str, seconds: float = 1.5, **sections: dict[str, Any]) -> list[dict[str, Any]]:
        """What the command finds in `here`."""
        names = [word for name in only for word in ("--only", name)]
        told = self.inside(
            self.here, sys.executable, "-m", "pxeboot.cli", "doctor", "--json", "--seconds", str(seconds),
            "--config", str(self.config(**sections)), *names, check=False,
        )  # fmt: skip
        found: list[dict[str, Any]] = json.loads(told)
        return found

    def probe(self, namespace: str, seconds: float = 1.5) -> dict[str, Any]:
        told = self.inside(
            namespace, sys.executable, "-m", "dhcp.probe", "eth0", "--json", "--seconds", str(seconds),
            check=False,
        )  # fmt: skip
        answer: dict[str, Any] = json.loads(told)
        return answer

    def boot_files(self) -> None:
        """The real ones."""
        (self.folder / "data" / "boot").symlink_to(ROOT / "var" / "boot")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(30)
    if process.stdin:
        with suppress(BrokenPipeError):
            process.stdin.close()


@contextmanager
def wired(folder: Path, *, address: bool = True) -> Iterator[Wired]:
    with ExitStack() as stack:
        made = Wired(folder, stack)
        for name in (made.here, made.there):
            run("ip", "netns", "add", name)
            stack.callback(run, "ip", "netns", "del", name, check=False)
            made.inside(name, "ip", "link", "set", "lo", "up")
        made.inside(
            made.here,
            "ip",
            "link",
            "add",
            "eth0",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            made.there,
        )
        for name, own in ((made.here, HERE), (made.there, THERE)):
            made.inside(name, "ip", "link", "set", "eth0", "up")
            if address or name == made.there:
                made.inside(name, "ip", "address", "add", f"{own}/24", "brd", "+", "dev", "eth0")
        # Processes that were started later end first.
        inner = stack.enter_context(ExitStack())
        made._stack = inner
        yield made


def of(findings: list[dict[str, Any]], check: str, level: str = "") -> list[dict[str, Any]]:
    """The findings of a check, and of a level."""
    return [one for one in findings if one["check"] == check and level in ("", one["level"])]
