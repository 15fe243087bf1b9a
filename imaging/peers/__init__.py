"""Hosts that give each other the chunks of an image: who has what, what to ask whom, and the two HTTP ends.

``choose`` and ``tracker`` are pure cores (state and ``now`` in, decisions out); ``news`` is what travels;
``stock`` keeps what a host can give; ``serve`` and ``client`` are the shells. The protocol is written down in
docs/peers.md.
"""
