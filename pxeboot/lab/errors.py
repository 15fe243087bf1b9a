"""What can go wrong in the virtual room, each with one clear sentence."""


class LabError(Exception):
    """The room, a machine or the reference guest could not do what was asked; the sentence says why."""


class ConsoleTimeout(LabError):
    """A machine's serial console did not show what was expected in time; carries the last lines it did
    show.
    """


class ToolMissing(LabError):
    """A program the lab needs is not installed; names the program and its Debian package."""
