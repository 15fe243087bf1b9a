"""What is being sent, as people read it: small curves, times that are left, limits and reasons."""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from pxeboot.services.transfer_views import HostFiguresView, ReasonView
from pxeboot.services.views import TaskView
from webui.agent_words import reworded
from webui.words import N_, translated

WAYS = {"multicast": "multicast", "peers": N_("neighbours"), "http": "HTTP", "upload": N_("uploads"), "": ""}
GRADES = {"healthy": "", "slow": N_("slow"), "lost": N_("lost"), "": ""}
BOUNDS = {
    "demand": N_("as fast as it can be taken"),
    "session": N_("held by multicast.rate_mbit"),
    "operation": N_("held by the limit of this operation"),
    "time": N_("held by the limit of this time of day"),
    "interface": N_("its part of the link"),
}
PRIORITIES = {"low": N_("low"), "normal": N_("normal"), "high": N_("high")}
SPARK_WIDTH, SPARK_HEIGHT = 80, 16


def spark(values: Sequence[float]) -> str:
    """The points of a curve as SVG takes them, newest at the right; "" for less than two values."""
    if len(values) < 2:
        return ""
    top, step = max(*values, 1.0), SPARK_WIDTH / (len(values) - 1)
    return " ".join(
        f"{n * step:.1f},{SPARK_HEIGHT - 1 - (SPARK_HEIGHT - 2) * value / top:.1f}"
        for n, value in enumerate(values)
    )


def left(seconds: int | None) -> str:
    """`45 s`, `12 min`, `1 h 05 min`; "" when nobody can say."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def by_host(hosts: Sequence[HostFiguresView]) -> dict[str, HostFiguresView]:
    """Figures by the name of their machine."""
    return {one.host: one for one in hosts}


@pass_context
def received(context: Context, task: TaskView) -> list[tuple[str, int]]:
    """By which ways a machine took in how many bytes; the way it goes now also when nothing came yet."""
    bytes_by = {"multicast": task.bytes_multicast, "peers": task.bytes_peers, "http": task.bytes_http}
    now = "" if task.finished_at else task.way
    return [(translated(context, WAYS, way), size) for way, size in bytes_by.items() if size or way == now]


@pass_context
def agent_text(context: Context, sentence: str) -> str:
    """What an agent said, in the reader's language."""
    return reworded(sentence, str(context["language"]))


@pass_context
def reason_text(context: Context, reason: ReasonView) -> Markup:
    """A reason in the reader's language; one may hold what an agent said."""
    facts = dict(reason.facts)
    if "reason" in facts:
        facts["reason"] = reworded(str(facts["reason"]), str(context["language"]))
    return context["_"](reason.template, **facts)  # type: ignore[no-any-return]  # escaped already


@pass_context
def bound_text(context: Context, value: str) -> str:
    """Which limit a stream met."""
    return translated(context, BOUNDS, value)


@pass_context
def grade_text(context: Context, value: str) -> str:
    """What class a receiver is in, when that is worth a word."""
    return translated(context, GRADES, value)


@pass_context
def priority_text(context: Context, value: str) -> str:
    """A priority."""
    return translated(context, PRIORITIES, value)


@pass_context
def stream_text(context: Context, value: str) -> str:
    """By which way something goes, in a word."""
    return translated(context, WAYS, value)


FILTERS = {
    "spark": spark,
    "by_host": by_host,
    "received": received,
    "agent_text": agent_text,
    "time_left": left,
    "reason_text": reason_text,
    "bound_text": bound_text,
    "grade_text": grade_text,
    "priority_text": priority_text,
    "stream_text": stream_text,
}
