"""What the options before the command say: which server, which token, which output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pxeboot.cli.client import Api


@dataclass
class Options:
    """The options of this run of the program."""

    url: str = ""
    token: str = ""
    socket: str = ""
    config: Path | None = None
    json_output: bool = False

    def set(self, *, url: str, token: str, socket: str, config: Path | None, json_output: bool) -> None:
        """Take the values of the command line."""
        self.url, self.token, self.socket = url, token, socket
        self.config, self.json_output = config, json_output

    def api(self) -> Api:
        """A connection to the server these options name."""
        return Api(self.url, self.token, self.socket, self.config)


options = Options()
