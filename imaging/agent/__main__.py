"""``python3 -m imaging.agent``: see ``main``."""

import sys

from imaging.agent.main import main

if __name__ == "__main__":
    sys.exit(main())
