"""`python -m pxeboot.bootenv --dest DIR --cache DIR`: builds the boot environment by itself."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from pxeboot.bootenv import BootEnvError, build


def main() -> int:
    """Build and print a summary; exit status 1 with one sentence when that fails."""
    parser = argparse.ArgumentParser(prog="python -m pxeboot.bootenv", description=__doc__)
    parser.add_argument("--dest", type=Path, required=True, help="directory for the boot files")
    parser.add_argument("--cache", type=Path, required=True, help="directory for downloads and layers")
    parser.add_argument(
        "--refresh", action="store_true", help="take the newest packages although nothing changed"
    )
    options = parser.parse_args()
    began = time.monotonic()
    try:
        env = build(
            options.dest, options.cache, lambda text: print(f"{text} …", flush=True), refresh=options.refresh
        )
    except BootEnvError as error:
        print(error.sentence, file=sys.stderr)
        return error.exit_code
    for name, about in sorted(env.files.items()):
        print(f"{about.size / 1e6:8.1f} MB  {name}")
    print(f"{env.travelling_bytes / 1e6:8.1f} MB  travel to each machine (vmlinuz + initrd.img)")
    print(f"Linux {env.kernel_release}, {env.modules} modules, {env.unpacked_bytes / 1e6:.0f} MB in memory")
    for note in env.notes:
        print(f"Note: {note}")
    print(f"{'Built' if env.rebuilt else 'Up to date'} in {time.monotonic() - began:.1f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
