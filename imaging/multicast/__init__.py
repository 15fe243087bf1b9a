"""Multicast of image chunks: receivers say what they lack, one sender sweeps over the union of it.

`wire`, `ranges`, `pacer`, `sender` and `receiver` are cores (bytes and `now` in, bytes and events out);
`udp`, `thread` and `send` are shells. The protocol is described in docs/multicast-protocol.md.
"""
