"""Entries of the contract that this version does not measure: named, so that nobody takes them for done."""

from tests.bench.harness import Entry

ENTRIES = (
    Entry("api_20k_hosts", "ms", lower=True),
    Entry("agents_1000", "ms", lower=True),
)
