"""The shell task: an SSH server in the boot environment for a while, with a host key made for this one task.

The key's text goes to the server over the task plane and from there to whoever connects: so nobody has to
trust the first answer. Only public keys sign in; there is no password.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from typing import Any

from imaging.agent.console import Console
from imaging.agent.errors import AgentError
from imaging.agent.i18n import gettext as _
from imaging.agent.progress import Progress
from imaging.agent.report import Result
from imaging.agent.server import Server
from imaging.errors import ToolMissing
from imaging.other_options import ShellOptions
from imaging.sshkeys import fingerprint

PORT = 22
#: Where somebody in the shell, or at the console, says that they are done.
FINISH = "/run/pxeboot/finish"
_FINISH_PROGRAM = "/usr/bin/finish"
_LOGIN = re.compile(r"auth succeeded for '\S+' with \S+ key (?:\S+ )?(\S+) from (\S+?):\d+")
_STOP_SECONDS = 5.0
_MOST_LOGINS = 50


def shell(
    task: dict[str, Any], options: ShellOptions, server: Server, console: Console, progress: Progress
) -> Result:
    """Run the SSH server until the time is over, somebody says ``finish``, or the operation is stopped.

    Raises ToolMissing, ``AgentError`` ``shell-failed`` when it does not start or ends by itself.
    """
    if not options.keys:
        raise AgentError("shell-failed", "The task names no public key that may sign in.")
    logins: list[dict[str, str]] = []
    progress.notes["shell_logins"] = logins
    progress.enter("shell", options.minutes * 60)
    with tempfile.TemporaryDirectory(prefix="shell-") as folder:
        host_key = make_host_key(f"{folder}/host")
        authorize(options.keys)
        process = _start(f"{folder}/host")
        try:
            reader = threading.Thread(target=_listen, args=(process, logins, progress), daemon=True)
            reader.start()
            wait_until_open(process)
            server.shell_open(str(task["id"]), PORT, host_key)
            print_hello(console, host_key, options.minutes)
            return _wait(process, options.minutes * 60.0, console, progress)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def make_host_key(path: str) -> str:
    """A fresh Ed25519 key in the file ``path``; returns its public line, ``ssh-ed25519 AAAA…``."""
    try:
        made = subprocess.run(
            ["dropbearkey", "-t", "ed25519", "-f", path],
            check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise ToolMissing("The program dropbearkey is not installed.") from error
    except subprocess.SubprocessError as error:
        raise AgentError("shell-failed", f"No host key could be made: {error}.") from error
    for line in made.stdout.decode("utf-8", "replace").splitlines():
        if line.startswith("ssh-ed25519 "):
            return " ".join(line.split()[:2])
    raise AgentError("shell-failed", "dropbearkey made a key but did not say which.")


def authorize(keys: tuple[str, ...], home: str = "/root") -> None:
    """Who may sign in as root; and the program that ends the task."""
    folder = os.path.join(home, ".ssh")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with open(os.path.join(folder, "authorized_keys"), "w", encoding="utf-8") as file:
        file.write("".join(f"{key}\n" for key in keys))
    os.makedirs(os.path.dirname(FINISH), exist_ok=True)
    with open(_FINISH_PROGRAM, "w", encoding="ascii") as file:
        file.write(f"#!/bin/sh\n# Ends the task: the machine leaves the boot environment.\n: > {FINISH}\n")
    os.chmod(_FINISH_PROGRAM, 0o755)


def _start(key: str) -> subprocess.Popen[bytes]:
    program = shutil.which("dropbear")
    if program is None:
        raise ToolMissing("The program dropbear is not installed.")
    # -F foreground, -E log to stderr, -s no passwords, -j -k no forwarding, -m no message of the day.
    command = [program, "-F", "-E", "-s", "-j", "-k", "-m", "-r", key, "-p", str(PORT), "-I", "1800"]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip


def wait_until_open(process: subprocess.Popen[bytes], port: int = PORT, seconds: float = 60.0) -> None:
    """Wait until somebody can connect. Raises ``AgentError`` ``shell-failed``."""
    deadline = time.monotonic() + seconds
    while True:
        if process.poll() is not None:
            raise AgentError("shell-failed", f"The SSH server ended with status {process.returncode}.")
        try:
            socket.create_connection(("127.0.0.1", port), 5.0).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise AgentError("shell-failed", f"The SSH server does not answer: {error}.") from error
        time.sleep(0.1)


def login_of(line: str) -> tuple[str, str] | None:
    """(fingerprint or key, address) of a successful sign-in in dropbear's log."""
    found = _LOGIN.search(line)
    return (found[1], found[2]) if found else None


def _listen(process: subprocess.Popen[bytes], logins: list[dict[str, str]], progress: Progress) -> None:
    assert process.stderr is not None
    for raw in process.stderr:
        line = raw.decode("utf-8", "replace").rstrip()
        if (login := login_of(line)) and len(logins) < _MOST_LOGINS:
            logins.append({"key": login[0], "address": login[1]})
            progress.message = f"login from {login[1]} with {login[0]}"
            progress.say(f"agent: shell login address={login[1]} key={login[0]}")


def print_hello(console: Console, host_key: str, minutes: int) -> None:
    """Address and fingerprint for whoever stands there."""
    address = os.environ.get("PXEBOOT_ADDRESS", "")
    console.say(_("Debug shell: ssh root@{address}").format(address=address or "…"))
    console.say(_("Host key: {fingerprint}").format(fingerprint=fingerprint(host_key)))
    console.say(_("It closes in {minutes} minutes, or when you type: finish").format(minutes=minutes))
    console.say(f"agent: shell address={address or '-'} port={PORT} key={fingerprint(host_key)}")


def _wait(process: subprocess.Popen[bytes], seconds: float, console: Console, progress: Progress) -> Result:
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        progress.check()
        progress.done = int(passed)
        if os.path.exists(FINISH):
            console.say(_("Somebody finished the debug shell."))
            return Result()
        if process.poll() is not None:
            raise AgentError("shell-failed", f"The SSH server ended with status {process.returncode}.")
        time.sleep(0.5)
    console.say(_("The time of the debug shell is over."))
    return Result()
