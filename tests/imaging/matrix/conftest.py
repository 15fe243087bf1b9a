"""A server with its store and the agent, as the agent's own tests have them."""

from tests.imaging.agent.conftest import english, room, run_agent

__all__ = ["english", "room", "run_agent"]
