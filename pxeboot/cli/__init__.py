"""The commands: `pxeboot <noun> <verb>`.

Exit status: 0 done, 1 failed, 2 usage, 3 partly failed, 4 not found, 5 conflict.
"""

from __future__ import annotations

import sys

from pxeboot.errors import AppError


def main() -> None:
    """Run the command line: the one place where an error becomes a line and an exit status."""
    from pxeboot.cli.app import app

    try:
        app()
    except AppError as error:
        print(f"pxeboot: {error.sentence}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("pxeboot: interrupted", file=sys.stderr)
        sys.exit(130)
