"""Why does it not boot? Checks of this machine and its network, each finding with what to do about it.

`checks.run(site)` runs them; a module holds one subject: a core that judges facts, and a small shell that
collects them. No database, no HTTP of ours: it works without the daemon, and beside a running one.
"""
