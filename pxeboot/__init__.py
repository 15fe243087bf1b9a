"""The appliance: what each machine should do, and the one place where all is wired."""

__version__ = "0.1.0"
