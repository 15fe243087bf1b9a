"""For every test: the guard that fails whoever opens a socket to the outside (tests/guard.py)."""

from tests.guard import no_socket_outside, pytest_configure, pytest_unconfigure

__all__ = ["no_socket_outside", "pytest_configure", "pytest_unconfigure"]
