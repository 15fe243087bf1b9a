"""Testing a machine without changing it: its memory, what its disks say of themselves, their surface."""
