"""The program that runs on the machine being imaged: in the boot environment, and in simulated hosts.

It checks in with the one-time token of its boot, is told what to do (register, capture, deploy, inventory),
does it, reports the outcome and leaves. It imports ``imaging``, the standard library, ``zstandard`` and
``blake3`` and nothing else, and imports late: under emulation every module costs a visible moment.
"""

VERSION = "0.1.0"
