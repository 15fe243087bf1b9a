"""Errors of the agent: each carries a stable code for programs and one sentence for people."""

from __future__ import annotations


class AgentError(Exception):
    """Something that ends what the agent was doing.

    ``code`` is stable, lower case with hyphens (listed in docs/agent.md); ``sentence`` says what happened in
    words, with the numbers. ``status`` is the HTTP status when the server said so, else 0.
    """

    def __init__(self, code: str, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.status = status
        self.tries = 1

    def __str__(self) -> str:
        return f"{self.sentence} ({self.code})"


class Cancelled(AgentError):
    """The server told us to stop (``continue: false``, or it no longer knows our task)."""

    def __init__(self, sentence: str, code: str = "cancelled") -> None:
        super().__init__(code, sentence)
