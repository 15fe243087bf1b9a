"""The virtual room: namespaces, a bridge, machines under QEMU and simulated hosts, all on one Linux host.

Nothing in here ever binds to, or sends through, a real interface: the switch, the server, every machine and
every simulated host live in network namespaces of their own (see docs/lab.md).
"""
