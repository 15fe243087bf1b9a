"""The agent's life: read the boot parameters, take inventory, check in, do what the server says, report,
leave.

Exit status 0 means that whatever was asked ended and its outcome was delivered (also when the outcome is a
failure); 1 that the server could not be told; 2 that the agent was called wrongly.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from typing import Any, NamedTuple, TextIO

from imaging.agent import VERSION, i18n
from imaging.agent.cmdline import MODES, BootParameters, parse
from imaging.agent.console import Console, open_consoles, standard_console
from imaging.agent.errors import AgentError
from imaging.agent.i18n import gettext as _

_READ_SECONDS = 10.0  # how long a failure stays on the screen before the machine leaves


class Options(NamedTuple):
    """The command line of the agent itself."""

    cmdline: str
    disk: str | None
    simulated: bool
    inventory: str | None
    log: str | None
    patience: float | None


def main(arguments: list[str] | None = None) -> int:
    """Run the agent; returns its exit status (a real machine is rebooted or powered off instead)."""
    options = _options(arguments)
    from imaging.agent.power import in_boot_environment, leave

    if not options.simulated and not in_boot_environment():
        # Somebody's own machine: never write its disk, never reboot it.
        print("This is not the pxeboot boot environment; try --simulated --disk FILE.", file=sys.stderr)
        return 2
    if options.simulated and options.disk is None:
        print("--simulated needs --disk FILE.", file=sys.stderr)
        return 2
    log: TextIO | None = open(options.log, "a", encoding="utf-8") if options.log else None  # noqa: SIM115
    console = standard_console(log) if options.simulated else open_consoles(log)
    status, then = 1, "reboot"
    try:
        status, then = run(options, console)
    except KeyboardInterrupt:
        console.say("agent: interrupted")
    except Exception:
        # The last resort: whatever happens, the machine must not stay here.
        console.say(traceback.format_exc())
    console.say(f"agent: then={then}")
    if not options.simulated:
        if status or console.failed:
            console.pause(_READ_SECONDS)
        leave(then)
    if log is not None:
        log.close()
    return status


def _options(arguments: list[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python3 -m imaging.agent", description="pxeboot's agent")
    parser.add_argument("--cmdline", help="boot parameters (default: /proc/cmdline)")
    parser.add_argument(
        "--disk", help="use this disk or file (FILE,FILE for an image of two), whatever the task's rule says"
    )
    parser.add_argument("--simulated", action="store_true", help="a simulated host: no real disks, no reboot")
    parser.add_argument("--inventory", help="JSON file laid over the simulated inventory")
    parser.add_argument("--log", help="append everything said to this file")
    parser.add_argument("--patience", type=float, help="seconds to wait for an absent server")
    given = parser.parse_args(arguments)
    cmdline = given.cmdline
    if cmdline is None:
        with open("/proc/cmdline", encoding="utf-8", errors="replace") as file:
            cmdline = file.read()
    return Options(cmdline, given.disk, given.simulated, given.inventory, given.log, given.patience)


def run(options: Options, console: Console) -> tuple[int, str]:
    """One boot: returns (exit status, ``reboot`` or ``poweroff``). Failures are printed, and delivered where
    a task is.
    """
    from imaging.agent.report import print_failure
    from imaging.agent.server import PATIENCE, Server

    console.say(f"pxeboot agent {VERSION}")
    server: Server | None = None
    try:
        parameters = parse(options.cmdline)
        i18n.use(parameters.lang)
        server = Server(parameters.url, patience=PATIENCE if options.patience is None else options.patience)
        server.trouble = lambda sentence: console.say(
            _("Waiting for the server ({reason}).").format(reason=sentence)
        )
        return _boot(options, parameters, console, server)
    except AgentError as error:
        print_failure(console, error)
        console.say(_("Nothing was changed here; this machine will start from its own disk."))
        # The server said no and knows why, or there was nothing to do: that is an end, not a loss.
        return (0 if error.status or error.code == "registration-timeout" else 1), "reboot"
    finally:
        if server is not None:
            server.close()


def _boot(options: Options, parameters: BootParameters, console: Console, server: Any) -> tuple[int, str]:
    inventory = take_inventory(options, parameters)
    console.say(_("This machine: {what}, {mac}.").format(what=_what(inventory), mac=parameters.mac))
    answer = server.checkin(parameters.token, parameters.mac, VERSION, inventory)
    if isinstance(language := answer.get("language"), str) and language:
        i18n.use(language)
    host, task = answer.get("host") or {}, answer.get("task")
    name = str(host.get("name") or "")
    console.say(f"agent: checked in host={name or '-'} state={host.get('state', '-')}")
    mode = answer.get("mode") if answer.get("mode") in MODES else parameters.mode
    if task:
        from imaging.agent.tasks import perform

        return perform(task, server, console, parameters.key, options.disk, simulated=options.simulated)
    if mode in ("register-quick", "register-full"):
        from imaging.agent.register import register

        then = str(register(server, console, mode).get("then"))
        return 0, "poweroff" if then == "poweroff" else "reboot"
    console.say(_("The server has nothing for this machine to do."))
    return 0, "reboot"


def take_inventory(options: Options, parameters: BootParameters) -> dict[str, Any]:
    """The inventory of this machine, or of the simulated one."""
    from imaging.agent import inventory
    from imaging.agent.disks import file_disk, given_paths

    if not options.simulated:
        return inventory.collect()
    given: dict[str, Any] = {}
    if options.inventory:
        try:
            with open(options.inventory, encoding="utf-8") as file:
                given = json.load(file)
        except (OSError, ValueError) as error:
            raise AgentError("inventory-file", f"{options.inventory} cannot be read: {error}.") from error
    assert options.disk is not None
    first = given_paths(options.disk)[0]
    return inventory.simulated(file_disk(os.path.abspath(first)), parameters.mac, given)


def _what(inventory: dict[str, Any]) -> str:
    words = (str(inventory.get("manufacturer") or ""), str(inventory.get("product") or ""))
    return " ".join(word for word in words if word) or _("unknown model")
