"""`python -m pxeboot`."""

from pxeboot.cli import main

main()
