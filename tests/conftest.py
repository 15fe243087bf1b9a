"""For every test: the guard that fails whoever opens a socket to the outside (tests/guard.py), and how
Hypothesis draws.

The same examples each time and no time limit for one: a test must not depend on how busy the machine is.
`make fuzz` draws others.
"""

import os

from hypothesis import HealthCheck, settings

from tests.guard import no_socket_outside, pytest_configure, pytest_unconfigure

__all__ = ["no_socket_outside", "pytest_configure", "pytest_unconfigure"]

settings.register_profile(
    "calm",
    deadline=None,
    derandomize="PXEBOOT_FUZZ" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("calm")
