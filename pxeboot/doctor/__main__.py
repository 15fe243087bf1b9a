"""The checks as a process of their own, for the daemon: `python -m pxeboot.doctor [NAME…]`.

Settings as JSON on standard input, findings as JSON on standard output. A daemon at work must not share its
processor time with the hashing of a boot environment.
"""

from __future__ import annotations

import json
import sys

from pxeboot.doctor import checks
from pxeboot.doctor.interface import site_here
from pxeboot.settings import Settings


def main() -> int:
    """0: they were run, whatever they found."""
    site = site_here(Settings.model_validate(json.load(sys.stdin)))
    json.dump([finding.to_dict() for finding in checks.run(site, sys.argv[1:])], sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
