"""Pure boot policy: what a machine boots now and why, which file starts that, and in which script it is said.

`decide` answers what and why, `chain` which boot file, `scripts` renders GRUB and iPXE. No clock, no socket,
no database: adapters bring the facts.
"""

from pxeboot.boot.decide import (
    BootDecision,
    BootPolicy,
    Client,
    ExamFacts,
    HostFacts,
    TaskFacts,
    decide,
)

__all__ = ["BootDecision", "BootPolicy", "Client", "ExamFacts", "HostFacts", "TaskFacts", "decide"]
