"""`pxeboot doctor`: why machines do not boot here, and what to do about it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from pxeboot import i18n
from pxeboot import settings as settings_module
from pxeboot.cli.context import options
from pxeboot.cli.output import console, print_json
from pxeboot.doctor import checks
from pxeboot.doctor.finding import N_, Finding, worst
from pxeboot.doctor.interface import site_here
from pxeboot.errors import ConfigError, Invalid

MARKS = {
    "ok": ("ok", "green", N_("ok")),
    "note": ("i", "cyan", N_("note")),
    "warning": ("!", "yellow", N_("warning")),
    "error": ("x", "bold red", N_("error")),
}


def doctor(
    only: Annotated[list[str] | None, typer.Option(help="Only this check; may be repeated.")] = None,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Also listen two minutes for an IGMP querier.")
    ] = False,
    seconds: Annotated[
        float, typer.Option(help="How long to wait for other DHCP servers.", min=0.5, max=30)
    ] = checks.Options().seconds,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    config: Annotated[Path | None, typer.Option(help="Settings file.", envvar="PXEBOOT_CONFIG")] = None,
) -> None:
    """Say why machines do not boot here: other DHCP servers, ports, firewall, files, signatures.

    Run it as root on the server, with or without the daemon. Exit status 1: errors were found.
    """
    unknown = [name for name in only or () if name not in checks.CHECKS]
    if unknown:
        raise Invalid(f"There is no check {unknown[0]!r}; the checks are: {', '.join(checks.CHECKS)}.")
    try:
        settings = settings_module.load(config or options.config)
    except OSError as error:  # the way to the file is barred
        raise ConfigError(f"The settings file cannot be read: {error}. Run this as root.") from error
    gettext = i18n.translations(settings.server.language).gettext
    as_json = json_output or options.json_output
    with _Progress(len(only or checks.CHECKS), gettext, show=not as_json and sys.stderr.isatty()) as progress:
        found = checks.run(site_here(settings), only or (), checks.Options(thorough, seconds), progress.took)
    if as_json:
        print_json([finding.to_dict() for finding in found])
    else:
        show(found, gettext)
    raise typer.Exit(1 if worst(found) == "error" else 0)


def show(findings: list[Finding], gettext: Callable[[str], str]) -> None:
    """A line for each finding, its remedy beneath, and how many of what there were."""
    last = ""
    for finding in findings:
        if finding.check != last:
            console.print(f"[bold]{finding.check}[/bold]")
            last = finding.check
        mark, colour, _ = MARKS[finding.level]
        sentence, remedy = finding.say(gettext)
        console.print(f"  [{colour}]{mark:>2}[/{colour}]  {escape(sentence)}")
        if remedy:
            console.print(f"      → {escape(remedy)}")
    counts = {level: sum(finding.level == level for finding in findings) for level in MARKS}
    console.print(
        ", ".join(f"{count} {gettext(MARKS[level][2])}" for level, count in counts.items() if count)
    )


class _Progress:
    """A line on the terminal that says what is still being looked at; nothing in a pipe."""

    def __init__(self, total: int, gettext: Callable[[str], str], *, show: bool) -> None:
        self._total, self._gettext, self._show = total, gettext, show
        self._done = 0

    def __enter__(self) -> _Progress:
        self._say()
        return self

    def __exit__(self, *_: object) -> None:
        if self._show:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def took(self, name: str, findings: list[Finding]) -> None:
        """One check has ended."""
        self._done += 1
        self._say()

    def _say(self) -> None:
        if self._show:
            text = self._gettext(N_("Looking: %(done)s of %(total)s checks done"))
            line = text % {"done": self._done, "total": self._total}
            print(f"\r\x1b[K{line} …", end="", file=sys.stderr, flush=True)
