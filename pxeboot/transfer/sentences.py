"""The sentences that say why a transfer was slow, by code; `%(name)s` stands for a fact of the reason."""

from __future__ import annotations

from typing import Final


def N_(text: str) -> str:
    """Mark a text for translation where it stands in a table."""
    return text


SENTENCES: Final[dict[str, str]] = {
    "nothing": N_("Nothing held it back that we could see."),
    "by-multicast": N_(
        "By multicast from %(start)s to %(end)s: %(mbit)s Mbit/s on average, machines that took part: "
        "%(hosts)s."
    ),
    "by-http": N_(
        "By HTTP from %(start)s to %(end)s: %(mbit)s Mbit/s on average, machines that took part: %(hosts)s."
    ),
    "by-upload": N_(
        "Uploads from %(start)s to %(end)s: %(mbit)s Mbit/s on average, machines that took part: %(hosts)s."
    ),
    "limit-operation": N_("The limit of this operation, %(mbit)s Mbit/s, held from %(start)s to %(end)s."),
    "limit-time": N_(
        "The limit of the hours %(hours)s held from %(start)s to %(end)s: %(mbit)s Mbit/s were left."
    ),
    "limit-session": N_(
        "The highest rate of a session (multicast.rate_mbit), %(mbit)s Mbit/s, "
        "held from %(start)s to %(end)s."
    ),
    "link-full": N_(
        "The link %(interface)s carried %(percent)s %% of the %(capacity)s Mbit/s it may, "
        "from %(start)s to %(end)s."
    ),
    "link-shared": N_(
        "It shared %(interface)s with other transfers from %(start)s to %(end)s: "
        "%(mbit)s of %(capacity)s Mbit/s were its part."
    ),
    "receivers": N_(
        "From %(start)s to %(end)s it sent %(rate)s Mbit/s although %(mbit)s were free: "
        "receivers or network took no more."
    ),
    "server-restarted": N_("This server was started again at %(at)s."),
    "restarted": N_("The sender ended by itself at %(at)s and was started again."),
    "given-up": N_("The sender was given up at %(at)s: all went on over HTTP."),
    "limit-set": N_("At %(at)s %(who)s set the limit to %(mbit)s Mbit/s."),
    "limit-lifted": N_("At %(at)s %(who)s lifted the limit."),
    "unreadable": N_("Chunks that the store could not give: %(count)s."),
    "lossy": N_("%(host)s lost %(percent)s %% of the datagrams from %(start)s to %(end)s."),
    "lossy-left": N_(
        "%(host)s lost %(percent)s %% of the datagrams from %(start)s to %(end)s and left for HTTP."
    ),
    "lossy-peers": N_(
        "%(host)s lost %(percent)s %% of the datagrams from %(start)s to %(end)s and went on by its "
        "neighbours."
    ),
    "slow-disk": N_("The disk of %(host)s wrote %(speed)s MB/s: its buffers were full."),
    "slowest-disk": N_("The disk of %(host)s wrote %(speed)s MB/s, the slowest: its buffers were full."),
    "way-peers": N_("%(host)s took its chunks from its neighbours from %(at)s on: %(reason)s"),
    "way-http": N_("%(host)s took its chunks from the server over HTTP from %(at)s on: %(reason)s"),
    "more": N_("And %(count)s more machines like these."),
    "late": N_("%(host)s joined at %(at)s, %(minutes)s min after the first."),
    "silent": N_("%(host)s fell silent at %(at)s before it had everything."),
    "class-slow": N_("%(host)s was too slow for the others and was set apart at %(at)s."),
    "class-lost": N_("%(host)s lost too much and was given up by the stream at %(at)s."),
    # Of a machine now, below its name.
    "now-lost": N_("It lost too much: HTTP brings it the rest."),
    "now-disk": N_("Its disk writes %(speed)s MB/s: its buffers fill up."),
    "now-loss": N_("It loses %(percent)s %% of the datagrams."),
    "now-slow": N_("It is slower than the others: it is served after them."),
}
