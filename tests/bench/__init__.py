"""Measurements beside peers, on the same machine in the same run: `make bench`, docs/benchmarks.md."""
