"""What is on a disk: its partition table, its file systems, and which of its bytes are in use."""
