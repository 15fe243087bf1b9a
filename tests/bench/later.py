"""Entries of the contract that this version does not measure: named, so that nobody takes them for done."""

from tests.bench.harness import Entry

ENTRIES = (
    Entry("peers_vs_http", "× the server alone", goal=3),
    Entry("api_20k_hosts", "ms", lower=True),
    Entry("agents_1000", "ms", lower=True),
)
