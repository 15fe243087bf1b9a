"""`python -m pxeboot.cli`."""

from pxeboot.cli import main

main()
