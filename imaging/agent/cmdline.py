"""What the boot script tells the agent: ``pxeboot.*`` words on the kernel command line (ARCHITECTURE §3)."""

from __future__ import annotations

import re
from typing import NamedTuple

from imaging.agent.errors import AgentError

MODES = ("task", "register-quick", "register-full")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


class BootParameters(NamedTuple):
    """The words of one boot: server URL, one-time token, server's Ed25519 public key, our MAC, mode and
    language.
    """

    url: str
    token: str
    key: bytes
    mac: str
    mode: str
    lang: str


def parse(cmdline: str) -> BootParameters:
    """Read ``pxeboot.url|token|key|mac|mode|lang`` from a kernel command line.

    Other words are ignored; the last of a repeated one counts, as in the kernel. Raises ``AgentError`` with
    code ``boot-parameters`` naming the first word that is missing or malformed.
    """
    words: dict[str, str] = {}
    for word in cmdline.split():
        name, equals, value = word.partition("=")
        if equals and name.startswith("pxeboot."):
            words[name.removeprefix("pxeboot.")] = value.strip('"')

    def need(name: str, valid: bool) -> str:
        if name not in words:
            raise AgentError("boot-parameters", f"The kernel command line lacks pxeboot.{name}.")
        if not valid:
            # The token is a secret and is never printed.
            shown = "" if name == "token" else f": {words[name]!r}"
            raise AgentError(
                "boot-parameters", f"pxeboot.{name} on the kernel command line is malformed{shown}."
            )
        return words[name]

    url = need("url", bool(re.fullmatch(r"https?://[^/\s]+/?", words.get("url", "")))).rstrip("/")
    token = need("token", bool(re.fullmatch(r"[A-Za-z0-9_-]{16,200}", words.get("token", ""))))
    key = need("key", bool(re.fullmatch(r"[0-9a-fA-F]{64}", words.get("key", ""))))
    words["mac"] = words["mac"].lower().replace("-", ":") if "mac" in words else ""
    if not words["mac"]:
        del words["mac"]
    mac = need("mac", bool(_MAC.fullmatch(words.get("mac", ""))))
    words.setdefault("mode", "task")
    mode = need("mode", words["mode"] in MODES)
    lang = words.get("lang", "en").lower()[:2]
    return BootParameters(url, token, bytes.fromhex(key), mac, mode, lang)
