"""Copying chosen files out of a machine whose system no longer starts; nothing on its disks is changed."""
