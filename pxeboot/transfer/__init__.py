"""What the server sends, as pure functions: who may send how fast, until when, and why it took so long."""
