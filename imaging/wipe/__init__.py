"""Wiping disks: what each can do (``abilities``), doing it (``erase``), showing it (``proof``)."""
